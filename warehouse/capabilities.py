"""What the engines can do, as the dyno that published last knew it: a file beside the bundles, and its rows.

    engines.json            a list of models.capabilities.EngineAbout
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import duckdb
import polars as pl

from models.capabilities import EngineAbout
from models.errors import BundleError
from warehouse import _disk

_SCHEMA = {"engine": pl.String, "variant": pl.String, "kind": pl.String, "name": pl.String, "supported": pl.Boolean,
           "about": pl.String, "reason": pl.String, "pinned_version": pl.String, "position": pl.Int32}


def file(home: Path) -> Path:
    """Where they are kept."""
    return home / "engines.json"


def write(home: Path, engines: Sequence[EngineAbout]) -> bool:
    """Keeps them, but not where they are installed, which is this machine's business. Returns whether that is new."""
    kept = [about.model_copy(update={"installed": {}}).model_dump(mode="json") for about in engines]
    content = json.dumps(kept, indent=1).encode()
    if file(home).exists() and file(home).read_bytes() == content:
        return False
    _disk.write_file(file(home), content)
    return True


def ingest(con: duckdb.DuckDBPyConnection, home: Path) -> list[tuple[Path, str]]:
    """Makes the table what the file says, if there is one and it says something new. Returns what could not be read."""
    path = file(home)
    if not path.exists():
        return []
    try:
        frame = _frame(read(home))
    except BundleError as error:
        return [(path, str(error))]
    if con.execute(f"select {', '.join(_SCHEMA)} from capabilities").pl().equals(frame):  # noqa: S608
        return []
    con.execute("delete from capabilities")
    con.register("_capabilities", frame.to_arrow())
    con.execute("insert into capabilities by name from _capabilities")
    con.unregister("_capabilities")
    return []


def read(home: Path) -> list[EngineAbout]:
    """What the file says. Raises BundleError naming the file and the reason."""
    try:
        return [EngineAbout.model_validate(raw) for raw in json.loads(file(home).read_bytes())]
    except (OSError, ValueError, TypeError) as error:
        raise BundleError(f"{file(home)}: is not a list of engines: {str(error).splitlines()[0]}") from None


def _frame(engines: Sequence[EngineAbout]) -> pl.DataFrame:
    rows = [{**c.model_dump(), "pinned_version": about.pinned_version, "position": i}
            for about in engines for i, c in enumerate(about.capabilities)]
    return pl.DataFrame(rows, schema=_SCHEMA, orient="row")
