"""Traces of requests that were really made, replayed: their lengths, gaps and shared prompt blocks.

The file is laid out on a line without ends. A position on it is a request: 0 is the file's first; after its last comes
the first again, a lap later; before its first comes the last. Laps are apart as requests are on average.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from models.errors import UserError
from models.specs import Lengths, Trace, Workload
from workloads.trace_files import parse

Ints = npt.NDArray[np.int64]

BLOCK_SIZES = (512, 16, 32, 64, 128, 256, 1024, 2048)
BLOCKS_AGREE = 0.9
"""Least share of the prompts with hashes whose number of them fits a block size."""


def read(path: str | Path) -> tuple[Trace, pl.DataFrame]:
    """Returns what identifies a trace, and its requests: at_ns since the first, input_tokens, output_tokens, hash_ids
    (of prompt blocks; equal ones begin prompts alike; null where the file says none).

    Raises UserError naming file, line and column, and the way out.
    """
    path = Path(path).expanduser().absolute()
    data, kind, table = parse(path)
    span_s = table["at_ns"][-1] / 1e9
    if not span_s:
        raise UserError(f"{path}: all requests come at one instant, so they have no rate: give them their times")
    return Trace(path=str(path), sha256=hashlib.sha256(data).hexdigest(), format=kind, requests=table.height,
                 request_rate=(table.height - 1) / span_s, block_tokens=_block_tokens(table)), table


def rows(trace: Trace) -> pl.DataFrame:
    """Returns the requests of a known trace. Raises UserError when its file is gone, bad, or no longer the same."""
    found, table = read(trace.path)
    if found.sha256 != trace.sha256:
        raise UserError(f"{trace.path}: the file has changed since this was planned (SHA-256 {found.sha256[:12]}…, not"
                        f" {trace.sha256[:12]}…): put the old one back, or name this one anew")
    return table


def _block_tokens(table: pl.DataFrame) -> int:
    """Returns the size of a block: a prompt has one hash for each begun block of it. Where few prompts agree on one,
    or many would do, it is Mooncake's."""
    hashed = table.filter(pl.col("hash_ids").is_not_null())
    hashes, tokens = hashed["hash_ids"].list.len().to_numpy(), hashed["input_tokens"].to_numpy()
    agree = [int((-(-tokens // size) == hashes).sum()) for size in BLOCK_SIZES]
    return BLOCK_SIZES[agree.index(max(agree)) if max(agree) >= BLOCKS_AGREE * len(hashes) else 0]


def workload(path: str | Path, **fields: object) -> Workload:
    """Returns the workload that replays a trace, named after its file unless `fields` say otherwise. Its lengths are
    the trace's; input_tokens and output_tokens describe them as lognormal. Raises UserError, and ValidationError for
    what `fields` get wrong.
    """
    trace, table = read(path)
    about = {"name": Path(path).stem, "description": "requests of a trace, in its order", "trace": trace,
             "source": f"{Path(path).name}: {trace.format} trace of {trace.requests} requests",
             "input_tokens": _described(table["input_tokens"]), "output_tokens": _described(table["output_tokens"])}
    return Workload.model_validate({**about, **fields})


def _described(tokens: pl.Series) -> Lengths:
    values = tokens.to_numpy()
    logs = np.log(values)
    return Lengths(distribution="lognormal", mu=round(float(logs.mean()), 2), sigma=round(float(logs.std()), 2),
                   min=int(values.min()), max=int(values.max()))


def lengths(table: pl.DataFrame, workload: Workload, first: int, count: int) -> tuple[Ints, Ints]:
    """Returns prompt and answer tokens of `count` requests from position `first` on, scaled; at least one each."""
    _, row = _places(table, first, count)
    new, out = (np.maximum(1, np.rint(table[side].to_numpy()[row] * scale)).astype(np.int64) for side, scale in (
        ("input_tokens", workload.input_scale), ("output_tokens", workload.output_scale)))
    return new, out


def offsets_ns(table: pl.DataFrame, rate: float, first: int, count: int) -> Ints:
    """Returns when `count` requests from position `first` on are due, in ns since the first of them: with the trace's
    gaps, stretched to `rate` requests a second over the whole trace, in whole microseconds."""
    lap, row = _places(table, first, count)
    at_ns = table["at_ns"].to_numpy()
    gaps = table.height - 1
    lap_ns = round(int(at_ns[-1]) * table.height / gaps)
    since_ns = lap * lap_ns + at_ns[row]
    stretch = 1e9 * gaps / (int(at_ns[-1]) * rate)
    return np.asarray(np.rint((since_ns - since_ns[:1]) * (stretch / 1000)), np.int64) * 1000


def blocks(table: pl.DataFrame, first: int, count: int) -> pl.Series:
    """Returns the prompt blocks of `count` requests from position `first` on, numbered from 0.

    A block of one lap is none of another's: replaying the file again asks new questions, which share as the old did.
    """
    lap, row = _places(table, first, count)
    ids = table["hash_ids"].gather(row).fill_null([])
    sizes = ids.list.len().to_numpy().astype(np.int64)
    known, inverse = np.unique(ids.explode().drop_nulls().to_numpy(), return_inverse=True)
    _, numbers = np.unique((lap - lap[:1]).repeat(sizes) * len(known) + inverse, return_inverse=True)
    import pyarrow as pa  # 40 ms, for traces only

    listed = pa.LargeListArray.from_arrays(np.concatenate([[0], np.cumsum(sizes)]), numbers.astype(np.int64))
    return pl.Series("blocks", listed, dtype=pl.List(pl.Int64()))


def _places(table: pl.DataFrame, first: int, count: int) -> tuple[Ints, Ints]:
    """Returns lap and row of each position."""
    lap, row = np.divmod(np.arange(first, first + count, dtype=np.int64), table.height)
    return lap, row
