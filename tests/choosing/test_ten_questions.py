"""Ten questions of people who choose a stack, and their answers, each computed again from `requests`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from models import experiment
from models.choosing.answer import Answer
from models.choosing.choose import choose
from models.choosing.question import Question
from tests.choosing import recomputed, world
from tests.choosing.recomputed import Best
from warehouse import evidence, reader

MODEL = "synthetic-llama-110m"
LOOSE = {"ttft": 5000.0, "tpot": 1000.0}
STRICT = {"ttft": 100.0, "tpot": 20.0}
OWN, RESERVED = {world.BOX.name: 0.08, world.GPU.name: 2.0}, {world.BOX.name: 0.07, world.GPU.name: 0.9}


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return world.build(tmp_path_factory.mktemp("choosing"))


def ask(home: Path, ttft: float, tpot: float, **more: Any) -> Answer:
    question = Question(**{"model": MODEL, "workload": "chat", "limits": f"ttft_ms_p95<={ttft:g} tpot_ms_p95<={tpot:g}"}
                        | more)
    return choose(question, evidence.read(home, question.model))


def same(answer: Answer, expected: list[Best]) -> None:
    """The same stacks in the same order, and every figure of the best from its requests."""
    assert [c.stack.setup_id for c in answer.ranked] == [b.setup_id for b in expected]
    best, again = answer.ranked[0], expected[0]
    assert best.instances == again.instances and best.capacity.trial_ids == (again.trial_id,)
    assert best.capacity.basis == "measured" and best.users == again.users
    assert best.capacity.value == pytest.approx(again.rps, rel=1e-9)
    assert best.usd_per_month == pytest.approx(again.usd_per_month, rel=1e-9)
    assert best.usd_per_million_output_tokens_full == pytest.approx(again.usd_per_million, rel=1e-9)
    assert best.carries == pytest.approx(again.instances * again.rps, rel=1e-9)
    assert best.with_one_down == pytest.approx((again.instances - 1) * again.rps, rel=1e-9, abs=1e-9)


@pytest.fixture(scope="module")
def real(demo_home: Path) -> dict[str, Any]:
    """What was really measured on this machine: prices, model, and the workload's label."""
    row = reader.query(demo_home, "from measurements where not fatal limit 1").to_dicts()[0]
    return {"home": demo_home, "prices": {row["hardware"]: row["price_usd_per_hour"]},
            "more": {"model": row["model"], "workload": row["workload"]}}


def test_1_what_serves_thirty_requests_a_second_of_chat_on_this_machine(real: dict[str, Any]) -> None:
    answer = ask(real["home"], **LOOSE, request_rate=30.0, **real["more"])
    same(answer, recomputed.cheapest(real["home"], real["prices"], **LOOSE, rate=30.0))
    best = answer.ranked[0]
    assert best.load == 30.0 and best.headroom == pytest.approx(best.carries / 30 - 1)
    assert sum(best.stack.setup_id == b.stack.setup_id for b in answer.ranked) == 1


def test_2_what_serves_ten_users_who_wait_for_their_answers(real: dict[str, Any]) -> None:
    answer = ask(real["home"], **LOOSE, concurrency=10.0, **real["more"])
    same(answer, recomputed.cheapest(real["home"], real["prices"], **LOOSE, users=10.0))


def test_3_whose_token_is_the_cheapest_at_full_load(real: dict[str, Any]) -> None:
    answer = ask(real["home"], **LOOSE, **real["more"])
    expected = recomputed.cheapest(real["home"], real["prices"], **LOOSE)
    same(answer, expected)
    found = answer.ranked[0].expected
    assert found["ttft_from_schedule_ms_p95"].value == pytest.approx(expected[0].ttft, rel=1e-9)
    assert found["tpot_ms_p95"].value == pytest.approx(expected[0].tpot, rel=1e-9)
    assert {f.basis for f in found.values()} == {"measured"}


