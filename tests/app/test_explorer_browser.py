"""Each of the explorer's five views in a real browser, against a warehouse that real servers were measured into."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from app import _streamlit
from app.views import _style
from models import planner, slo
from warehouse import reader

pytestmark = [pytest.mark.engine, pytest.mark.browser]

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
START_S, WAIT_MS = 60, 30_000
Rows = list[dict[str, Any]]
LIMITS = slo.parse("ttft_ms_p95<=5000 tpot_ms_p95<=1000")
WIDE = "?ttft=5000&tpot=1000"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
    if path is None:
        reason = "no chromium on PATH: apt-get install chromium"
        if os.environ.get("DYNO_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def explorer(demo_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The explorer on the measured warehouse; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    argv, environment = _streamlit.command(demo_home, port)
    log = tmp_path_factory.mktemp("explorer") / "streamlit.log"
    with log.open("wb") as out, subprocess.Popen(argv, env={**os.environ, **environment}, stdout=out,
                                                 stderr=subprocess.STDOUT) as process:
        try:
            _until_it_listens(port, process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def _until_it_listens(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"the explorer did not start:\n{log.read_text()}")


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page; afterwards nothing on it may have failed."""
    page = chromium.new_page(viewport={"width": 1400, "height": 1100})
    page.set_default_timeout(WAIT_MS)
    expect.set_options(timeout=WAIT_MS)
    yield page
    assert page.get_by_test_id("stException").all_inner_texts() == []
    page.close()


@pytest.fixture(scope="module")
def rows(demo_home: Path) -> Rows:
    found = reader.query(demo_home, "from measurements order by started_at desc").to_dicts()
    assert found
    return found


SHOWN = """wanted => {
    const cells = [...document.querySelectorAll("[role=gridcell]")].map(cell => cell.textContent);
    const same = (cell, value) => cell === String(value) ||
        (cell.trim() !== "" && Math.abs(Number(cell) - Number(value)) <= 1e-9 * Math.abs(Number(value)));
    return wanted.every(value => cells.some(cell => same(cell, value)));
}"""


def tabled(page: Page, *values: object) -> bool:
    """Waits until the page's tables hold these, numbers in full, as assistive technology reads them."""
    page.wait_for_function(SHOWN, arg=list(values), timeout=WAIT_MS)
    return True


def press(page: Page, choice: str) -> None:
    """Presses one of a row of buttons."""
    page.get_by_test_id("stButtonGroup").get_by_text(choice, exact=True).click()


def test_compare_names_the_cheapest_and_tables_every_setup(page: Page, explorer: str, rows: Rows) -> None:
    page.goto(explorer + "/" + WIDE)
    answer = planner.cheapest(rows, LIMITS)
    best = next(r for r in rows if r["trial_id"] == answer.best)
    cost = _style.shown(best["usd_per_million_output_tokens"])
    expect(page.get_by_text(f"{cost} USD per million output tokens")).to_be_visible()
    expect(page.get_by_text(f"From trial {best['trial_id']}")).to_be_visible()
    assert tabled(page, best["output_tokens_per_second"], best["ttft_from_schedule_ms_p95"])
    press(page, "4 at once")
    assert tabled(page, *(r["tpot_ms_p95"] for r in rows if r["concurrency"] == 4))
    assert "load=4+at+once" in page.evaluate("location.href"), "the address holds the choice"


def test_curves_draw_every_point_at_the_chosen_percentile(page: Page, explorer: str, rows: Rows) -> None:
    page.goto(explorer + "/curves?statistic=p50")
    expect(page.locator("svg.marks")).to_have_count(3)
    for row in rows:
        point = page.locator(f"svg [aria-label*='Trial: {row['trial_id']}']")
        expect(point).to_have_count(3)
        labels = " ".join(point.nth(i).get_attribute("aria-label") or "" for i in range(3))
        assert f"Output tok/s: {_style.shown(row['output_tokens_per_second'])};" in labels
        assert f"Latency ms: {_style.shown(row['ttft_from_schedule_ms_p50'])};" in labels
    press(page, "p99")
    expect(page.get_by_text("TTFT p99 ms against load")).to_be_visible()
    slowest = max(rows, key=lambda r: r["ttft_from_schedule_ms_p99"])
    expect(page.locator(f"svg [aria-label*='Latency ms: {_style.shown(slowest['ttft_from_schedule_ms_p99'])};']").first
           ).to_be_attached()


