"""What is left to measure: nothing twice, unless it is asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.preflight import Again, pending
from models.experiment import Expansion
from models.records import Verdict
from tests.warehouse.fake import measurement_of, requests_of, telemetry_of, trial
from warehouse import bundles


@pytest.mark.parametrize(("again", "left"), [("none", [4]), ("disturbed", [2, 3, 4]), ("all", [0, 1, 2, 3, 4])])
def test_what_is_measured_again(tmp_path: Path, again: Again, left: list[int]) -> None:
    trials = [trial(seed=seed) for seed in range(5)]
    judged = [(), ("not_stationary",), ("host_busy",), ("drift", "client_bound")]
    for one, names in zip(trials, judged, strict=False):
        requests = requests_of(one)
        telemetry = telemetry_of(requests)
        measurement = measurement_of(one, requests, telemetry)
        verdicts = tuple(Verdict(name=n, severity="fatal", detail="as said") for n in names)
        bundles.write(tmp_path, measurement.model_copy(update={"verdicts": verdicts}), requests, telemetry, "a log")
    expansion = Expansion(trials, [])
    assert [t.seed for t in pending(expansion, tmp_path, again).trials] == left