def test_4_a_limit_that_nothing_keeps_is_answered_with_how_far_off_it_is(real: dict[str, Any]) -> None:
    answer = ask(real["home"], 0.5, 1000.0, request_rate=5.0, **real["more"])
    assert not answer.ranked and answer.sentence.startswith("Nothing measured keeps the limits")
    for setup_id, rows in recomputed.figures(real["home"]).items():
        nearest = min(r["ttft"] for r in rows)
        reason = next(e.reason for e in answer.excluded if e.setup_id == setup_id)
        assert f"ttft_ms_p95 is {nearest:.3g} ms" in reason
    assert answer.experiment is not None
    parsed = experiment.parse(yaml.safe_load(answer.experiment), "answer")
    assert parsed.models == (real["more"]["model"],) and parsed.limits == answer.question.limits


def test_5_only_weights_that_compute_what_was_trained(real: dict[str, Any]) -> None:
    answer = ask(real["home"], **LOOSE, request_rate=30.0, kl_nats_max=1e-9, **real["more"])
    same(answer, recomputed.cheapest(real["home"], real["prices"], **LOOSE, rate=30.0,
                                     only=lambda row: row["quantization"] == "F16"))
    left_out = {e.reason for e in answer.excluded if e.kind == "quality"}
    assert left_out and all("above the 1e-09 allowed" in r or "was not measured" in r for r in left_out)


def test_6_which_hardware_is_cheaper_for_a_hundred_requests_a_second(made_up: Path) -> None:
    answer = ask(made_up, **STRICT, request_rate=100.0)
    expected = recomputed.cheapest(made_up, OWN, **STRICT, rate=100.0)
    same(answer, expected)
    assert len({c.machine.name for c in answer.ranked}) == 2
    assert {e.label: e.kind for e in answer.excluded} == {
        "sglang FP8 on NVIDIA H100 80GB HBM3": "verdict", "llama_cpp.server Q4_K_M on AMD EPYC, 2 cores": "limit"}


def test_7_on_what_is_here_already(made_up: Path) -> None:
    answer = ask(made_up, **STRICT, request_rate=40.0, hardware=("cpu",))
    same(answer, recomputed.cheapest(made_up, OWN, **STRICT, rate=40.0,
                                     only=lambda row: row["hardware"] == world.BOX.name))
    assert sum(e.kind == "hardware" for e in answer.excluded) == 4


def test_8_with_room_to_grow_and_one_instance_down(made_up: Path) -> None:
    answer = ask(made_up, **STRICT, request_rate=40.0, hardware=("H100",), down=1, headroom=0.5)
    same(answer, recomputed.cheapest(made_up, OWN, **STRICT, rate=40.0, down=1, headroom=0.5,
                                     only=lambda row: row["hardware"] == world.GPU.name))
    assert answer.ranked[0].with_one_down >= 40.0 * 1.5


def test_9_at_a_years_contract_prices_and_within_a_budget(made_up: Path) -> None:
    most = 700.0
    answer = ask(made_up, **STRICT, request_rate=100.0, price_tier="reserved-1y", budget_usd_per_month=most)
    expected = recomputed.cheapest(made_up, RESERVED, **STRICT, rate=100.0)
    same(answer, [b for b in expected if b.usd_per_month <= most])
    over = {b.setup_id for b in expected if b.usd_per_month > most}
    assert {e.setup_id for e in answer.excluded if e.kind == "budget"} == over and over


def test_10_with_tool_calls_in_a_container(made_up: Path) -> None:
    answer = ask(made_up, **STRICT, request_rate=40.0, needs=("tool_calls",), environment="container")
    same(answer, recomputed.cheapest(made_up, OWN, **STRICT, rate=40.0,
                                     only=lambda row: row["engine"] in ("vllm", "sglang")))
    assert {e.reason for e in answer.excluded if e.kind == "feature"} == {"it overlooks tool_choice"}


def test_no_answer_rests_on_a_point_that_is_not_to_be_trusted(made_up: Path) -> None:
    fatal = {r["trial_id"] for r in reader.query(made_up, "from verdicts where severity = 'fatal'").to_dicts()}
    assert fatal
    for more in ({"request_rate": 100.0}, {"concurrency": 30.0}, {}):
        answer = ask(made_up, **LOOSE, **more)
        assert not fatal & {t for c in answer.ranked for t in c.trial_ids}
