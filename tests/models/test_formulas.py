"""The mission's rough formulas exactly as stated, and the exact ones beside them."""

from __future__ import annotations

import pytest

from models import concurrency, cost, memory, physics, planner, prices, slo, throughput
from models.errors import UserError
from models.specs import Architecture, HardwareSpec

SHAPE = Architecture(layers=12, hidden_size=768, heads=12, kv_heads=12, head_dim=64, intermediate_size=2048,
                     vocabulary=32000, parameters=109_529_856, context_tokens=2048)


def test_rough_memory() -> None:
    assert memory.rough_requests_bytes(8, 1000, 4096) == 8 * 1000 * 4096 * 4
    assert memory.rough_kv_bytes(8, 1000, 4096) == 8 * 1000 * 4096 * 2 * 4
    assert memory.rough_total_bytes(14e9, 8, 1e9) == 22e9


def test_rough_concurrency() -> None:
    assert concurrency.rough_max_concurrency(80e9, 14e9, 1000, 4096) == int(66e9 // (1000 * 4096 * 8))
    assert concurrency.rough_max_concurrency(10e9, 14e9, 1000, 4096) == 0
    assert (concurrency.rough_cpu_parallelism(8, 2), concurrency.rough_cpu_parallelism(1, 2)) == (2, 1)
    with pytest.raises(ValueError, match="positive"):
        concurrency.rough_max_concurrency(1, 0, 0, 1)


def test_rough_throughput_is_littles_law() -> None:
    assert throughput.rough_output_tokens_per_second(4, 64, 1.28) == pytest.approx(200)


def test_rough_cost_and_price_of_what_was_measured() -> None:
    assert cost.rough_cost_usd(10, 1.5, 2, storage_usd=3) == 33
    assert cost.rough_cluster_cost_usd(8, 1.17, 24) == pytest.approx(224.64)
    assert cost.rough_instances_cost_usd(3, 7) == 21
    assert cost.usd_per_million_tokens(0.08, 200) == pytest.approx(0.1111, rel=1e-3)
    assert cost.usd_per_qps_hour(0.08, 2) == 0.04
    assert cost.usd_per_thousand_requests(3.6, 1) == pytest.approx(1.0)


def test_bandwidth_bound() -> None:
    tpot = throughput.bandwidth_bound_tpot_ms(220e6, 30)
    assert tpot == pytest.approx(7.333, rel=1e-3)
    assert throughput.effective_bandwidth_gb_s(220e6, tpot) == pytest.approx(30)


def test_limits_are_read_and_judged_from_the_planned_instant() -> None:
    limits = slo.parse("ttft_ms_p95<=500 and tpot_ms_p95 <= 40")
    assert [str(x) for x in limits] == ["ttft_ms_p95 ≤ 500", "tpot_ms_p95 ≤ 40"]
    row = {"ttft_ms_p95": 100, "ttft_from_schedule_ms_p95": 900, "tpot_ms_p95": 30}
    assert slo.misses(row, limits) == ["ttft_ms_p95"]
    with pytest.raises(UserError, match="ttft_p95"):
        slo.parse("ttft_p95<=500")


def point(trial: str, usd: float | None, ttft: float = 100, **more: object) -> dict[str, object]:
    return {"trial_id": trial, "setup_id": trial[0], "usd_per_million_output_tokens": usd, "fatal": False,
            "ttft_from_schedule_ms_p95": ttft, "output_tokens_per_second": 10.0, "trust": "ok"} | more


def test_the_cheapest_within_limits_and_why_not_the_others() -> None:
    rows = [point("a1", 0.2), point("a2", 0.1), point("b1", 0.15), point("c1", 0.01, ttft=900),
            point("d1", 0.01, fatal=True, trust="client_bound"), point("e1", None)]
    answer = planner.cheapest(rows, slo.parse("ttft_ms_p95<=500"))
    assert (answer.best, answer.runner_up, answer.within_limits) == ("a2", "b1", 3)
    assert answer.left_out == {"c1": "misses ttft_ms_p95", "d1": "not to be trusted: client_bound",
                               "e1": "no price for this hardware"}
    assert planner.cheapest(rows[3:], slo.parse("ttft_ms_p95<=500")).best is None


def test_where_nothing_keeps_the_limits_the_nearest_is_named_with_what_it_keeps() -> None:
    rows = [point("a1", 0.2, ttft=1234.5, tpot_ms_p95=30.0), point("b1", 0.1, ttft=450, tpot_ms_p95=130.0),
            point("c1", 0.1, ttft=510, tpot_ms_p95=51.0, fatal=True, trust="client_bound")]
    answer = planner.cheapest(rows, slo.parse("ttft_ms_p95<=500 tpot_ms_p95<=50"))
    assert (answer.best, answer.nearest) == (None, "a1")  # 2.5 times the limit; the other 2.6 times
    assert [str(one) for one in answer.nearest_limits] == ["ttft_ms_p95 ≤ 1240", "tpot_ms_p95 ≤ 50"]
    assert planner.cheapest(rows[2:], slo.parse("ttft_ms_p95<=500")).nearest is None


def test_bundled_prices_carry_date_tier_and_source() -> None:
    cpu = prices.bundled(HardwareSpec(name="box", cpu="x", cores=2))
    assert [p.price_usd_per_hour for p in cpu] == [0.08] and cpu[0].tier == "assumed" and cpu[0].source
    gpus = prices.bundled(HardwareSpec(name="g", kind="cuda", accelerator="NVIDIA H100 80GB HBM3", accelerators=2))
    by_tier = {p.tier: p.price_usd_per_hour for p in gpus if p.date == "2026-07"}
    assert by_tier == {"hyperscaler": 2.34, "neocloud": 3.10, "rental": 3.56}


def curve(variant: str, quantization: str, slots: int, users: int, **more: object) -> dict[str, object]:
    return {"workload": "chat", "variant": variant, "quantization": quantization, "max_sequences": slots,
            "concurrency": users} | more


def test_physics_says_when_the_data_contradict_it() -> None:
    good = [curve("llama-server", "F16", 1, 1, model_bytes=220e6, tpot_ms_p50=9.0),
            curve("llama-server", "Q8_0", 1, 1, model_bytes=117e6, tpot_ms_p50=5.0)]
    (finding,) = physics.findings(good, 30)
    assert finding.verdict == "obeys" and "24.4 GB/s" in finding.text
    (slower,) = physics.findings([good[0], good[1] | {"tpot_ms_p50": 12.0}], 30)
    assert slower.verdict == "explained" and "Q8_0 would need 4.79 ms to read" in slower.text
    (impossible,) = physics.findings([r | {"tpot_ms_p50": 1.0} for r in good], 30)
    assert impossible.verdict == "contradicts"


def test_physics_of_queues_and_batching() -> None:
    rows = [curve("llama_cpp.server", "Q8_0", 1, c, e2e_ms_mean=1000.0, ttft_ms_mean=100 + (c - 1) * 1000.0)
            for c in (1, 2, 4)]
    assert [f.verdict for f in physics.findings(rows, None)] == ["obeys"]
    rows[2]["ttft_ms_mean"] = 400.0
    assert [f.verdict for f in physics.findings(rows, None)] == ["contradicts"]
    gain = [curve("llama-server", "F16", slots, 4, output_tokens_per_second=speed)
            for slots, speed in ((1, 50.0), (4, 120.0))]
    (finding,) = physics.findings(gain, None)
    assert finding.verdict == "obeys" and "F16 ×2.40" in finding.text
