"""Does the data obey physics? Three checks that a CPU engine's figures must pass, each said in a sentence.

A check that does not hold means that the measurement is wrong until somebody knows why.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from models.specs import Record
from models.throughput import bandwidth_bound_tpot_ms, effective_bandwidth_gb_s

Row = Mapping[str, object]

TIE_SHARE = 0.05        # TPOTs closer than this are not told apart
IMPOSSIBLE_SHARE = 0.10  # reading faster than the memory by this much cannot be
QUEUE_SHARE = 0.35      # a queue's TTFT may miss "one request's time each" by so much
BATCHING_GAIN = 1.15    # above it, batching gained


class Finding(Record):
    """One check: whether the data obey, depart for a reason that they show themselves, or contradict it."""

    name: str
    verdict: Literal["obeys", "explained", "contradicts"]
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
    """Decode reads every weight once a token, so TPOT at concurrency 1 falls with the bytes of the weights, unless
    unpacking a small format costs more arithmetic than its reading saves."""
    for workload in _workloads(rows):
        points = [r for r in _select(rows, workload=workload, concurrency=1, max_sequences=1, variant="llama-server")
                  if _number(r, "model_bytes") and _number(r, "tpot_ms_p50")]
        points.sort(key=lambda r: -(_number(r, "model_bytes") or 0))
        if len(points) > 1:
            yield _bandwidth_finding(str(workload), [_Read.of(r) for r in points], bandwidth_gb_s)


@dataclass(frozen=True)
class _Read:
    name: str
    size: float
    tpot_ms: float

    @classmethod
    def of(cls, row: Row) -> _Read:
        return cls(str(row["quantization"]), _number(row, "model_bytes") or 0.0, _number(row, "tpot_ms_p50") or 0.0)

    @property
    def gb_s(self) -> float:
        return effective_bandwidth_gb_s(self.size, self.tpot_ms)


def _bandwidth_finding(workload: str, reads: list[_Read], bandwidth_gb_s: float | None) -> Finding:
    late = [b for a, b in pairwise(reads) if b.tpot_ms > a.tpot_ms * (1 + TIE_SHARE)]
    fastest = max(reads, key=lambda r: r.gb_s)
    listed = ", ".join(f"{r.name} {r.size / 1e6:.0f} MB {r.tpot_ms:.2f} ms ({r.gb_s:.1f} GB/s)" for r in reads)
    falls = "does not fall" if late else "falls"
    text = f"{workload}: TPOT at 1 at once {falls} with the bytes of the weights: {listed}"
    for read in late:
        bound = bandwidth_bound_tpot_ms(read.size, fastest.gb_s)
        text += (f"; at the {fastest.gb_s:.1f} GB/s that {fastest.name} reached, {read.name} would need {bound:.2f} ms"
                 f" to read: the other {read.tpot_ms - bound:.2f} ms are arithmetic, it is compute-bound here")
    impossible = bandwidth_gb_s is not None and fastest.gb_s > bandwidth_gb_s * (1 + IMPOSSIBLE_SHARE)
    if bandwidth_gb_s is not None:
        text += f"; a plain read on all cores of this machine reaches {bandwidth_gb_s:.1f} GB/s"
    if impossible:
        text += ", less than that: the weights stayed in a cache, or the machine was busy when that was measured"
    return Finding(name="bandwidth", text=text,
                   verdict="contradicts" if impossible else "explained" if late else "obeys")


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
        yield Finding(name="batching", verdict="obeys" if all(g > 0.9 for _, g in gains) else "contradicts",
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
            yield Finding(name="queueing", verdict="obeys" if holds else "contradicts",
                          text=f"{workload}: llama_cpp.server {quantization} answers one request at a time"
                               f" ({single:.0f} ms), so mean TTFT is {', '.join(parts)}")
