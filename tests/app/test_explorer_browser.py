"""Each of the explorer's views in a real browser, on a warehouse that real servers were measured into."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import polars as pl
import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from app import _streamlit
from app.views import _style
from models import planner, slo
from models.choosing.answer import Answer
from models.choosing.choose import choose
from models.choosing.question import Question
from tests.warehouse import fake
from tests.warehouse.test_quality import told
from warehouse import evidence, reader, writer

pytestmark = [pytest.mark.engine, pytest.mark.browser]

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]
START_S, WAIT_MS = 60, 30_000
Rows = list[dict[str, Any]]
TEXT = "ttft_ms_p95<=5000 tpot_ms_p95<=1000"
LIMITS = slo.parse(TEXT)
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
def home(demo_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was measured, and beside it two made-up setups whose quality was asked for."""
    home = tmp_path_factory.mktemp("explored") / "home"
    shutil.copytree(demo_home, home)
    for format_, itl_ms in (("F16", 9.0), ("Q8_0", 6.0)):
        for users in (1, 4):
            fake.store(home, fake.trial(fake.setup(quantization=format_), concurrency=users), itl_ms=itl_ms * users)
    told(home, fake.setup(quantization="F16"), 0.0)
    told(home, fake.setup(), 0.1)
    writer.ingest(home)
    writer.publish(home)
    return home


