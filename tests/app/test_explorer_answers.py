"""Choose, Cost, Plan, Quality and Compare's differences without a browser: what they say is what the models say."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from app.views import _ask, _bills, _curve_models, _data, _differences, _levels, _style
from models import slo
from models.choosing.choose import choose
from models.choosing.question import Question
from models.planning import cost
from models.planning.bill import Demand, Rate, bill
from models.planning.calibration import CalibrationRun, news
from models.planning.profile import named
from models.significance import differs
from tests.app.drawn import Draw, charts, publish, words
from tests.warehouse import fake
from tests.warehouse.test_quality import told
from warehouse import calibrations, curves, evidence, reader

WIDE = {"ttft": "5000", "tpot": "1000"}
LIMITS = "ttft_ms_p95<=5000 tpot_ms_p95<=1000"
MODEL = fake.setup().model.name


def test_choose_says_what_choose_answers_and_keeps_it_in_the_address(home: Path, draw: Draw) -> None:
    app = draw("choose", rate="40", **WIDE)
    workload = fake.trial().workload.label
    answer = choose(Question(model=MODEL, workload=workload, request_rate=40, limits=LIMITS), evidence.read(home))
    text = words(app)
    assert answer.sentence in text and answer.best and len(answer.ranked) == 2
    assert app.metric[0].value == str(answer.best.instances)
    table = app.dataframe[0].value
    assert list(table["Instances"]) == [c.instances for c in answer.ranked]
    assert charts(app) == 2
    assert app.query_params["rate"] == "40" and app.query_params["ttft"] == "5000"


def test_choose_asked_with_everything_asks_the_same_in_a_terminal(home: Path, draw: Draw) -> None:
    app = draw("choose", by="users", users="6", kl="0.5", budget="1000", down="1", headroom="20", allowed="cpu",
               limits="e2e_ms_p99<=90000", **WIDE)
    line = next(c.value for c in app.code if str(c.value).startswith("dyno choose"))
    for part in ("--concurrency 6", "--kl-max 0.5", "--budget 1000", "--down 1", "--headroom 0.2", "--hardware cpu",
                 "e2e_ms_p99<=90000"):
        assert part in line
    assert "divergence from the unquantised model was not measured" in " ".join(
        str(v) for t in app.dataframe for v in t.value.to_numpy().flat)


def test_choose_where_nothing_fits_says_so_and_how_to_settle_it(home: Path, draw: Draw) -> None:
    app = draw("choose", ttft="1", tpot="0.1")
    assert "Nothing measured" in words(app)
    assert any("models:" in str(c.value) for c in app.code), "the experiment that would settle it"


@pytest.mark.parametrize(("query", "said"), [
    ({"limits": "ttft_p95<5"}, "there is no metric"), ({"ttft": "-", "tpot": "-"}, "at least one limit"),
    ({"model": "no such model"}, "'no such model' was not measured"),
    ({"rate": "nonsense", "tier": "nonsense", "workload": "nonsense"}, "USD per million output tokens"),
])
def test_choose_bears_whatever_the_address_says(home: Path, draw: Draw, query: dict[str, str], said: str) -> None:
    assert said in words(draw("choose", **(WIDE | query)))


def test_a_question_becomes_its_command() -> None:
    asked = Question(model="8B", input_tokens=800, output_tokens=200, request_rate=2.5, limits="ttft_ms_p95<=500")
    assert _ask.command(asked) == ("dyno choose --model 8B --input-tokens 800 --output-tokens 200 --rate 2.5 "
                                   "--slo 'ttft_ms_p95<=500'")


def test_cost_is_the_bill_and_breaks_even_where_the_formula_says(home: Path, draw: Draw) -> None:
    setup = fake.setup()
    app = draw("cost", setup=setup.setup_id, load="40", profile="consumer", api_in="0.5", api_out="2", **WIDE)
    rows = _data.measured(MODEL, setup.hardware.name).filter(setup_id=setup.setup_id)
    request, levels = _bills.request(rows), _bills.served(rows, slo.parse(LIMITS))
    assert request and isinstance(levels, list)
    one = _bills.best(levels)
    made = bill(one, Demand(mean_per_second=40, profile=named()["consumer"], request=request), Rate(usd_per_hour=0.08))
    hosted = (0.5 * request.input_tokens + 2 * request.output_tokens) / 1e6
    even = cost.break_even(0.08, one.requests_per_second / named()["consumer"].peak_factor, hosted)
    text = words(app)
    assert _style.count(made.instances, "instance") in text and charts(app) == 3
    assert f"break even at **{_style.shown(even.first)} requests a second**" in text
    assert app.query_params["api_out"] == "2"


@pytest.mark.parametrize(("query", "said"), [
    ({"ttft": "1", "tpot": "1"}, "The nearest that is kept"), ({"api": "no-such-model-anywhere"}, "hosted"),
    ({"price": "a price of my own", "usd": "3"}, "3 USD an hour"),
    ({"profile": "24 numbers of my own", "hours": "1 2"}, "give 24"),
    ({"autoscale": "yes", "down": "1", "per": "day"}, "USD a month"),
])
def test_cost_bears_whatever_the_address_says(home: Path, draw: Draw, query: dict[str, str], said: str) -> None:
    assert said in words(draw("cost", **(WIDE | query)))


def _calibrated(home: Path) -> None:
    fits, _ = news({}, curves.curves(home))
    calibrations.write(home, CalibrationRun(at=dt.datetime.now(dt.UTC).isoformat(), dyno_version="0",
                                            calibrations=tuple(fits)))
    publish(home)


@pytest.mark.parametrize("what", ["capacity", "throughput", "tpot", "ttft", "memory"])
def test_plan_holds_every_level_against_measurement(home: Path, draw: Draw, what: str) -> None:
    _calibrated(home)
    app = draw("plan", what=what, **WIDE)
    assert charts(app) == (0 if what == "memory" else 1), "made-up engines tell nothing of their memory"
    fits = reader.query(home, "from calibrations")
    assert len(app.dataframe[-1].value) == fits.height == 6


def test_a_calibrated_prediction_is_made_without_the_point(home: Path) -> None:
    rows = _data.measured(MODEL, fake.MACHINE.name)
    found = _levels.predictions(rows, fake.SHAPE)
    left_out = found.filter((found["level"] == "calibrated") & (found["quantity"] == "throughput"))
    assert set(left_out["concurrency"]) == {4.0}, "the least and the most are not predicted"
    errors = _levels.errors(found)
    rough = errors.filter((errors["quantity"] == "throughput") & (errors["level"] == "rough"))
    assert rough["points"].item() == found.filter(level="rough").height > 0
    assert (found.filter(level="architecture", quantity="throughput")["predicted"]
            > found.filter(level="architecture", quantity="throughput")["measured"]).all(), "a bound"


def test_quality_sets_speed_beside_divergence(home: Path, draw: Draw) -> None:
    assert "asked for its quality yet" in words(draw("quality"))
    told(home, fake.setup(quantization="F16"), 0.0)
    told(home, fake.setup(), 0.1)
    publish(home)
    app = draw("quality", at="4 at once")
    assert charts(app) == 1
    assert {"Q8_0"} <= set(app.dataframe[-1].value["Quantisation"])


def test_differences_are_greyed_unless_intervals_tell_them_apart(home: Path, draw: Draw) -> None:
    app = draw("compare", load="4 at once", **WIDE)
    assert "not significant" in words(app)
    points = _data.measured(MODEL, fake.MACHINE.name).filter(load="4 at once").unique("setup_id", maintain_order=True)
    known = _differences.intervals(points["trial_id"].to_list())
    frame, faint, whole = _differences.table(points, points["setup_id"][0], known)
    one, other = points.to_dicts()[1], points.to_dicts()[0]
    metric = "output_tokens_per_second"
    sure = differs(one[metric], known[one["trial_id"]][metric], other[metric], known[other["trial_id"]][metric])
    assert faint[_style.title(metric)] == [True, sure is not True]
    assert frame[_style.title(metric)].to_list()[1] == pytest.approx(100 * (one[metric] / other[metric] - 1))
    cost_row, rate_row = (next(r for r in whole.to_dicts()[6:] if r["metric"] == m) for m in (
        "usd_per_million_output_tokens", metric))
    assert cost_row["significant"] == rate_row["significant"], "a cost differs as its throughput does"


def test_the_front_holds_what_no_point_beats(home: Path, draw: Draw) -> None:
    from app.views.curves import _points

    points = _points(_data.measured(MODEL, fake.MACHINE.name), "concurrency", "ttft_from_schedule_ms_p95")
    front = _curve_models.front(points)
    for row in points.filter("trusted").to_dicts():
        beaten = points.filter("trusted").filter((points.filter("trusted")["throughput"] > row["throughput"])
                                                 & (points.filter("trusted")["latency"] < row["latency"]))
        if row["trial_id"] in front["trial_id"]:
            assert beaten.is_empty()
    assert front["latency"].is_sorted() and front["throughput"].is_sorted() and front.height


def test_bands_are_the_stored_fits(home: Path) -> None:
    _calibrated(home)
    rows = _data.measured(MODEL, fake.MACHINE.name)
    known = reader.query(home, "from calibrations")
    band = _curve_models.bands(known, rows, "output_tokens_per_second")
    fit = json.loads(known.filter(quantity="throughput")["fit"][0])
    assert band.height == 2 * _curve_models.STEPS and (band["low"] < band["high"]).all()
    assert band["load"].min() == min(p["concurrency"] for p in fit["points"])
    assert _curve_models.bands(known, rows, "ttft_from_schedule_ms_p95").is_empty()


def test_claims_stand_beside_what_was_seen(home: Path, draw: Draw) -> None:
    from flows import capabilities
    from warehouse import writer

    writer.set_engines(home, capabilities.of())
    publish(home)
    text = words(draw("engines", kind="Claims and observations"))
    assert "can be held against measurements here" in text
    assert "two versions" in words(draw("engines", kind="Versions over time"))


def test_runs_are_found_by_words(home: Path, draw: Draw) -> None:
    app = draw("runs", find="llama_cpp.server q4_k_m")
    assert set(app.dataframe[0].value["Setup"].str.contains("Q4_K_M")) == {True}
    assert "3 measurements of 8" in " ".join(t.label for t in app.tabs)
    assert "No run holds all of these words" in words(draw("runs", find="nothing like it"))
