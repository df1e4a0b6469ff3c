"""choose() on evidence made by hand: what is measured, between levels, carried over, and what would change it."""

from __future__ import annotations

import math
import random
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from app import cli_plan_latency
from flows.catalogue import find_hardware
from models import experiment
from models.capabilities import Capability
from models.choosing.choose import choose
from models.choosing.evidence import Evidence, Observed
from models.choosing.likely import Priced, cheaper
from models.choosing.procedure import procedure
from models.choosing.question import Question
from models.choosing.survey import table
from models.errors import UserError
from tests.models.choosing import made

LOOSE = "ttft_ms_p95<=10000 tpot_ms_p95<=1000"


def ask(evidence: Evidence, limits: str = LOOSE, **more: object) -> Question:
    return Question.model_validate({"model": "m-8b", "workload": "chat", "limits": limits} | more)


def test_a_measured_level_carries_the_load_and_is_named() -> None:
    seen = made.evidence(made.curve(made.stack("F16")))
    best = choose(ask(seen, request_rate=10.0), seen).best
    at_16 = seen.curves[0].points[-1]
    assert best is not None and best.capacity.trial_ids == ("F16-chat-16",) and best.capacity.basis == "measured"
    assert best.capacity.value == at_16.requests_per_second and best.users == 16
    assert best.instances == math.ceil(10.0 / (at_16.requests_per_second or 0))
    assert best.usd_per_month == best.instances * 730.0
    assert best.usd_per_million_output_tokens == pytest.approx(best.instances / (10.0 * 50 * 3600) * 1e6)
    low, high = at_16.intervals["requests_per_second"]
    assert best.capacity.low and best.capacity.high and low and high
    assert best.capacity.high / best.capacity.low == pytest.approx(high / low)


def test_between_levels_the_curve_answers_where_it_surely_saves_an_instance() -> None:
    """TPOT p95 ≤ 25 ms is kept up to 11 users; the measured level below has 4."""
    seen = made.evidence(made.curve(made.stack("F16")))
    best = choose(ask(seen, "tpot_ms_p95<=25", request_rate=40.0), seen).best
    assert best is not None and best.capacity.basis == "interpolated" and best.users is not None
    assert 4 < best.users <= 11 and best.capacity.trial_ids == ("F16-chat-4", "F16-chat-16")
    at_4 = seen.curves[0].points[1].requests_per_second or 0.0
    assert best.capacity.value > at_4 and best.instances < math.ceil(40 / at_4)
    truth = made.at(11, 10.0, 1.0, 200.0, 50.0, "truth").requests_per_second or 0.0
    assert best.capacity.value <= truth
    assert best.expected["tpot_ms_p95"].value <= 25
    again = made.evidence(made.curve(made.stack("F16"), fitted=False))
    measured = choose(ask(again, "tpot_ms_p95<=25", request_rate=40.0), again).best
    assert measured is not None and measured.capacity.basis == "measured" and measured.users == 4


def test_expected_latencies_are_those_of_the_load_of_one_instance() -> None:
    seen = made.evidence(made.curve(made.stack("F16")))
    rate = made.at(8, 10.0, 1.0, 200.0, 50.0, "truth").requests_per_second
    best = choose(ask(seen, request_rate=rate), seen).best
    assert best is not None and best.instances == 1
    found = best.expected["tpot_ms_p95"]
    assert found.basis == "interpolated" and found.low and found.high and found.confidence == 0.9
    assert found.low < 1.25 * 17 < found.high and found.value == pytest.approx(1.25 * 17, rel=0.15)
    quiet = choose(ask(seen, request_rate=0.1), seen).best
    assert quiet is not None and quiet.expected["tpot_ms_p95"].value == pytest.approx(12.5)
    assert quiet.expected["tpot_ms_p95"].how.endswith("less load is no slower")


def test_a_luckier_level_beyond_one_that_breaks_a_limit_does_not_count() -> None:
    curve = made.curve(made.stack("F16"), fitted=False)
    slow = curve.points[1]._replace(values=curve.points[1].values | {"tpot_ms_p95": 900.0})
    seen = made.evidence(replace(curve, points=(curve.points[0], slow, curve.points[2])))
    best = choose(ask(seen, "tpot_ms_p95<=100"), seen).best
    assert best is not None and best.users == 1


