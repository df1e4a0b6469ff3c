"""Does the data obey physics? Three checks that a CPU engine's figures must pass, each said in a sentence.

A check that does not hold means that the measurement is wrong until somebody knows why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from models.specs import Record
from models.throughput import bandwidth_bound_tpot_ms, effective_bandwidth_gb_s

Row = Mapping[str, object]

TIE_SHARE = 0.05        # TPOTs closer than this are not told apart
QUEUE_SHARE = 0.35      # a queue's TTFT may miss "one request's time each" by so much
BATCHING_GAIN = 1.15    # above it, batching gained


class Finding(Record):
    """One check: whether the data obeys, and what they say."""

    name: str
    holds: bool
    text: str


def findings(rows: Sequence[Row], bandwidth_gb_s: float | None) -> list[Finding]:
    """Checks rows of the `measurements` view: bytes a weight, batching gain, queueing. Silent where data lack."""
    return [*_bandwidth(rows, bandwidth_gb_s), *_batching(rows), *_queueing(rows)]


def _number(row: Row, name: str) -> float | None:
    value = row.get(name)
    return float(value) if isinstance(value, int | float) else None


def _select(rows: Sequence[Row], **equal: object) -> list[Row]:
    return [r for r in rows if all(r.get(k) == v for k, v in equal.items())]


def _workloads(rows: Sequence[Row]) -> list[object]:
    return list(dict.fromkeys(r["workload"] for r in rows))


def _bandwidth(rows: Sequence[Row], bandwidth_gb_s: float | None) -> Iterator[Finding]:
    """Decode reads every weight once a token, so TPOT at concurrency 1 falls with the bytes of the weights."""
    for workload in _workloads(rows):
        points = [r for r in _select(rows, workload=workload, concurrency=1, max_sequences=1, variant="llama-server")
                  if _number(r, "model_bytes") and _number(r, "tpot_ms_p50")]
        points.sort(key=lambda r: -(_number(r, "model_bytes") or 0))
        if len(points) < 2:
            continue
        times = [_number(r, "tpot_ms_p50") or 0.0 for r in points]
        holds = all(b <= a * (1 + TIE_SHARE) for a, b in pairwise(times))
        parts = []
        for row, tpot in zip(points, times, strict=True):
            size = _number(row, "model_bytes") or 0.0
            parts.append(f"{row['quantization']} {size / 1e6:.0f} MB {tpot:.2f} ms"
                         f" ({effective_bandwidth_gb_s(size, tpot):.1f} GB/s)")
        text = f"{workload}: TPOT at 1 at once falls with the bytes of the weights: {', '.join(parts)}"
        if bandwidth_gb_s:
            bound = bandwidth_bound_tpot_ms(_number(points[0], "model_bytes") or 0.0, bandwidth_gb_s)
            text += (f"; this machine reads {bandwidth_gb_s:.1f} GB/s, so {points[0]['quantization']} cannot be faster"
                     f" than {bound:.2f} ms")
            holds = holds and times[0] >= bound * (1 - TIE_SHARE)
        yield Finding(name="bandwidth", holds=holds, text=text)


def _batching(rows: Sequence[Row]) -> Iterator[Finding]:
    """Decoding together reads the weights once for all: bandwidth-bound formats gain, compute-bound ones hardly do."""
    for workload in _workloads(rows):
        gains: list[tuple[str, float]] = []
        at_four = _select(rows, workload=workload, concurrency=4, variant="llama-server")
        for one in _select(at_four, max_sequences=1):
            for four in _select(at_four, max_sequences=4, quantization=one["quantization"]):
                slow, fast = (_number(r, "output_tokens_per_second") for r in (one, four))
                if slow and fast:
                    gains.append((str(one["quantization"]), fast / slow))
        if not gains:
            continue
        listed = ", ".join(f"{name} ×{gain:.2f}" for name, gain in gains)
        gained = [name for name, gain in gains if gain >= BATCHING_GAIN]
        flat = [name for name, gain in gains if gain < BATCHING_GAIN]
        why = []
        if gained:
            why.append(f"{', '.join(gained)} read the weights once for four sequences")
        if flat:
            why.append(f"{', '.join(flat)} already compute as fast as these cores can")
        yield Finding(name="batching", holds=all(gain > 0.9 for _, gain in gains),
                      text=f"{workload}: 4 slots against 1 at 4 at once: {listed} ({'; '.join(why)})")


def _queueing(rows: Sequence[Row]) -> Iterator[Finding]:
    """A server that runs requests one after another: TTFT grows by one request's time for each one ahead."""
    for workload in _workloads(rows):
        points = _select(rows, workload=workload, variant="llama_cpp.server")
        for quantization in dict.fromkeys(r["quantization"] for r in points):
            curve = {int(c): r for r in _select(points, quantization=quantization)
                     if (c := _number(r, "concurrency")) is not None}
            single = _number(curve.get(1, {}), "e2e_ms_mean")
            first = _number(curve.get(1, {}), "ttft_ms_mean")
            if not single or first is None or len(curve) < 2:
                continue
            parts, holds = [], True
            for users in sorted(c for c in curve if c > 1):
                got, due = _number(curve[users], "ttft_ms_mean") or 0.0, first + (users - 1) * single
                holds = holds and abs(got / due - 1) <= QUEUE_SHARE
                parts.append(f"{users} at once {got:.0f} ms (a queue of {users - 1}: {due:.0f})")
            yield Finding(name="queueing", holds=holds, text=f"{workload}: llama_cpp.server {quantization} answers one"
                          f" request at a time ({single:.0f} ms), so mean TTFT is {', '.join(parts)}")
