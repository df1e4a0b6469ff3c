"""Quality beside speed, as tables."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import click

from app._render import Column, Row, emit, field, number
from models.errors import UserError
from warehouse import reader


def _between(row: Row) -> str:
    """`0.0151 (0.0144-0.0158)`."""
    if row["is_reference"]:
        return "0"
    return f"{number(row['kl_nats'])} ({number(row['kl_nats_low'])}–{number(row['kl_nats_high'])})"


_COLUMNS: tuple[Column, ...] = (
    ("model", lambda r: str(r["model"])),
    ("engine", lambda r: str(r["variant"] or r["engine"])),
    field("quantization"), ("KV", lambda r: str(r["kv_type"])),
    ("KL nats (95%)", _between),
    ("same likeliest", lambda r: f"{r['top1_agreement']:.0%}"),
    ("next token |Δ ln p|", lambda r: number(r["next_logprob_difference"])),
    ("mass seen", lambda r: f"{r['mass_seen']:.1%}"),
    ("against", lambda r: "itself" if r["is_reference"] else str(r["reference"]) + (
        "" if r["same_engine"] else " (another engine)")),
)


def show(home: Path, as_json: bool, numerics: Collection[str] | None = None) -> None:
    """Prints each quantisation against its reference, those of `numerics` only where it is given."""
    rows = reader.query(home, """select * exclude (setup_id, setup), list(distinct setup_id) as setup_ids
        from quality group by all order by model, engine, variant, kl_nats, quantization""").to_dicts()
    rows = [r for r in rows if numerics is None or r["numerics_id"] in numerics]
    if not rows and not as_json:
        raise UserError("nothing is known of quality yet: `dyno evaluate FILE` and `dyno quality FILE` ask for it, and "
                        "compare with F16, BF16 or F32, which must be among the quantizations")
    emit(rows, _COLUMNS, as_json)
    if as_json:
        return
    first = rows[0]
    click.echo(f"Next-token distributions at {first['positions']} places of one text; KL is a lower bound, from the "
               f"{first['top']} likeliest tokens.")
    if any(r["synthetic"] for r in rows):
        click.echo("Random weights: divergences rank quantisations, and say nothing of a trained model's answers.")


def scores(rows: Sequence[Row], as_json: bool) -> None:
    """Prints what tasks made of each setup."""
    names = ("setup", "task", "metric", "filter", "value", "stderr", "samples")
    emit(rows, tuple(map(field, names)), as_json)
