"""The columns of the frames that travel between the instrument, the bundle and the warehouse.

All `_ns` columns are nanoseconds of the monotonic clock since the run's start (t = 0), whose wall-clock anchor is the
measurement's `started_at`. `chunk_ns` are nanoseconds since the request's own `sent_ns`, one entry for every chunk that
carried output, in order.
"""

from __future__ import annotations

import polars as pl

PHASES = ("warmup", "measured", "tail")
"""warmup: before; measured: counted; tail: keeps the load up until the last measured request has ended."""

OUTCOMES = (
    "ok",                # whole stream, finish reason seen
    "truncated",         # stream ended without a finish reason or terminator
    "error_event",       # an error event inside a 200 stream
    "http_400", "http_401", "http_404", "http_422", "http_429", "http_4xx", "http_5xx",
    "refused",           # no connection
    "reset",             # connection lost in mid-answer
    "timeout",           # deadline passed
    "malformed",         # not the API it should be
    "cancelled",         # ended by the instrument (tail requests)
    "unsent",            # the run ended before its turn came
)

TOKEN_SOURCES = ("usage", "finish_length", "chunks")
"""How output_tokens was known: the engine's usage; finish reason `length`, so exactly what was asked; or counted."""

REQUESTS: dict[str, pl.DataType] = {
    "request_index": pl.Int32(),
    "session": pl.Int32(),
    "turn": pl.Int32(),
    "phase": pl.String(),
    "input_tokens_planned": pl.Int32(),
    "output_tokens_planned": pl.Int32(),
    "input_tokens": pl.Int32(),              # from usage; null when the engine does not say
    "cached_tokens": pl.Int32(),             # prompt tokens the engine took from its prefix cache; null = not said
    "output_tokens": pl.Int32(),
    "output_tokens_source": pl.String(),
    "planned_ns": pl.Int64(),                # when it was meant to be sent
    "sent_ns": pl.Int64(),
    "first_byte_ns": pl.Int64(),
    "first_reasoning_ns": pl.Int64(),
    "first_content_ns": pl.Int64(),
    "first_token_ns": pl.Int64(),            # the earlier of the two
    "last_token_ns": pl.Int64(),
    "done_ns": pl.Int64(),
    "outcome": pl.String(),
    "http_status": pl.Int16(),
    "finish_reason": pl.String(),
    "output_valid": pl.Boolean(),            # obeys the schema, or calls a tool as it should; null = nothing to check
    "error": pl.String(),
    "chunk_ns": pl.List(pl.Int64()),
}

TELEMETRY: dict[str, pl.DataType] = {
    "at_ns": pl.Int64(),                     # since the run's start
    "source": pl.String(),                   # host | engine | client | gpu0… | gauges
    "metric": pl.String(),                   # cpu_percent, rss_bytes, requests_running, …
    "value": pl.Float64(),
}

DISTRIBUTIONS: dict[str, pl.DataType] = {
    "numerics_id": pl.String(),              # of the setup that told (models.specs.Setup)
    "text_id": pl.String(),                  # of the prefixes (models.records.Asked)
    "position": pl.Int32(),
    "rank": pl.Int32(),                      # from 0, the likeliest
    "token_id": pl.Int32(),                  # null where an engine tells no ids
    "token": pl.String(),                    # its text; null where an engine tells ids only
    "logprob": pl.Float32(),                 # natural logarithm, before any sampling setting
}


def empty(schema: dict[str, pl.DataType]) -> pl.DataFrame:
    """An empty frame of a schema."""
    return pl.DataFrame(schema=schema)