@pytest.fixture(scope="module")
def explorer(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The explorer on the measured warehouse; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    argv, environment = _streamlit.command(home, port)
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


PROBES = ("/_stcore/host-config", "/_stcore/health")
"""Streamlit looks for itself below a page's own path first; that these are not found there is no error of a page."""


def watched(page: Page) -> list[str]:
    """What goes wrong on a page from now on: errors in the console, exceptions."""
    wrong: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if message.type == "error" and not message.location["url"].endswith(PROBES):
            wrong.append(message.text)
    page.on("console", heard)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    return wrong


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page; afterwards nothing on it may have failed."""
    page = chromium.new_page(viewport={"width": 1400, "height": 1100})
    page.set_default_timeout(WAIT_MS)
    expect.set_options(timeout=WAIT_MS)
    wrong = watched(page)
    yield page
    assert page.get_by_test_id("stException").all_inner_texts() == [] and wrong == []
    page.close()


def reopened(page: Page) -> Page:
    """What somebody else sees who is sent the address of a page."""
    browser = page.context.browser
    assert browser
    other = browser.new_page(viewport={"width": 1400, "height": 1100})
    other.set_default_timeout(WAIT_MS)
    other.goto(page.url)
    return other


def drawn(page: Page) -> None:
    """Waits until the page is drawn to its end."""
    page.wait_for_selector("[data-testid=stApp][data-test-script-state=notRunning]")


FOCUSED = "(e => e.ariaLabel || e.innerText?.slice(0, 40) || e.tagName)(document.activeElement)"


def tab_to(page: Page, label: str) -> None:
    """Presses Tab until what has that label is focused. A page that is drawn anew meanwhile may be passed over: then
    once more from its top, as a person would."""
    passed: list[str] = []
    for _ in range(2 * 40):
        if len(passed) == 40:
            page.get_by_text("Skip to main content").focus()
        page.keyboard.press("Tab")
        passed.append(page.evaluate(FOCUSED))
        if passed[-1] == label:
            return
    pytest.fail(f"no way to {label} by the Tab key, which passed {passed}")


def downloaded(page: Page, button: str, at: int = 0) -> str:
    """Text of the file behind a button, once the page is drawn to its end."""
    drawn(page)
    shown = page.get_by_test_id("stDownloadButton").get_by_text(button, exact=True).locator("visible=true")
    with page.expect_download() as found:
        shown.nth(at).click()
    return found.value.path().read_text()


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


def answered(home: Path, rows: Rows, **asked: Any) -> Answer:
    """What the explorer must say."""
    question = Question(model=rows[0]["model"], workload=rows[0]["workload"], limits=TEXT, **asked)
    return choose(question, evidence.read(home, rows[0]["model"]))


def test_choose_answers_a_question_and_its_link_gives_the_same_answer(page: Page, explorer: str, home: Path,
                                                                      rows: Rows) -> None:
    page.goto(explorer + "/" + WIDE)
    first = answered(home, rows, request_rate=2)
    expect(page.get_by_role("heading", name=first.sentence)).to_be_visible()
    load = 3 * first.ranked[0].capacity.value
    page.get_by_role("spinbutton", name="Requests a second").fill(f"{load:g}")
    page.get_by_role("spinbutton", name="Requests a second").press("Enter")
    answer = answered(home, rows, request_rate=float(f"{load:g}"))
    assert answer.best and answer.best.instances >= 3
    expect(page.get_by_role("heading", name=answer.sentence)).to_be_visible()
    expect(page.get_by_test_id("stMetricValue").first).to_have_text(str(answer.best.instances))
    expect(page.locator("svg.marks")).to_have_count(2)
    assert tabled(page, answer.best.usd_per_month, answer.best.capacity.value)
    assert json.loads(downloaded(page, "Answer as JSON"))["sentence"] == answer.sentence
    table = pl.read_csv(downloaded(page, "CSV").encode())
    assert table["instances"].to_list() == [c.instances for c in answer.ranked]
    other = reopened(page)
    expect(other.get_by_role("heading", name=answer.sentence)).to_be_visible()
    other.close()


def test_choose_is_asked_by_keyboard(page: Page, explorer: str, home: Path, rows: Rows) -> None:
    page.goto(explorer + "/" + WIDE)
    expect(page.get_by_role("heading", name=answered(home, rows, request_rate=2).sentence)).to_be_visible()
    expect(page.get_by_label("Requests a second", exact=True)).to_be_visible()
    drawn(page)
    tab_to(page, "Requests a second")
    page.keyboard.press("Control+A")
    page.keyboard.type("1")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=answered(home, rows, request_rate=1).sentence)).to_be_visible()
    page.wait_for_url("**rate=1&**")


def test_cost_breaks_even_with_a_price_that_is_typed_in(page: Page, explorer: str) -> None:
    page.goto(explorer + "/cost" + WIDE + "&load=2")
    expect(page.get_by_text("USD per million output tokens").first).to_be_visible()
    page.get_by_text("Beside a hosted API").click()
    page.get_by_role("spinbutton", name="USD per M output tokens").fill("50")
    page.get_by_role("spinbutton", name="USD per M output tokens").press("Enter")
    said = page.get_by_text("break even at")
    expect(said).to_be_visible()
    expect(page.locator("svg.marks")).to_have_count(3)
    text = said.inner_text()
    assert "usd_per_month" in downloaded(page, "CSV", 2)
    other = reopened(page)
    expect(other.get_by_text(text)).to_be_visible()
    other.close()


def test_plan_holds_levels_against_measurement(page: Page, explorer: str, rows: Rows) -> None:
    page.goto(explorer + "/plan" + WIDE)
    expect(page.get_by_text("Calibrated curves in use")).to_be_visible()
    expect(page.locator("svg.marks")).to_have_count(1)
    assert tabled(page, "throughput", "TTFT")
    press(page, "Throughput")
    expect(page.get_by_text("predicted against measured")).to_be_visible()
    trusted = [r for r in rows if not r["fatal"]]
    expect(page.locator("svg [aria-label*='level: rough']")).to_have_count(len(trusted))
    found = pl.read_csv(downloaded(page, "CSV").encode())
    assert set(found["level"]) >= {"rough", "architecture"}
    other = reopened(page)
    expect(other.get_by_text("predicted against measured")).to_be_visible()
    other.close()


def test_quality_draws_speed_against_divergence(page: Page, explorer: str, home: Path) -> None:
    page.goto(f"{explorer}/quality?model={fake.setup().model.name}&at=4+at+once")
    expect(page.locator("svg.marks")).to_have_count(1)
    expect(page.locator("svg [aria-label*='Q8_0']").first).to_be_attached()
    assert "kl_nats" in downloaded(page, "CSV")
    known = reader.query(home, "from quality where model = ? and not is_reference", [fake.setup().model.name])
    assert tabled(page, *known["kl_nats"], *known["kl_nats_high"])
    page.get_by_label("Quality").first.click()
    page.get_by_role("option", name="Same likeliest token, share").click()
    page.wait_for_url("**measure=top1_agreement*")
    other = reopened(page)
    expect(other.locator("svg [aria-label*='Same likeliest token, share']").first).to_be_attached()
    other.close()


def test_compare_names_the_cheapest_and_tables_every_setup(page: Page, explorer: str, rows: Rows) -> None:
    page.goto(explorer + "/compare" + WIDE)
    answer = planner.cheapest(rows, LIMITS)
    best = next(r for r in rows if r["trial_id"] == answer.best)
    cost = _style.shown(best["usd_per_million_output_tokens"])
    expect(page.get_by_text(f"{cost} USD per million output tokens")).to_be_visible()
    expect(page.get_by_text(f"From trial {best['trial_id']}")).to_be_visible()
    assert tabled(page, best["output_tokens_per_second"], best["ttft_from_schedule_ms_p95"])
    press(page, "4 at once")
    assert tabled(page, *(r["tpot_ms_p95"] for r in rows if r["concurrency"] == 4))
    page.wait_for_url("**load=4+at+once**")
    found = pl.read_csv(downloaded(page, "CSV").encode())
    assert set(found["trial_id"]) <= {r["trial_id"] for r in rows if r["concurrency"] == 4}
    other = reopened(page)
    assert tabled(other, *(r["tpot_ms_p95"] for r in rows if r["concurrency"] == 4))
    expect(other.get_by_text("Differences, in percent")).to_be_visible()
    other.close()


def test_curves_draw_every_point_at_the_chosen_percentile(page: Page, explorer: str, rows: Rows) -> None:
    page.goto(explorer + "/curves?statistic=p50")
    expect(page.locator("svg.marks")).to_have_count(4)
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
    assert downloaded(page, "Log") == bundle.engine_log
    page.get_by_role("textbox", name="Find").fill("no run is called this")
    page.get_by_role("textbox", name="Find").press("Enter")
    expect(page.get_by_text("No run holds all of these words")).to_be_visible()


def test_sql_answers_from_the_address_and_from_the_editor(page: Page, explorer: str, home: Path) -> None:
    count = reader.query(home, "select count(*) as n from requests")["n"].item()
    page.goto(explorer + "/sql?q=" + quote("select count(*) as requests from requests"))
    assert tabled(page, count)
    editor = page.locator("textarea")
    editor.fill("from measurments")
    editor.press("Control+Enter")
    expect(page.get_by_text("Did you mean measurements")).to_be_visible()
    editor.fill("select trial_id from measurements order by output_tokens_per_second desc limit 1")
    editor.press("Control+Enter")
    fastest = reader.query(home, "from measurements order by output_tokens_per_second desc")["trial_id"][0]
    assert tabled(page, fastest)
    editor.fill("select quantization, count(*) as n from measurements group by all")
    editor.press("Control+Enter")
    expect(page.locator("svg.marks")).to_have_count(1)
    assert "quantization,n" in downloaded(page, "CSV")
    other = reopened(page)
    expect(other.locator("svg.marks")).to_have_count(1)
    other.close()


def test_engines_says_what_each_can_do_and_which_version_was_measured(page: Page, explorer: str, rows: Rows) -> None:
    page.goto(explorer + "/engines?kind=Batching")
    expect(page.locator("table.can th")).to_contain_text(["llama-server", "llama_cpp.server"])
    expect(page.get_by_text("llama.cpp sets aside what the context needs")).to_be_visible()
    server = [r for r in rows if r["variant"] == "llama-server"]
    page.wait_for_function("wanted => document.body.innerHTML.includes(wanted)",
                           arg=f"{server[0]['engine_version']} ({len(server)} trials)")
    press(page, "Quantisations")
    expect(page.locator("table.can td").get_by_text("Q4_K_M")).to_be_visible()
    press(page, "Claims and observations")
    expect(page.locator("table.claims")).to_contain_text("for low concurrency")
    expect(page.locator("table.claims")).to_contain_text("requests answered whole")
    assert "continuous batching" in downloaded(page, "CSV", 1)
    other = reopened(page)
    expect(other.locator("table.claims")).to_be_visible()
    other.close()


def test_a_row_leads_to_its_run(page: Page, explorer: str, rows: Rows) -> None:
    page.goto(explorer + "/compare" + WIDE)
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
    for view, sign in (("", "How much of it"), ("compare", "output tokens"), ("curves", "against load"),
                       ("cost", "Setup"), ("plan", "Calibrated curves"), ("quality", "quality"),
                       ("engines", "openai_api"), ("runs", "Requests in time"), ("sql", "Run")):
        page.goto(f"{explorer}/{view}")
        expect(page.get_by_test_id("stMainBlockContainer").get_by_text(sign).first).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, view
