"""The explorer on a large warehouse: what its pages ask and how long that takes; a real one, and its memory."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import streamlit as st
from streamlit.testing.v1 import AppTest

from app import _streamlit, _warm
from models.errors import DynoError
from warehouse import published

PAGES = ("choose", "compare", "curves", "cost", "plan", "quality", "engines", "runs", "sql")
STATES = {"choose": {"by": "rate", "rate": "20", "workload": "chat"}, "runs": {"find": "llama q4 chat"}}
"""Drawn as well as the page on its own."""
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
USABLE = """() => {
    const main = document.querySelector("[data-testid=stMainBlockContainer]");
    return main && main.innerText.length > 80 && !document.querySelector("[data-testid=stSpinner]") &&
        !document.querySelector("[data-testid=stStatusWidget]");
}"""
"""The page is full and Streamlit no longer runs."""


WHOLE = "drawn whole"


class Asked(NamedTuple):
    """One question to the warehouse: who asked it, and for how long the snapshot was open."""

    page: str
    name: str
    ms: float


def asked(tries: int) -> Iterator[Asked]:
    """Draws every page with empty caches and yields its questions, each the fastest of its tries; then the page."""
    _warm.ready()
    for page, state in [*((page, {}) for page in PAGES), *STATES.items()]:
        best: dict[str, float] = {}
        for _ in range(tries):
            for name, ms in _drawn(page, state):
                best[name] = min(best.get(name, ms), ms)
        shown = page + ("?" + "&".join(f"{k}={v}" for k, v in state.items()) if state else "")
        yield from (Asked(shown, name, ms) for name, ms in best.items())


def _drawn(page: str, state: dict[str, str]) -> list[tuple[str, float]]:
    """Names and ms of what a page with empty caches asks, and of all of it."""
    st.cache_data.clear()
    st.cache_resource.clear()
    app = AppTest.from_function(_draw, args=(page,), default_timeout=600)
    for key, value in state.items():
        app.query_params[key] = value
    with _recorded() as seen:
        started = time.perf_counter()
        app.run()
        seen.append((WHOLE, (time.perf_counter() - started) * 1e3))
    if app.exception:
        raise DynoError(f"{page}: {app.exception[0].value}")
    return seen


def _draw(page: str) -> None:
    """Runs inside the app."""
    import importlib

    from app.views import _state

    _state.begin()
    importlib.import_module(f"app.views.{page}").page()
    _state.finish()


@contextmanager
def _recorded() -> Iterator[list[tuple[str, float]]]:
    """Names and ms of what is asked meanwhile."""
    real, seen = published.connect, list[tuple[str, float]]()

    @contextmanager
    def timed(home: Path) -> Iterator[Any]:
        started, name = time.perf_counter(), _asker()
        with real(home) as con:
            yield con
        seen.append((name, (time.perf_counter() - started) * 1e3))

    published.connect = timed
    try:
        yield seen
    finally:
        published.connect = real


def _asker() -> str:
    """Functions of the view's side that led here: `_data._measured`."""
    frame, names = sys._getframe(), []
    while frame := frame.f_back:  # type: ignore[assignment]
        if "/app/views/" in frame.f_code.co_filename:
            names.append(f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}")
            if frame.f_code.co_name != "_query":
                break
    return names[-1] if names else "?"


class Opened(NamedTuple):
    """A real explorer in a real browser. memory: resident, after every page was seen, and its highest until then."""

    first_s: list[float]
    memory_bytes: int
    memory_highest_bytes: int


def opened(home: Path, tries: int) -> Opened:
    """Starts the explorer, opens it so many times in fresh browsers, then every page in two browsers.

    Raises DynoError where there is no chromium.
    """
    from playwright.sync_api import sync_playwright

    path = next((p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))), None)
    if path is None:
        raise DynoError("no chromium on PATH")
    with sync_playwright() as playwright, _running(home) as (url, pid):
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        first = []
        for _ in range(tries):
            page = browser.new_context().new_page()
            started = time.perf_counter()
            page.goto(url)
            page.wait_for_function(USABLE, timeout=120_000)
            first.append(time.perf_counter() - started)
            page.context.close()
        for _ in range(2):
            page = browser.new_context().new_page()
            for name in PAGES:
                page.goto(f"{url}/{name}")
                page.wait_for_function(USABLE, timeout=120_000)
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        browser.close()
    return Opened(first, *(int(status[key].split()[0]) * 1024 for key in ("VmRSS", "VmHWM")))


@contextmanager
def _running(home: Path) -> Iterator[tuple[str, int]]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    argv, environment = _streamlit.command(home, port)
    with subprocess.Popen(argv, env={**os.environ, **environment}, stdout=subprocess.DEVNULL,
                          stderr=subprocess.DEVNULL) as process:
        try:
            while process.poll() is None:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    time.sleep(0.1)
            yield f"http://127.0.0.1:{port}", process.pid
        finally:
            process.terminate()
