"""The table of what changed since it was measured last."""

from __future__ import annotations

from pathlib import Path

import click

from app._render import Row, emit, number
from models.shown import LATENCIES
from warehouse import reader

_SQL = "select * exclude (run) from changes where verdict in ('slower', 'faster') or {every}"


def show(home: Path, every: bool, as_json: bool) -> None:
    """Prints what changed, or all that was compared. Raises UserError when nothing is published."""
    rows = reader.query(home, _SQL.format(every=str(every).lower())).to_dicts()
    if not rows and not as_json:
        compared = reader.query(home, "select count(*) from changes").item()
        click.echo("nothing changed beyond noise; --all shows what was compared" if compared else
                   "nothing was measured a second time yet, nor with a second version of its engine")
        return
    emit(rows, (
        ("compared", lambda r: str(r["compared_at"])[:16]), ("", lambda r: str(r["verdict"])),
        ("engine", lambda r: str(r["engine"])), ("before", lambda r: str(r["before"])),
        ("after", lambda r: str(r["after"])), ("model", lambda r: str(r["model"])), ("where", _where),
        ("figure", lambda r: LATENCIES.get(str(r["figure"]), str(r["figure"]))),
        ("longer by %", lambda r: f"{r['percent']:+.1f} ({r['low']:+.1f} to {r['high']:+.1f})"),
        ("by chance", lambda r: number(r["chance"], 2)), ("also", lambda r: "; ".join(r["caveats"])),
    ), as_json, spare=("compared", "by chance", "model"))


def _where(row: Row) -> str:
    if row["setup"] is None:
        return f"all {row['points']} points"
    return f"{row['setup']} · {row['workload']} · {row['load']}"
