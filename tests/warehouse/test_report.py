"""Reports: what they say is what was measured; the HTML needs nothing but itself."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from models.choosing.choose import choose
from models.choosing.question import Question
from models.shown import figure, within
from models.specs import Price
from tests.warehouse import fake
from warehouse import bundles, evidence, reader, report, writer
from warehouse._blocks import Chart, Document, Table, Text

LIMITS = "ttft_ms_p95<=500 tpot_ms_p95<=40"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two setups at three loads, priced."""
    home = tmp_path_factory.mktemp("report")
    for of in (fake.setup(), fake.setup(quantization="<F16>")):
        for users in (1, 4, 8):
            fake.store(home, fake.trial(of, concurrency=users))
    writer.ingest(home)
    writer.set_price(home, Price(hardware=fake.MACHINE.name, price_usd_per_hour=0.12, tier="own", date="2026-11-01",
                                 source="our bill"))
    writer.publish(home)
    return home


@pytest.fixture(scope="module")
def documents(home: Path) -> dict[str, Document]:
    ids = reader.query(home, "from measurements order by trial_id")["trial_id"].to_list()
    answer = choose(Question(model="synthetic-llama-110m", workload="chat", concurrency=4, limits=LIMITS),
                    evidence.read(home))
    return {"run": report.of_trial(home, ids[0]),
            "evaluation": report.of_points(home, "mine & yours", [*ids, "0" * 16], LIMITS, "name: mine\n",
                                           [("vllm AWQ", "engine.quantization: not on a CPU")]),
            "answer": report.of_answer(home, answer)}


def test_a_run_says_what_its_measurement_says(home: Path, documents: dict[str, Document]) -> None:
    text = report.markdown(documents["run"])
    trial = reader.query(home, "from measurements order by trial_id")["trial_id"][0]
    m = bundles.read_measurement(home, trial)
    low, high = m.summary.intervals["tpot_ms_p95"]
    for said in (trial, m.run.engine_version, within(m.summary.metrics["tpot_ms_p95"], low, high), "llama-server -np 4",
                 "our bill", "2026-11-01", *(v.detail for v in m.verdicts)):
        assert said.replace("*", "\\*") in text, said


def test_an_evaluation_has_every_point_and_what_is_missing(home: Path, documents: dict[str, Document]) -> None:
    rows = reader.query(home, "from measurements").to_dicts()
    blocks = documents["evaluation"].blocks
    points = next(b for b in blocks if isinstance(b, Table) and "trial" in b.columns)
    assert {row[points.columns.index("trial")] for row in points.rows} == {r["trial_id"] for r in rows}
    cheapest = min(r["usd_per_million_output_tokens"] for r in rows)
    assert any(isinstance(b, Text) and b.strong and figure(cheapest) in b.text for b in blocks)
    text = report.markdown(documents["evaluation"])
    assert "1 points have no measurement yet" in text and "not on a CPU" in text and "name: mine" in text
    assert sum(isinstance(b, Chart) for b in blocks) == 4


def test_an_answer_has_its_sentence_and_basis(documents: dict[str, Document]) -> None:
    text = report.markdown(documents["answer"])
    assert "measured" in text and "USD a month" in text and "our bill" in text


class Outside(HTMLParser):
    """Collects what a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [f"{tag} {value}" for name, value in attrs if name in ("src", "href") and value != "data:,"]
        self.found += [tag] if tag in ("script", "iframe", "object") else []


@pytest.mark.parametrize("name", ["run", "evaluation", "answer"])
def test_the_file_refers_to_nothing_and_escapes_what_it_shows(documents: dict[str, Document], name: str) -> None:
    text = report.html(documents[name])
    parser = Outside()
    parser.feed(text)
    assert parser.found == [] and "url(" not in re.sub(r"url\(#", "", text)
    assert "<F16>" not in text and text.count("<svg") == sum(isinstance(b, Chart) for b in documents[name].blocks)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    path = next((p for n in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(n))), None)
    if path is None:
        reason = "no chromium on PATH: apt-get install chromium"
        if os.environ.get("DYNO_REQUIRE_BROWSER") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["run", "evaluation", "answer"])
def test_a_browser_without_network_shows_it_whole(chromium: Browser, documents: dict[str, Document], tmp_path: Path,
                                                  name: str, scheme: str) -> None:
    file = tmp_path / "report.html"
    file.write_text(report.html(documents[name]))
    context = chromium.new_context(color_scheme=scheme, viewport={"width": 390, "height": 800}, offline=True)
    page = context.new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(file.as_uri())
    assert page.locator("h1").inner_text() == documents[name].title
    assert page.locator("svg").count() == sum(isinstance(b, Chart) for b in documents[name].blocks) > 0
    assert all(box and box["height"] > 50 for box in (s.bounding_box() for s in page.locator("figure svg").all()))
    assert page.evaluate("document.documentElement.scrollWidth") <= 390, "nothing is wider than a phone"
    ink = page.evaluate("getComputedStyle(document.querySelector('svg')).color")
    assert (ink == "rgb(255, 255, 255)") == (scheme == "dark"), "charts are drawn in the text's colour"
    assert asked == [file.as_uri()] and said == []
    context.close()
