"""Experiment files: the bad field is named, expansion is complete, the impossible is listed."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from models import experiment as experiments
from models.errors import ExperimentError, Unsupported, UserError
from models.experiment import EngineEntry, LoadGrid, Resolvers, expand
from models.specs import HardwareSpec, Lengths, ModelSpec, Setup, Trial, Workload

GOOD = """
name: small
models: [m]
engines:
  - {engine: fast, variant: a, batching: [{max_sequences: 1}, {max_sequences: 4}]}
  - {engine: plain}
quantizations: [F16, AWQ]
workloads: [chat]
load: {concurrency: [1, 2], request_rate: [0.5], requests: 10}
repeats: 2
"""


def known(names: set[str], what: str) -> object:
    def check(name: str) -> str:
        if name not in names:
            raise UserError(f"unknown {what} {name!r}")
        return name
    return check


def resolvers() -> Resolvers:
    def engine(entry: EngineEntry) -> str:
        known({"fast", "plain"}, "engine")(entry.engine)  # type: ignore[operator]
        return "1.0"

    def workload(name: str | dict[str, object]) -> Workload:
        known({"chat"}, "workload")(name)  # type: ignore[operator]
        return Workload(name=str(name), input_tokens=Lengths(mean=9), output_tokens=Lengths(mean=9))

    def check(setup: Setup) -> None:
        if setup.engine.engine == "plain" and setup.engine.quantization == "AWQ":
            raise Unsupported("engines[1].quantization", "plain cannot AWQ")

    def fits(trial: Trial) -> None:
        if trial.load.request_rate and trial.setup.engine.engine == "plain":
            raise Unsupported("workloads", "too long")

    return Resolvers(model=lambda m: ModelSpec(name=str(m)), workload=workload, engine_version=engine, check=check,
                     hardware=lambda h: HardwareSpec(name=h), fits=fits,
                     quantization=known({"F16", "AWQ"}, "quantisation"))  # type: ignore[arg-type]


def load(tmp_path: Path, text: str) -> experiments.Experiment:
    path = tmp_path / "x.yaml"
    path.write_text(text)
    return experiments.load(path)


def test_expansion_is_complete_and_lists_the_impossible(tmp_path: Path) -> None:
    out = expand(load(tmp_path, GOOD), resolvers(), "x.yaml")
    assert len(out.trials) == (2 * 2 * 3 + 1 * 2) * 2
    assert [len(trials) for _, trials in out.by_setup()] == [6, 6, 6, 6, 4]
    assert {(s.field, s.reason) for s in out.skipped} == {
        ("engines[1].quantization", "plain cannot AWQ"), ("workloads", "too long")}
    assert len({t.trial_id for t in out.trials}) == len(out.trials)
    assert out.trials[0].setup.engine.version == "1.0"


@pytest.mark.parametrize(("old", "new", "says"), [
    ("engine: fast", "engine: slow", "x.yaml: engines[0].engine: unknown engine 'slow'"),
    ("AWQ]", "Q9]", "x.yaml: quantizations[1]: unknown quantisation 'Q9'"),
    ("[chat]", "[chit]", "x.yaml: workloads[0]: unknown workload 'chit'"),
    ("request_rate: [0.5]", "request_rate: [-1]", "x.yaml: load.request_rate: every rate must be above 0"),
    ("concurrency: [1, 2]", "concurrency: [1, two]", "x.yaml: load.concurrency[1]: "),
    ("repeats: 2", "repeats: 0", "x.yaml: repeats: should be greater than or equal to 1 (given: 0)"),
    ("repeats: 2", "repeat: 2", "x.yaml: repeat: is not a field dyno knows"),
    ("variant: a", "varient: a", "x.yaml: engines[0].varient: is not a field dyno knows"),
    ("max_sequences: 4", "max_sequences: 0", "x.yaml: engines[0].batching[1].max_sequences: "),
    ("variant: a", "variant: a, extra_args: [--x, --api-key, hunter2]", "x.yaml: engines[0].extra_args: --api-key "),
    ("variant: a", "variant: a, extra_args: [--auth-token=hunter2]", "x.yaml: engines[0].extra_args: --auth-token "),
    ("variant: a", "variant: a, environment: {HF_TOKEN: hunter2}", "x.yaml: engines[0].environment: HF_TOKEN would be"),
    ("models: [m]\n", "", "x.yaml: models: is missing"),
    ("name: small", "name: [", "x.yaml: line "),
    ("name: small", "name: small\nlimits: ttft<=5", "x.yaml: limits: limit 'ttft<=5'"),
    ("{concurrency: [1, 2], request_rate: [0.5], requests: 10}", "{requests: 10}", "x.yaml: load: give concurrency"),
])
def test_a_mistake_is_named_with_its_field(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: str, new: str,
                                           says: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.yaml").write_text(GOOD.replace(old, new))
    with pytest.raises(ExperimentError) as error:
        expand(experiments.load(Path("x.yaml")), resolvers(), "x.yaml")
    assert str(error.value).startswith(says) and not any(x in str(error.value) for x in ("\n", "hunter2"))


def test_what_only_sounds_like_a_secret_is_let_through(tmp_path: Path) -> None:
    out = load(tmp_path, GOOD.replace("variant: a", "variant: a, extra_args: [--max-num-batched-tokens, '9'],"
                                      " environment: {TOKENIZERS_PARALLELISM: 'false', VLLM_MAX_TOKENS: '8'}"))
    assert out.engines[0].environment["VLLM_MAX_TOKENS"] == "8"


def test_a_missing_file_and_a_file_that_is_no_mapping(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="no such file"):
        experiments.load(tmp_path / "none.yaml")
    with pytest.raises(ExperimentError, match="is a mapping"):
        load(tmp_path, "- a\n- b\n")


def test_open_levels_ramp_and_closed_ones_do_not() -> None:
    grid = LoadGrid(concurrency=(2,), request_rate=(1.0, 3.0), request_rate_end=9.0, precision=0.1)
    assert [load.label for load in grid.levels()] == ["2 at once", "1 → 9 a second", "3 → 9 a second"]
    assert {load.precision for load in grid.levels()} == {0.1}
    closed, traced = LoadGrid(concurrency=(2,), request_rate=(1.0,), arrivals="trace").levels()
    assert (closed.arrivals, traced.arrivals) == ("poisson", "trace")


@pytest.mark.parametrize("bad", [{"concurrency": (1,)}, {"request_rate": (1.0,), "arrivals": "trace"}])
def test_a_ramp_of_nothing_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="request_rate_end is for request_rate"):
        LoadGrid.model_validate({"request_rate_end": 2.0, **bad})


def test_repeats_are_rounds_through_all_points_of_a_launch(tmp_path: Path) -> None:
    first, *_ = out = expand(load(tmp_path, GOOD), resolvers(), "x.yaml").trials
    launch = [one for one in out if one.setup == first.setup]
    assert [one.repeat for one in launch] == [0, 0, 0, 1, 1, 1]
    assert [one.load for one in launch[:3]] == [one.load for one in launch[3:]]


def test_a_matrix_that_nobody_could_measure_is_refused_before_it_is_expanded(tmp_path: Path) -> None:
    huge = load(tmp_path, GOOD.replace("repeats: 2", "repeats: 100000"))
    with pytest.raises(ExperimentError, match=r"1800000 combinations are too many.* 6 setups .* × 3 load levels"):
        expand(huge, resolvers(), "x.yaml")