def test_a_run_goes_down_to_its_requests_and_log(page: Page, explorer: str, demo_home: Path,
                                                 rows: Rows) -> None:
    row = rows[-1]
    page.goto(explorer + f"/runs?trial={row['trial_id']}")
    expect(page.get_by_text(f"trial {row['trial_id']}").first).to_be_visible()
    expect(page.get_by_test_id("stMetricValue").first).to_have_text(
        f"{_style.shown(row['ttft_from_schedule_ms_p95'])} ms")
    requests = reader.requests(demo_home, row["trial_id"])
    expect(page.locator("svg [aria-label*='stage: decoding']").first).to_be_attached()
    bars = page.locator("svg [aria-label*='stage: to the first token']").all()
    assert len(bars) == requests["first_token_ns"].is_not_null().sum()
    first = requests.row(0, named=True)
    assert tabled(page, (first["done_ns"] - first["planned_ns"]) / 1e6)
    bundle = reader.bundle_of(demo_home, row["trial_id"])
    expect(page.get_by_test_id("stCode").first).to_contain_text(bundle.measurement.run.argv[-1])
    expect(page.get_by_test_id("stCode").last).to_contain_text(bundle.engine_log.strip().splitlines()[-1].strip())


def test_sql_answers_from_the_address_and_from_the_editor(page: Page, explorer: str, demo_home: Path) -> None:
    count = reader.query(demo_home, "select count(*) as n from requests")["n"].item()
    page.goto(explorer + "/sql?q=" + quote("select count(*) as requests from requests"))
    assert tabled(page, count)
    editor = page.locator("textarea")
    editor.fill("from measurments")
    editor.press("Control+Enter")
    expect(page.get_by_text("Did you mean measurements")).to_be_visible()
    editor.fill("select trial_id from measurements order by output_tokens_per_second desc limit 1")
    editor.press("Control+Enter")
    fastest = reader.query(demo_home, "from measurements order by output_tokens_per_second desc")["trial_id"][0]
    assert tabled(page, fastest)


def test_engines_says_what_each_can_do_and_which_version_was_measured(page: Page, explorer: str, rows: Rows) -> None:
    page.goto(explorer + "/engines?kind=Batching")
    expect(page.locator("table.can th")).to_contain_text(["llama-server", "llama_cpp.server"])
    expect(page.get_by_text("llama.cpp sets aside what the context needs")).to_be_visible()
    server = [r for r in rows if r["variant"] == "llama-server"]
    page.wait_for_function("wanted => document.body.innerHTML.includes(wanted)",
                           arg=f"{server[0]['engine_version']} ({len(server)} trials)")
    press(page, "Quantisations")
    expect(page.locator("table.can td").get_by_text("Q4_K_M")).to_be_visible()


def test_a_row_leads_to_its_run(page: Page, explorer: str, rows: Rows) -> None:
    page.goto(explorer + "/" + WIDE)
    assert tabled(page, rows[0]["engine"] if rows[0]["variant"] is None else rows[0]["variant"])
    box = page.get_by_test_id("stDataFrame").first.bounding_box()
    assert box
    page.mouse.click(box["x"] + 16, box["y"] + 50)
    page.get_by_text("Open the run:").click()
    expect(page.get_by_text("Requests in time")).to_be_visible()
    page.wait_for_url("**/runs?trial=*")
    assert page.evaluate("location.href").split("trial=")[1] in {r["trial_id"] for r in rows}


def test_nothing_is_wider_than_a_phone(page: Page, explorer: str) -> None:
    page.set_viewport_size({"width": 390, "height": 800})
    for view, sign in (("", "output tokens"), ("curves", "against load"), ("runs", "Requests in time"), ("sql", "Run"),
                       ("engines", "openai_api")):
        page.goto(f"{explorer}/{view}")
        expect(page.get_by_test_id("stMainBlockContainer").get_by_text(sign).first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, view
