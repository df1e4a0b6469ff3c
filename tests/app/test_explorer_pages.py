"""The explorer's pages without a browser: every state of a warehouse, from none to bad input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import _streamlit
from app.views import _frame, _style
from models import planner, slo
from models.errors import UserError
from models.records import Warmup
from models.summary import LATENCIES, RATES, STATISTICS, TOTALS, summarise
from tests.app.drawn import TIMEOUT_S, charts, publish, words
from tests.warehouse import fake
from tests.warehouse.test_quality import told
from warehouse import bundles, reader

LIMITS = slo.parse("ttft_ms_p95<=500 tpot_ms_p95<=50")


def test_quality_stands_beside_speed_once_it_is_known(home: Path, draw: Callable[..., AppTest]) -> None:
    def columns() -> list[str]:
        return list(draw("compare").dataframe[0].value.columns)
    assert "KL nats" not in columns()
    told(home, fake.setup(quantization="F16"), 0.0)
    told(home, fake.setup(), 0.1)
    publish(home)
    assert {"KL nats", "Same token"} <= set(columns())


def test_compare_says_the_answer_that_the_planner_gives(home: Path, draw: Callable[..., AppTest]) -> None:
    text = words(draw("compare"))
    rows = reader.query(home, "from measurements").to_dicts()
    best = next(r for r in rows if r["trial_id"] == planner.cheapest(rows, LIMITS).best)
    assert f"{_style.shown(best['usd_per_million_output_tokens'])} USD per million output tokens" in text
    assert "8 measurements of 2 setups" in text and "1 launch failed" in text


def test_compare_at_a_load_greys_what_misses_and_marks_the_best(home: Path, draw: Callable[..., AppTest]) -> None:
    app = draw("compare", load="4 at once", ttft="200")
    table = app.dataframe[0].value
    assert list(table["Engine"]) == ["llama-server", "llama_cpp.server"]
    assert list(table["Limits"]) == ["kept", "misses TTFT"]
    assert list(table["Repeats"]) == [2, 1]
    assert app.query_params["load"] == "4 at once" and app.query_params["ttft"] == "200"


def test_limits_nobody_keeps_are_said(home: Path, draw: Callable[..., AppTest]) -> None:
    assert "all 8 points miss them" in words(draw("compare", ttft="1"))


def test_without_a_price_the_fastest_is_named(tmp_path: Path, draw: Callable[..., AppTest]) -> None:
    path = fake.store(tmp_path / "home")
    publish(tmp_path / "home", price=False)
    text = words(draw("compare"))
    assert "dyno prices" in text and path.name in text


@pytest.mark.parametrize("query", [{}, {"latency": "itl_ms", "statistic": "p99", "scale": "log"},
                                   {"axis": "request_rate"}, {"latency": "nonsense", "ttft": "not a number"}])
def test_curves_draw_whatever_the_address_says(home: Path, draw: Callable[..., AppTest], query: dict[str, str]) -> None:
    app = draw("curves", **query)
    assert charts(app) == 4


def test_a_run_is_shown_down_to_its_log(home: Path, draw: Callable[..., AppTest]) -> None:
    trial_id = fake.trial(concurrency=8).trial_id
    app = draw("runs", trial=trial_id[:6])
    text = words(app)
    row = reader.query(home, "from measurements where trial_id = ?", [trial_id]).to_dicts()[0]
    assert f"trial {trial_id}" in text and "OMP_WAIT_POLICY=passive llama-server -np 4" in text
    assert "ready" in text and "requests failed" in text
    assert app.metric[0].value == f"{_style.shown(row['ttft_from_schedule_ms_p95'])} ms"
    assert app.query_params["trial"] == trial_id


def test_a_run_whose_bundle_is_gone_still_shows_its_numbers(home: Path, draw: Callable[..., AppTest]) -> None:
    trial_id = fake.trial(concurrency=8).trial_id
    (home / "bundles" / trial_id / "telemetry.parquet").unlink()
    text = words(draw("runs", trial=trial_id))
    assert "telemetry.parquet: is missing" in text and f"trial {trial_id}" in text


def test_a_run_says_what_was_taken_for_warm_up(tmp_path: Path, draw: Callable[..., AppTest]) -> None:
    trial, cut = fake.trial(concurrency=2), Warmup(method="MSER-5", requests=7, seconds=1.25, because=("TTFT", "TPOT"))
    fake.store(tmp_path / "home", trial, warmup=cut)
    publish(tmp_path / "home")
    assert "first 7 measured requests, 1.25 s, were still warming up by TTFT and TPOT (MSER-5)" in words(draw("runs"))


def test_everything_that_is_summarised_has_a_name_for_people(home: Path, draw: Callable[..., AppTest]) -> None:
    metrics = {*RATES, *TOTALS, *(f"{m}_{s}" for m in LATENCIES for s in STATISTICS)}
    assert metrics >= set(summarise(fake.requests_of(fake.trial())).metrics)
    names = [_style.title(m) for m in metrics]
    assert len(set(names)) == len(names) and not [n for n in names if "_" in n]
    shown = draw("runs", trial=fake.trial(concurrency=8).trial_id)
    cells = {str(v) for table in shown.dataframe for v in table.value.to_numpy().flat}
    assert "Answers that obey their schema, share" in cells


def test_an_unknown_trial_is_said(home: Path, draw: Callable[..., AppTest]) -> None:
    assert "No trial begins with zzz" in words(draw("runs", trial="zzz"))


def test_sql_answers_examples_and_explains_mistakes(home: Path, draw: Callable[..., AppTest]) -> None:
    from app.views.sql import EXAMPLES

    for title, sql in EXAMPLES.items():
        app = draw("sql", q=sql)
        assert not app.error, f"{title}: {app.error}"
    assert draw("sql", q="select count(*) as n from requests").dataframe[0].value["n"][0] == reader.query(
        home, "select count(*) as n from requests")["n"][0]
    assert "Did you mean measurements" in words(draw("sql", q="from measurments"))
    assert "DROP is refused" in words(draw("sql", q="drop table trials"))


@pytest.mark.parametrize("page", ["choose", "compare", "cost", "curves", "plan", "quality", "runs"])
def test_a_warehouse_of_failures_only_shows_them(tmp_path: Path, draw: Callable[..., AppTest], page: str) -> None:
    bundles.write_failure(tmp_path / "home", fake.failure(), None)
    publish(tmp_path / "home")
    assert "exited before it was ready" in words(draw(page))


def test_before_anything_is_published_it_says_how(tmp_path: Path) -> None:
    app = AppTest.from_file(str(_streamlit.SCRIPT), default_timeout=TIMEOUT_S).run()
    assert not app.exception and [c.value for c in app.code] == ["make run", "dyno evaluate my-experiment.yaml"]


def test_every_engine_keeps_its_colour() -> None:
    assert _style.colour("vllm") == _style.COLOURS["vllm"]
    assert _style.colour("a fifth engine") == _style.colour("a fifth engine") in _style.OTHERS
    scale = _style.colours(["vllm", "llama-server", "vllm"])
    assert scale.domain == ["llama-server", "vllm"] and scale.range == [_style.colour("llama-server"),
                                                                     _style.colour("vllm")]


@pytest.mark.parametrize(("value", "text"), [(None, "—"), (float("nan"), "—"), (0.0530, "0.0530"), (12.0, "12.0"),
                                             (118.4, "118"), (2477.4, "2 477"), (3, "3"), (0.00012, "0.00012")])
def test_digits_are_sensible(value: object, text: str) -> None:
    assert _style.shown(value) == text


def test_of_repeats_the_median_trial_stands_for_all(home: Path) -> None:
    rows = reader.query(home, "from measurements where concurrency = 4 and variant = 'llama-server'")
    typical = _frame.typical(rows)
    assert typical.height == 1 and typical["repeats"].item() == 2 and typical["trial_id"].item() in rows["trial_id"]


def test_the_command_is_on_loopback_and_says_nothing_home(tmp_path: Path) -> None:
    argv, environment = _streamlit.command(tmp_path, 8599)
    assert {"--server.address=127.0.0.1", "--server.port=8599", "--browser.gatherUsageStats=false",
            "--server.headless=true"} <= set(argv)
    assert environment == {"DYNO_HOME": str(tmp_path)}


def test_a_port_in_use_is_named() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"port {port} is in use"):
            _streamlit.run(port, browser=False)