def test_fatal_points_are_no_evidence_and_repeats_are_their_median() -> None:
    stack = made.stack("F16")
    points = [made.at(4, alone, 1.0, 200, 50, name) for alone, name in ((10.0, "a"), (12.0, "b"), (30.0, "c"))]
    points.append(made.at(4, 0.1, 0.0, 200, 50, "d", fatal=True))
    seen = made.evidence(replace(made.curve(stack, fitted=False), points=tuple(points)))
    best = choose(ask(seen), seen).best
    assert best is not None and best.capacity.value == points[1].requests_per_second
    assert set(best.trial_ids) == {"a", "b", "c"}
    dead = made.evidence(replace(made.curve(stack), points=tuple(points[3:])))
    answer = choose(ask(dead), dead)
    assert answer.best is None and answer.excluded[0].kind == "verdict" and "engine_died" in answer.excluded[0].reason


def test_lengths_that_nobody_measured_come_after_what_was_measured() -> None:
    known = [made.curve(made.stack("F16"), inputs=i, outputs=o, workload=w)
             for i, o, w in ((200.0, 50.0, "chat"), (1000.0, 60.0, "rag"))]
    seen = made.evidence(*known)
    question = Question(model="m-8b", input_tokens=500.0, output_tokens=55.0, request_rate=5.0, limits=LOOSE)
    best = choose(question, seen).best
    assert best is not None and best.capacity.basis == "interpolated"
    assert best.capacity.how.startswith("carried over from chat, rag")
    truth = made.at(16, 10.0, 1.0, 500.0, 55.0, "truth").requests_per_second or 0.0
    assert best.capacity.low and best.capacity.high and best.capacity.low < truth < best.capacity.high
    far = choose(question.model_copy(update={"input_tokens": 5000.0}), seen).best
    assert far is not None and far.basis == "extrapolated"
    one = made.evidence(known[0])
    answer = choose(question, one)
    assert answer.best is None and "takes two workloads" in answer.excluded[0].reason


def test_what_would_change_the_answer_is_asked_again() -> None:
    """B is cheaper a request, but its TPOT breaks a limit that is 20 % lower, and its quality is worse."""
    a = made.curve(made.stack("A", kl_nats=0.001), alone_ms=10.0, fitted=False)
    b = made.curve(made.stack("B", kl_nats=0.1), alone_ms=14.0, each_ms=0.2, fitted=False)
    seen = made.evidence(a, b)
    answer = choose(ask(seen, "tpot_ms_p95<=22", request_rate=100.0), seen)
    assert answer.best is not None and answer.best.stack.quantization == "B"
    assert {c.what: c.setup_id for c in answer.changes} == {
        "limits 20 % lower": "setup-A", "quality: divergence below 0.1 nats": "setup-A"}
    assert set(answer.unchanged) == {"traffic ×2", "box 30 % dearer"}


def test_a_dearer_machine_may_lose_to_another() -> None:
    other = made.MACHINE.model_copy(update={"hardware_id": "h2", "name": "other box"})
    seen = made.evidence(made.curve(made.stack("A")), made.curve(made.stack("B", hardware_id="h2"), alone_ms=10.1))
    seen = seen.model_copy(update={"machines": (made.MACHINE, other), "prices": (
        *seen.prices, seen.prices[0].model_copy(update={"hardware_id": "h2", "price_usd_per_hour": 1.2}))})
    answer = choose(ask(seen), seen)
    assert answer.best is not None and answer.best.machine.name == "box"
    assert [(c.what, c.setup_id) for c in answer.changes] == [("box 30 % dearer", "setup-B")]


def test_the_probability_of_being_cheaper_is_that_of_draws() -> None:
    one = Priced(capacity=10.0, spread=0.15, usd_per_hour=1.0, output_tokens=50)
    other = Priced(capacity=21.0, spread=0.1, usd_per_hour=2.2, output_tokens=50)
    rng = random.Random(1)
    for load in (None, 9.0, 45.0, 400.0):
        wins = 0.0
        for _ in range(4000):
            costs = []
            for p in (one, other):
                capacity = p.capacity * math.exp(rng.gauss(0, p.spread))
                month = 0.0 if load is None else max(1, math.ceil(load / capacity)) * p.usd_per_hour
                costs.append((month, p.usd_per_hour / capacity))
            wins += costs[0] < costs[1]
        assert cheaper(one, other, load) == pytest.approx(wins / 4000, abs=0.03)
        assert cheaper(one, other, load) + cheaper(other, one, load) == pytest.approx(1.0)


def test_an_experiment_is_ready_for_evaluate_whatever_was_asked() -> None:
    seen = made.evidence(made.curve(made.stack("F16")))
    for more in ({"limits": "ttft_ms_p95<=0.01"}, {"budget_usd_per_month": 1.0, "request_rate": 5.0},
                 {"hardware": ("nvidia",)}, {"workload": None, "input_tokens": 90.0, "output_tokens": 9.0},
                 {"environment": "kubernetes", "hardware": ("mi300x",)}, {"needs": ("tool_calls",)}):
        answer = choose(Question.model_validate({"model": "m-8b", "workload": "chat", "limits": LOOSE} | more), seen)
        assert answer.best is None and answer.experiment
        parsed = experiment.parse(yaml.safe_load(answer.experiment), "answer")
        assert parsed.load.levels() and parsed.engines and parsed.limits == answer.question.limits


