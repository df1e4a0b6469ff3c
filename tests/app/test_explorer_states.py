"""Every page on a warehouse that is missing, empty, damaged or another dyno's: a clear page each."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import _streamlit
from tests.warehouse import fake, spoilt
from warehouse import published, writer

TIMEOUT_S = 120
PAGES = ("choose", "compare", "cost", "curves", "plan", "quality", "runs", "engines", "sql")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    fake.store(home)
    writer.ingest(home)
    writer.publish(home)
    return home


def explorer() -> AppTest:
    """The whole app, on the page where one lands."""
    return AppTest.from_file(str(_streamlit.SCRIPT), default_timeout=TIMEOUT_S).run()


def _page(name: str) -> None:
    """Runs inside the test's app: a page as explorer.py draws it."""
    import importlib

    from app.views import _empty, _state
    from models.errors import WarehouseError

    _state.begin()
    try:
        importlib.import_module(f"app.views.{name}").page()
    except WarehouseError as error:
        _empty.unreadable(error)
    _state.finish()


@pytest.mark.parametrize("way", [way for way in spoilt.WAYS if way != "without views"])
def test_a_warehouse_that_cannot_be_read_has_its_page_and_is_back_after_a_rebuild(home: Path, way: str) -> None:
    spoilt.spoil(published.snapshot(home), way)
    app = explorer()
    assert not app.exception, app.exception
    assert [h.value for h in app.header] == ["This warehouse cannot be read"]
    assert [c.value for c in app.code] == ["dyno rebuild"]
    writer.rebuild(home)
    writer.publish(home)
    app.run()
    assert not app.exception and not [h for h in app.header if "cannot be read" in h.value]


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("way", ["overwritten", "without views"])
def test_no_page_fails_on_what_it_cannot_read(home: Path, way: str, page: str) -> None:
    spoilt.spoil(published.snapshot(home), way)
    app = AppTest.from_function(_page, args=(page,), default_timeout=TIMEOUT_S).run()
    assert not app.exception, app.exception


@pytest.mark.parametrize("page", PAGES)
def test_an_empty_warehouse_says_so_on_every_page(tmp_path: Path, page: str) -> None:
    writer.ingest(tmp_path / "home")
    writer.publish(tmp_path / "home")
    app = AppTest.from_function(_page, args=(page,), default_timeout=TIMEOUT_S).run()
    assert not app.exception, app.exception
    assert page in ("sql", "engines", "quality") or [h.value for h in app.header] == ["No measurement has finished yet"]


def test_without_a_home_it_says_how_to_measure(tmp_path: Path) -> None:
    app = explorer()
    assert not app.exception and [h.value for h in app.header] == ["Nothing has been measured yet"]
