"""Identity of setups and trials."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from models.specs import EngineSpec, HardwareSpec, Lengths, Load, ModelSpec, Setup, Trial, Workload

WORKLOAD = Workload(name="chat", input_tokens=Lengths(mean=100), output_tokens=Lengths(mean=10))
SETUP = Setup(model=ModelSpec(name="m"), engine=EngineSpec(engine="llama_cpp"), hardware=HardwareSpec(name="here"))
TRIAL = Trial(setup=SETUP, workload=WORKLOAD, load=Load(concurrency=4))


def test_the_same_question_is_the_same_trial() -> None:
    again = Trial.model_validate_json(TRIAL.model_dump_json())
    assert again.trial_id == TRIAL.trial_id and len(TRIAL.trial_id) == 16


def test_identity_is_stable_across_versions_of_dyno() -> None:
    """Results on disk are found by these: a change here orphans what people have measured."""
    assert (SETUP.setup_id, TRIAL.trial_id) == ("50faef6bf36e4166", "8b4de935adb92695")


@pytest.mark.parametrize("change", [
    {"seed": 1}, {"repeat": 1}, {"load": Load(concurrency=5)}, {"load": Load(request_rate=4)},
    {"workload": WORKLOAD.model_copy(update={"input_scale": 0.5})},
    {"setup": SETUP.model_copy(update={"engine": EngineSpec(engine="llama_cpp", quantization="Q8_0")})},
])
def test_what_changes_the_measurement_changes_the_id(change: dict[str, object]) -> None:
    assert Trial.model_validate({**dict(TRIAL), **change}).trial_id != TRIAL.trial_id


def test_a_description_does_not_change_the_id() -> None:
    described = WORKLOAD.model_copy(update={"description": "talk", "source": "somewhere"})
    assert TRIAL.model_copy(update={"workload": described}).model_copy().workload.name == "chat"
    assert Trial(setup=SETUP, workload=described, load=TRIAL.load).trial_id == TRIAL.trial_id


@pytest.mark.parametrize(("build", "says"), [
    (lambda: Load(concurrency=1, request_rate=1), "either concurrency"),
    (Load, "either concurrency"),
    (lambda: Load(request_rate=-1), "greater than 0"),
    (lambda: Lengths(distribution="lognormal", mu=1), "needs sigma"),
    (lambda: Lengths(mean=1, min=5, max=2), "above max"),
    (lambda: EngineSpec.model_validate({"engine": "x", "quantisation": "Q8_0"}), "Extra inputs"),
])
def test_bad_values_are_refused(build: object, says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        build()  # type: ignore[operator]
