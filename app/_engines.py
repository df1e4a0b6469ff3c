"""The engines as tables for people in a hurry: one line each, or everything of one."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import click

from app._render import dump, emit, field
from models.capabilities import EngineAbout, Kind

SHOWN = 4
"""Quantisations and KV types named in the table; the rest is counted."""
SECTIONS: tuple[tuple[Kind, str], ...] = (
    ("hardware", "hardware"), ("runtime", "runtimes"), ("feature", "features"), ("batching", "batching"),
    ("model_source", "weights from"))


def show(engines: Sequence[EngineAbout], detail: bool, as_json: bool) -> None:
    """Prints the table, or each engine in detail."""
    if as_json:
        dump([_plain(about) for about in engines])
    elif detail:
        for i, about in enumerate(engines):
            click.echo("" if i else None, nl=bool(i))
            _detail(about)
    else:
        emit([_row(about) for about in engines], [field(name) for name in _row(engines[0])], as_json=False)
        click.echo("\nInstalled: in dyno's cache; runtime venv builds or installs the version on first use. "
                   "What one lacks, and why: dyno engines NAME")


def _row(about: EngineAbout) -> dict[str, str]:
    return {"engine": about.label, "version": about.pinned_version or "—", "installed": _installed(about),
            "hardware": " ".join(about.names("hardware")), "runtimes": " ".join(about.names("runtime")),
            "quantisations": _few(about.names("quantization")), "KV types": _few(about.names("kv_type")),
            "lacks": ", ".join(_words(about.names("feature", False) + about.names("batching", False))) or "nothing"}


def _installed(about: EngineAbout) -> str:
    return ", ".join(about.installed) or "no"


def _few(names: list[str]) -> str:
    more = len(names) - SHOWN
    return " ".join(names if more <= 1 else [*names[:SHOWN], f"+{more}"])


def _words(names: Iterable[str]) -> list[str]:
    return [name.replace("_", " ") for name in names]


def _detail(about: EngineAbout) -> None:
    of = f" ({about.engine})" if about.variant else ""
    click.secho(f"{about.label}{of} {about.pinned_version or ''}".rstrip(), bold=True)
    for version, folder in about.installed.items():
        click.echo(f"  installed        {version} in {folder}")
    _list("quantisations", about.names("quantization"))
    _list("KV types", about.names("kv_type"))
    for kind, title in SECTIONS:
        click.echo(f"  {title}")
        width = max(len(c.name) for c in about.of(kind))
        for one in about.of(kind):
            why = one.reason if one.reason and not one.supported else "; ".join(filter(None, (one.about, one.reason)))
            click.echo(f"    {'yes' if one.supported else ' no'}  {one.name:{width}}  {why}".rstrip())
    for check, why in about.known_failures.items():
        click.echo(f"  known to fail    {check}: {why}")


def _list(title: str, names: list[str]) -> None:
    """A title and names, wrapped below each other."""
    first, *more = textwrap.wrap(" ".join(names), 92, break_on_hyphens=False)
    click.echo(f"  {title:<15}  {first}")
    for line in more:
        click.echo(f"{'':19}{line}")


def _plain(about: EngineAbout) -> dict[str, Any]:
    """One object an engine: names by kind, and of what is missing the reason."""
    kinds: dict[str, Kind] = {"hardware": "hardware", "runtimes": "runtime", "quantizations": "quantization",
                              "kv_types": "kv_type", "features": "feature", "batching": "batching",
                              "model_sources": "model_source"}
    return {**about.model_dump(include={"engine", "variant", "pinned_version", "installed", "known_failures"}),
            **{name: about.names(kind) for name, kind in kinds.items()},
            "missing": {c.name: c.reason or None for c in about.capabilities if not c.supported}}


def checked(found: Sequence[tuple[str, Any]], as_json: bool) -> None:
    """Prints what the contract's checks say; a failure that was declared is told as that."""
    rows = [{"engine": r.variant or engine, "check": r.check, "ok": r.good,
             "detail": r.because or ("declared as failing, and passes" if not r.good else ""),
             "known": r.expected} for engine, r in found]
    emit(rows, (("engine", lambda r: r["engine"]), ("check", lambda r: r["check"]),
                ("", lambda r: "NO" if not r["ok"] else "ok" if not r["known"] else "known"),
                ("detail", lambda r: r["detail"])), as_json)
