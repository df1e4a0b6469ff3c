"""A warehouse made up by rule and the explorer's pages drawn on it, without a browser."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from tests.app.drawn import TIMEOUT_S, Draw, publish
from tests.warehouse import fake
from warehouse import bundles


@pytest.fixture(autouse=True)
def _own_main() -> Iterator[None]:
    """An AppTest leaves its page as `__main__`, and a process that is spawned later would look for that file."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Two setups at three loads, one open loop, one repeat, one failed launch."""
    home = tmp_path / "home"
    for users in (1, 4, 8):
        fake.store(home, fake.trial(concurrency=users))
        fake.store(home, fake.trial(fake.setup("llama_cpp.server", "Q4_K_M", None), concurrency=users),
                   ttft_ms=300.0 * users, itl_ms=4.0)
    fake.store(home, fake.trial(concurrency=4, seed=1), itl_ms=9.0)
    fake.store(home, fake.trial(request_rate=2.5))
    bundles.write_failure(home, fake.failure(), None)
    publish(home)
    return home


def _page(name: str) -> None:
    """Runs inside the test's app."""
    import importlib

    from app.views import _state

    _state.begin()
    importlib.import_module(f"app.views.{name}").page()
    _state.finish()


@pytest.fixture
def draw() -> Draw:
    """`draw(page, **query)`: the page as it is drawn for an address; no exception may be on it."""
    def run(name: str, **query: str) -> AppTest:
        app = AppTest.from_function(_page, args=(name,), default_timeout=TIMEOUT_S)
        for key, value in query.items():
            app.query_params[key] = value
        app.run()
        assert not app.exception, app.exception
        return app
    return run
