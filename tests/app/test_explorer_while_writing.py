"""Two people use the explorer while an evaluation writes: no error, and new results appear without a restart."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from app import _streamlit
from tests.warehouse import fake
from warehouse import writer

pytestmark = pytest.mark.browser

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
WALK = ("compare", "runs", "curves", "choose", "sql", "cost")
PUBLISHED, START_S, WAIT_MS = 15, 60, 60_000
WRONG = ("cannot be read", "lock", "Traceback", "IO Error", "Catalog Error")


def publish(home: Path, seed: int) -> None:
    fake.store(home, fake.trial(requests=8, seed=seed))
    writer.ingest(home)
    writer.publish(home)


@pytest.fixture
def browser() -> Iterator[Browser]:
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


@pytest.fixture
def explorer(tmp_path: Path) -> Iterator[str]:
    """The explorer on a home with one measurement; yields its address. Its own log must stay without an error."""
    publish(tmp_path / "home", 0)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    argv, environment = _streamlit.command(tmp_path / "home", port)
    log = tmp_path / "streamlit.log"
    with log.open("wb") as out, subprocess.Popen(argv, env={**os.environ, **environment}, stdout=out,
                                                 stderr=subprocess.STDOUT) as process:
        try:
            deadline = time.monotonic() + START_S
            while time.monotonic() < deadline and process.poll() is None:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.2)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
    assert "Error" not in log.read_text() and "Traceback" not in log.read_text()


def whole(page: Page) -> None:
    """Nothing on the page has failed."""
    main = page.get_by_test_id("stMainBlockContainer")
    expect(main).to_be_visible(timeout=WAIT_MS)
    assert page.get_by_test_id("stException").all_inner_texts() == []
    for text in page.get_by_test_id("stAlert").all_inner_texts():
        assert not [w for w in WRONG if w in text], text


def test_two_people_read_while_results_come_in(browser: Browser, explorer: str, tmp_path: Path) -> None:
    people = [browser.new_context().new_page() for _ in range(2)]
    wrong: list[str] = []
    for page in people:
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: wrong.append(str(error)))
    writing = threading.Thread(target=lambda: [publish(tmp_path / "home", seed) for seed in range(1, PUBLISHED + 1)])
    writing.start()
    step = 0
    while writing.is_alive() or step < len(WALK):
        for person, page in enumerate(people):
            page.goto(f"{explorer}/{WALK[(step + 3 * person) % len(WALK)]}")
            whole(page)
        step += 1
    writing.join()
    counted = f"{PUBLISHED + 1} measurements"
    for page, view in zip(people, ("compare", "runs"), strict=True):
        page.goto(f"{explorer}/{view}")
        expect(page.get_by_text(counted).first).to_be_visible(timeout=WAIT_MS)
    publish(tmp_path / "home", PUBLISHED + 1)
    for page in people:
        expect(page.get_by_text(f"{PUBLISHED + 2} measurements").first).to_be_visible(timeout=WAIT_MS)
        whole(page)
    assert wrong == []
