"""A measured stack as plans need it: its load levels, its mean request, its hardware, what it draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.errors import UserError
from models.hardware import accelerators, lookup
from models.planning import capacity
from models.planning.capacity import Bandwidth, Impossible, LoadPoint, Served
from models.planning.cost import Request
from models.planning.kv import KV_BYTES
from models.planning.points import Slots
from models.planning.roofline import kv_read_bytes
from models.slo import Limit
from models.specs import Architecture, HardwareSpec
from warehouse import reader


@dataclass(frozen=True)
class Stack:
    """Rows of the view `measurements` of one setup and workload; `trial` is the row that was named, if one was."""

    rows: list[dict[str, Any]]
    trial: dict[str, Any] | None
    hardware: HardwareSpec
    reads: Bandwidth | None

    @property
    def label(self) -> str:
        first = self.rows[0]
        return f"{first['model']} on {first['hardware']}: {first['setup']} · {first['workload']}"

    def points(self, limits: Sequence[Limit] = ()) -> list[LoadPoint]:
        """Its closed loops that can be trusted."""
        return [p for row in self.rows if (p := capacity.load_point(row, limits))]

    def levels(self, limits: Sequence[Limit]) -> list[Served] | Impossible:
        """What one instance serves: of the trial named, else of the setup within the limits."""
        if self.trial is None:
            return capacity.levels(self.points(limits), limits, self.reads, Slots.of(self.rows[0]))
        row = self.trial
        rate, users = row["requests_per_second"], row["concurrency"]
        if not rate:
            raise UserError(f"trial {row['trial_id']}: nothing was answered")
        if users and (alone := capacity.load_point(row, ())):
            found = capacity.levels([alone], (), self.reads)
            return found if isinstance(found, Impossible) else [
                one.model_copy(update={"how": one.how.partition(";")[0]}) for one in found]
        return [Served(level="measured", requests_per_second=rate, concurrency=0, how=f"at {row['load']}")]

    @property
    def request(self) -> Request:
        """The mean request, as it was measured; cached tokens are what the engine took from its prefix cache."""
        rows = [self.trial] if self.trial else [r for r in self.rows if not r["fatal"]] or self.rows
        seen = [r for r in rows if r["output_tokens_mean"]]
        if not seen:
            raise UserError(f"{self.label}: nothing was answered")
        cached = sum(r["cached_tokens"] or 0 for r in seen) / max(1, sum(r["requests_ok"] for r in seen))
        inputs, outputs = (sum(r[f"{side}_tokens_mean"] or 0.0 for r in seen) / len(seen)
                           for side in ("input", "output"))
        return Request(input_tokens=inputs, output_tokens=outputs, cached_tokens=min(cached, inputs))

    @property
    def alone(self) -> LoadPoint | None:
        """Its quietest level: what a request takes with the fewest others."""
        return min(self.points(), key=lambda p: p.concurrency, default=None)

    @property
    def power_w(self) -> tuple[float, str] | None:
        """Watts of an instance and where they come from: metered, else the accelerators' spec sheet."""
        metered = [r["power_watts_mean"] for r in ([self.trial] if self.trial else self.rows) if r["power_watts_mean"]]
        if metered:
            return max(metered), "metered while it was measured"
        sheet = lookup(self.hardware.accelerator, accelerators()) if self.hardware.accelerator else None
        if sheet is None or sheet.power_w is None:
            return None
        return sheet.power_w * self.hardware.accelerators, f"the most that {sheet.name} may draw ({sheet.source})"


def find(home: Path, which: str, workload: str | None) -> Stack:
    """Finds a trial or setup by the start of its id. Raises UserError when none or several match, with the way out."""
    rows = reader.query(home, """from measurements where starts_with(trial_id, ?1) or starts_with(setup_id, ?1)
                                 order by concurrency""", [which.strip().lower()]).to_dicts()
    if not which.strip() or not rows:
        raise UserError(f"no trial or setup begins with {which!r}; `dyno runs --json` lists what was measured with both"
                        " ids")
    trials = [r for r in rows if r["trial_id"].startswith(which.strip().lower())]
    if len(trials) == 1:
        others = reader.query(home, "from measurements where setup_id = ? and workload_id = ? order by concurrency",
                              [trials[0]["setup_id"], trials[0]["workload_id"]]).to_dicts()
        return _stack(home, others, trials[0])
    if len({r["setup_id"] for r in rows}) > 1 or trials:
        raise UserError(f"{which!r} is the start of {len(rows)} trials and {len({r['setup_id'] for r in rows})} setups:"
                        " give more of the id")
    names = sorted({r["workload"] for r in rows})
    if workload is None and len(names) > 1:
        raise UserError(f"setup {which} was measured with several workloads: name one with --workload"
                        f" ({', '.join(names)})")
    mine = [r for r in rows if workload in (None, r["workload"], r["workload_name"])]
    if not mine:
        raise UserError(f"workload {workload!r}: setup {which} was measured with {', '.join(names)}")
    return _stack(home, mine, None)


def _stack(home: Path, rows: list[dict[str, Any]], trial: dict[str, Any] | None) -> Stack:
    setup = reader.bundle_of(home, rows[0]["trial_id"]).measurement.trial.setup
    return Stack(rows, trial, setup.hardware, reads(rows, setup.model.architecture))


def reads(rows: list[dict[str, Any]], shape: Architecture | None) -> Bandwidth | None:
    """None where the weights' bytes or the bandwidth are not known. On a machine with GPUs the spec sheet's bandwidth
    counts, on all that share the model."""
    first = rows[0]
    accelerator = first["accelerator"]
    weights = first["weights_bytes"] or first["model_bytes"]
    sheet = lookup(accelerator, accelerators()) if accelerator else None
    speed = (sheet.memory_bandwidth_bytes_per_s * (first["tensor_parallel"] or 1) if sheet
             else (first["memory_bandwidth_gb_s"] or 0.0) * 1e9 if not accelerator else 0.0)
    if not weights or not speed:
        return None
    kv = 0.0
    if shape is not None and str(first["kv_type"]).lower() in KV_BYTES:
        tokens = (first["input_tokens_mean"] or 0.0) + (first["output_tokens_mean"] or 0.0) / 2
        kv = kv_read_bytes(shape, tokens, first["kv_type"])
    return Bandwidth(weight_bytes=weights, kv_bytes_per_sequence=kv, bytes_per_s=speed)

