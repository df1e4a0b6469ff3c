"""`dyno plan simulate` and the errors of the simulation, on a warehouse filled by an engine of known step times."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from app.cli_plan_simulate import simulate as command
from flows import accuracy_simulation, simulate, step_times
from flows.simulate import Question
from models.errors import UserError
from models.frames import REQUESTS
from models.planning.simulation import Scheduling, closed_loop
from models.planning.steps import StepTimes
from models.records import Measurement
from models.specs import Lengths, Load, Setup, Trial, Workload
from tests.models.planning.naive import Naive
from tests.warehouse import fake
from warehouse import bundles, writer

TRUE = StepTimes(base_s=0.010, per_sequence_s=0.002, per_prompt_s=0.004, per_prefill_token_s=0.0002,
                 per_kv_token_s=2e-6, overhead_s=0.003)
WORK = Workload(name="mixed", input_tokens=Lengths(distribution="uniform", min=20, max=400),
                output_tokens=Lengths(distribution="uniform", min=10, max=80))
HOW = Scheduling(slots=4, step_tokens=2048)


def played(trial: Trial) -> pl.DataFrame:
    """Requests of an engine of those step times, as the load generator would have stamped them."""
    rng, count = np.random.Generator(np.random.PCG64(trial.load.requests)), trial.load.requests
    inputs, outputs = rng.integers(20, 401, count), rng.integers(10, 81, count)
    if trial.load.concurrency:
        came = closed_loop(TRUE, HOW, trial.load.concurrency, inputs, outputs).arrived_s
    else:
        came = np.cumsum(rng.exponential(1 / (trial.load.request_rate or 1), count))
    _, _, tokens = Naive(TRUE, HOW).play((came + TRUE.overhead_s).tolist(), inputs.tolist(), outputs.tolist())
    rows = []
    for index, (sent, stamps) in enumerate(zip(came, tokens, strict=True)):
        first, last, sent_ns = (round(x * 1e9) for x in (stamps[0], stamps[-1], sent))
        rows.append({
            "request_index": index, "session": index, "turn": 0, "phase": "measured" if index >= 10 else "warmup",
            "input_tokens_planned": inputs[index], "output_tokens_planned": outputs[index],
            "input_tokens": inputs[index], "cached_tokens": 0, "output_tokens": outputs[index],
            "output_tokens_source": "usage", "planned_ns": sent_ns, "sent_ns": sent_ns, "first_byte_ns": first,
            "first_reasoning_ns": None, "first_content_ns": first, "first_token_ns": first, "last_token_ns": last,
            "done_ns": last, "outcome": "ok", "http_status": 200, "finish_reason": "length", "output_valid": None,
            "error": None, "chunk_ns": [round(x * 1e9) - sent_ns for x in stamps]})
    return pl.DataFrame(rows, schema=REQUESTS)


def stored(home: Path, setup: Setup, *loads: Load) -> None:
    """Measured points of a setup, in the warehouse."""
    for load in loads:
        trial = Trial(setup=setup, workload=WORK, load=load)
        requests = played(trial)
        telemetry = fake.telemetry_of(requests)
        bundles.write(home, _trusted(fake.measurement_of(trial, requests, telemetry)), requests, telemetry, "ready\n")
    writer.ingest(home)
    writer.publish(home)


def _trusted(measurement: Measurement) -> Measurement:
    return measurement.model_copy(update={"verdicts": ()})


CLOSED = tuple(Load(concurrency=n, requests=20 * n + 20) for n in (1, 2, 4))
OPEN = Load(request_rate=2.0, requests=300)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulated") / "home"
    stored(folder, fake.setup(), *CLOSED, OPEN)
    return folder


def test_a_setup_is_simulated_and_its_own_point_stands_beside(home: Path) -> None:
    answer = simulate.of_setup(home, fake.setup().setup_id[:6], Question(WORK, 1800.0, rate=2.0))
    assert answer.fitted and len(answer.trial_ids) == 3
    assert answer.fitted.error_left_out < 0.05 and answer.scheduling.slots == 4
    by_metric = {row["metric"]: row for row in answer.measured}
    assert abs(float(by_metric["tpot_ms_p50"]["error"])) < 0.1  # other lengths, other neighbours
    assert abs(float(by_metric["output_tokens_per_second"]["error"])) < 0.15  # 300 requests are not half an hour
    assert answer.metrics["requests"] == pytest.approx(3600, rel=0.05) and len(answer.timeline) == 24
    other = simulate.of_setup(home, fake.setup().setup_id, Question(WORK, 60.0, rate=3.0))
    assert other.measured == [] and len(other.trial_ids) == 4


def test_errors_of_what_was_fitted_on_closed_loops(home: Path) -> None:
    figures = {one.form: one for one in accuracy_simulation.figures(home)}
    assert set(figures) == {form for _, form in accuracy_simulation.FORMS.values()}
    assert all(one.level == "simulated" and one.points == 1 for one in figures.values())
    assert figures["event simulation, TTFT p50"].mape < 0.05 and figures["event simulation, TTFT p95"].mape < 0.1
    assert figures["event simulation, output tokens a second"].mape < 0.02


def test_what_is_missing_is_said_with_the_way_out(home: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"(?s)is no measured setup.*concurrency: \[1, 4, 16\]"):
        simulate.of_setup(home, "zzz", Question(WORK, 60.0, rate=1.0))
    alone = tmp_path / "home"
    stored(alone, fake.setup(slots=8), OPEN)
    with pytest.raises(UserError, match="only measured point"):
        simulate.of_setup(alone, fake.setup(slots=8).setup_id, Question(WORK, 60.0, rate=2.0))
    with pytest.raises(UserError, match="no open loop"):
        accuracy_simulation.figures(alone)
    with pytest.raises(UserError, match="nothing has been measured"):
        simulate.of_setup(tmp_path / "none", "a", Question(WORK, 60.0, rate=1.0))


def test_questions_that_cannot_be_played() -> None:
    for question, words in ((Question(WORK, 60.0), "either a rate"), (Question(WORK, 1e9, rate=10.0), "more than"),
                            (Question(WORK, 60.0, rate=1e-9), "no request comes")):
        with pytest.raises(UserError, match=words):
            simulate.given(TRUE, HOW, question)
    with pytest.raises(UserError, match="no request fits"):
        simulate.given(TRUE, HOW, Question(WORK, 60.0, rate=1.0), context_tokens=5)


def test_notes_say_what_is_left_out_and_when_a_queue_only_grows() -> None:
    over = simulate.given(TRUE, HOW, Question(WORK, 600.0, rate=50.0), context_tokens=450)
    assert any("does not keep up" in note for note in over.notes) and any("450 tokens" in note for note in over.notes)
    turns = WORK.model_copy(update={"turns": 3})
    notes = simulate.given(TRUE, HOW, Question(turns, 60.0, rate=1.0)).notes
    assert any("3 turns" in note for note in notes) and any("prefix cache" in note for note in notes)


def test_how_engines_schedule() -> None:
    def of(setup: Setup, **run: object) -> Scheduling:
        trial = Trial(setup=setup, workload=WORK, load=OPEN)
        requests = fake.requests_of(trial)
        one = fake.measurement_of(trial, requests, fake.telemetry_of(requests))
        return step_times.scheduling(one.model_copy(update={"run": one.run.model_copy(update=run)}))

    def engine(name: str) -> Setup:
        setup = fake.setup(slots=None)
        return setup.model_copy(update={"engine": setup.engine.model_copy(update={"engine": name, "variant": None})})

    assert of(fake.setup()) == Scheduling(slots=4, step_tokens=2048)
    assert of(fake.setup("llama_cpp.server", slots=None)).slots == 1
    told = {"max_num_seqs": 256, "max_num_batched_tokens": 8192, "enable_chunked_prefill": True}
    assert of(engine("vllm"), settings=told, kv_cache_tokens=9000) == Scheduling(
        slots=256, step_tokens=8192, kv_tokens=9000, kv_full="preempts")
    assert of(engine("tgi")).prefill == "first" and of(engine("sglang")).kv_full == "preempts"


def test_the_command(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNO_HOME", str(home))
    setup = ["--setup", fake.setup().setup_id[:8], "--rate", "1", "--duration", "10m", "--workload", "chat",
             "--scale", "0.1"]
    shown = CliRunner().invoke(command, setup, catch_exceptions=False)
    assert shown.exit_code == 0 and "TTFT p95 ms" in shown.stdout and "fitted on 4 measured points" in shown.stdout
    said = json.loads(CliRunner().invoke(command, [*setup, "--json", "--slots", "2"], catch_exceptions=False).stdout)
    assert said["scheduling"]["slots"] == 2 and said["metrics"]["ttft_ms_p95"] > 0 and said["level"] == "simulated"


def test_the_command_without_a_warehouse() -> None:
    given = ["--decode-ms", "10", "--decode-ms-per-sequence", "2", "--prompt-ms", "1", "--prefill-tokens-per-second",
             "10000", "--input-tokens", "50", "--output-tokens", "5", "--arrivals", "constant", "--rate", "1",
             "--duration", "10s", "--json"]
    said = json.loads(CliRunner().invoke(command, given, catch_exceptions=False).stdout)
    assert said["metrics"]["ttft_ms_p50"] == pytest.approx(16) and said["metrics"]["tpot_ms_p50"] == pytest.approx(12)
    assert said["metrics"]["requests"] == 10 and said["fit"] is None


@pytest.mark.parametrize(("arguments", "words"), [
    ([], "either --setup"), (["--decode-ms", "1", "--rate", "1"], "--prefill-tokens-per-second"),
    (["--decode-ms", "1", "--prefill-tokens-per-second", "9"], "either a rate"),
    (["--decode-ms", "1", "--prefill-tokens-per-second", "9", "--rate", "1", "--arrivals", "gamma:x"], "gamma:CV"),
    (["--decode-ms", "1", "--prefill-tokens-per-second", "9", "--users", "1", "--profile", "even"], "open loop"),
])
def test_what_the_command_refuses(arguments: list[str], words: str) -> None:
    with pytest.raises(UserError, match=words):
        CliRunner().invoke(command, arguments, catch_exceptions=False)


def test_durations() -> None:
    assert CliRunner().invoke(command, ["--duration", "soon"]).exit_code == 2