def test_a_model_that_nobody_measured_gets_a_formulas_estimate_labelled_as_that() -> None:
    seen = made.evidence(made.curve(made.stack("F16")))
    question = Question(model="meta-llama/Llama-3.1-8B", input_tokens=800.0, output_tokens=200.0, request_rate=20.0,
                        hardware=("h100",))
    answer = choose(question, seen)
    assert answer.sentence.startswith("Nothing measured") and answer.estimates
    first = answer.estimates[0]
    assert first.capacity.basis == "formula" and "roofline" in first.capacity.how and first.price is not None
    assert first.instances == math.ceil(20.0 / first.capacity.value - 1e-9)
    assert first.usd_per_month == pytest.approx(first.instances * first.price.price_usd_per_hour * 730)
    assert first.learned and first.learned.startswith("dyno plan latency meta-llama/Llama-3.1-8B --hardware h100")
    named = cli_plan_latency.latency.make_context("latency", shlex.split(first.learned)[3:])
    assert named.params["input_tokens"] == 800 and find_hardware(named.params["hardware"], Path()).kind == "cuda"


@pytest.mark.parametrize(("more", "names"), [
    ({"model": "nobody/knows"}, "measured are m-8b"), ({"workload": "poems"}, "measured are chat"),
    ({"hardware": ("abacus",)}, "box"), ({"price_tier": "gold"}, "own"), ({"needs": ("telepathy",)}, "tool_calls")])
def test_what_nobody_knows_is_told_what_is_known(more: dict[str, object], names: str) -> None:
    seen = made.evidence(made.curve(made.stack("F16"))).model_copy(update={"capabilities": (
        Capability(engine="engine", kind="feature", name="tool_calls", supported=True),)})
    with pytest.raises(UserError, match=names):
        choose(Question.model_validate({"model": "m-8b", "workload": "chat"} | more), seen)


def test_what_an_engine_was_seen_to_do_counts_before_what_it_claims() -> None:
    claim = Capability(engine="engine", kind="feature", name="structured_output", supported=True)
    seen = made.evidence(made.curve(made.stack("F16"))).model_copy(update={"capabilities": (claim,)})
    question = ask(seen, needs=("structured_output",))
    assert choose(question, seen).best is not None
    failed = Observed(engine="engine", feature="structured_output", trials=3, share=0.0, trial_id="t")
    answer = choose(question, seen.model_copy(update={"observed": (failed,)}))
    assert answer.best is None and "none of its answers was valid in 3 trials" in answer.excluded[0].reason


def test_the_procedure_says_where_measurement_and_the_survey_disagree() -> None:
    """Llama.cpp is seen to batch and to reuse a prefix, which the survey denies."""
    llama = made.stack("Q4_K_M").model_copy(update={"engine": "llama_cpp", "variant": "llama-server"})
    vllm = made.stack("BF16").model_copy(update={"engine": "vllm", "setup": "vllm BF16"})
    known = made.evidence(made.curve(llama), made.curve(vllm, alone_ms=5.0, each_ms=0.2))
    seen = known.model_copy(update={"observed": (
        Observed(engine="llama_cpp", variant="llama-server", feature="continuous_batching", trials=2, share=3.0,
                 trial_id="t1"),
        Observed(engine="llama_cpp", variant="llama-server", feature="prefix_caching", trials=2, share=0.6,
                 trial_id="t2"))})
    steps = procedure(choose(ask(seen, request_rate=10.0), seen), seen)
    assert [s.name for s in steps] == ["hardware", "size", "interface", "throughput", "quantisation", "environment"]
    by_name = {s.name: s for s in steps}
    assert by_name["hardware"].disagrees is False and "vLLM" in by_name["hardware"].measured
    assert by_name["throughput"].engines == ("vllm", "tgi") and by_name["throughput"].disagrees is False
    assert by_name["interface"].disagrees is None
    cells = {(c.feature, c.engine): c for c in table(seen)}
    assert cells["KV cache", "llama_cpp"].verdict == "disagrees" and cells["KV cache", "llama_cpp"].trial_ids == ("t2",)
    assert cells["concurrency, throughput", "llama_cpp"].verdict == "disagrees"
    assert cells["KV cache", "tgi"].verdict == "not observed" and len(cells) == 24
