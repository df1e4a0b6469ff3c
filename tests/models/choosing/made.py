"""Evidence made by hand: a stack whose throughput and latencies follow from the users at once."""

from __future__ import annotations

from models.choosing.evidence import Curve, Evidence, Machine, Point, PriceOf, Stack
from models.planning import curves
from models.planning.points import point
from models.planning.priors import CurveQuantity

QUANTITIES: tuple[CurveQuantity, ...] = ("throughput", "tpot", "ttft")
MACHINE = Machine(hardware_id="h1", name="box", kind="cpu", cores=2)


def stack(name: str, kl_nats: float | None = None, hardware_id: str = "h1") -> Stack:
    return Stack(setup_id=f"setup-{name}", setup=f"engine {name}", model="m-8b", engine="engine", engine_version="1",
                 quantization=name, hardware_id=hardware_id, kl_nats=kl_nats)


def at(users: int, alone_ms: float, each_ms: float, inputs: float, outputs: float, trial: str, fatal: bool = False,
       rate: float | None = None, spread: float = 0.1) -> Point:
    """TPOT grows by each_ms a user, TTFT is 0.2 ms an input token and grows likewise; Little's law gives the rate."""
    tpot = alone_ms + each_ms * (users - 1)
    ttft = 0.2 * inputs * (1 + 0.1 * (users - 1))
    per_second = users / ((ttft + (outputs - 1) * tpot) / 1e3)
    values = {"ttft_from_schedule_ms_mean": ttft, "ttft_from_schedule_ms_p95": 1.5 * ttft, "tpot_ms_mean": tpot,
              "tpot_ms_p95": 1.25 * tpot, "ttft_ms_mean": ttft}
    wide = per_second * (1 - spread), per_second * (1 + spread)
    return Point(trial_id=trial, concurrency=None if rate else users, request_rate=rate,
                 requests_per_second=per_second, input_tokens=inputs,
                 output_tokens=outputs, values=values, fatal=fatal, trust="engine_died" if fatal else "ok",
                 intervals={"requests_per_second": wide})


def curve(of: Stack, users: tuple[int, ...] = (1, 4, 16), alone_ms: float = 10.0, each_ms: float = 1.0,
          inputs: float = 200.0, outputs: float = 50.0, workload: str = "chat", fitted: bool = True) -> Curve:
    points = tuple(at(c, alone_ms, each_ms, inputs, outputs, f"{of.quantization}-{workload}-{c}") for c in users)
    made = [point(p.concurrency or 1, p.values["ttft_ms_mean"], p.values["tpot_ms_mean"], outputs,
                  (p.requests_per_second or 0.0) * outputs) for p in points]
    fits = {q: curves.fit(made, q).model_dump_json() for q in QUANTITIES} if fitted else {}
    return Curve(stack=of, workload=workload, workload_name=workload, points=points, fits_json=fits)


def evidence(*known: Curve, usd_per_hour: float = 1.0) -> Evidence:
    price = PriceOf(hardware_id="h1", price_usd_per_hour=usd_per_hour, tier="own", date="2026-11", source="tests")
    return Evidence(models={"m-8b": 8_000_000_000}, workloads={c.workload: c.workload_name for c in known},
                    machines=(MACHINE,), curves=known, prices=(price,))
