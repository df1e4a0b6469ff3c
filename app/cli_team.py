"""`dyno serve`, `dyno ingest`, `dyno push`: one warehouse for a team; docs/team.md tells how the parts go together."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from flows.ingest import Turn
    from warehouse.exchange import Exchanged

LOOK_EVERY_S = 1.0


@click.command()
@click.option("--listen", default="127.0.0.1:9494", show_default=True, help="HOST:PORT. The protocol is not encrypted: "
              "other machines should come through a proxy that speaks TLS (docs/team.md).")
@click.option("--tokens", "tokens_file", type=click.Path(path_type=Path), envvar="DYNO_TOKENS_FILE",
              help="Who may ask: a file of lines `name token`, read again when it changes [DYNO_TOKENS_FILE]. Without "
              "it, DYNO_TOKENS (the same lines); without that, whoever can read DYNO_HOME/serve.token.")
def serve(listen: str, tokens_file: Path | None) -> None:
    """Serve the published warehouse to many, read-only, over DuckDB's own protocol (quack), until Ctrl-C.

    What is published later is served at once. Whoever asks needs a token and sets DYNO_WAREHOUSE=quack:HOST:PORT and
    DYNO_TOKEN: then sql, runs, show, choose, report and the explorer answer from here.

    \b
    Examples:
      dyno serve
      dyno serve --listen 0.0.0.0:9494 --tokens /run/secrets/tokens
      DYNO_WAREHOUSE=quack:localhost dyno sql "from measurements limit 5"
    """
    from models.paths import home
    from warehouse import quack
    from warehouse.serve import serving

    at = quack.address(listen, "--listen")
    who, changed = _tokens(tokens_file)
    with serving(home(), at, who) as server:
        click.echo(f"serving {home()} at {at.uri} to {', '.join(sorted(who.values()))}; stop with Ctrl-C")
        if not server.refresh():
            click.echo("nothing is published yet; it will be served as soon as it is")
        sys.stdout.flush()
        while True:
            time.sleep(LOOK_EVERY_S)
            server.refresh()
            if tokens_file and (now := _changed(tokens_file)) != changed:
                who, changed = _tokens(tokens_file)[0], now
                server.admit(who)
                click.echo(f"tokens read again: {', '.join(sorted(who.values()))}")


def _tokens(file: Path | None) -> tuple[dict[str, str], float]:
    """Names by token, and when the file was last written."""
    import os

    from models.errors import UserError
    from models.paths import home
    from warehouse import serve as served

    if file is None and (text := os.environ.get("DYNO_TOKENS")):
        return served.tokens_of(text, "DYNO_TOKENS"), 0.0
    path = file or served.own_token(home())
    try:
        changed = _changed(path)
        text = path.read_text()
    except OSError as error:
        raise UserError(f"--tokens: {path}: {error.strerror}") from None
    return (served.tokens_of(text, str(path)) if file else {text.strip(): f"whoever can read {path}"}), changed


def _changed(file: Path) -> float:
    return file.stat().st_mtime


@click.command()
@click.option("--every", "every_s", type=click.FloatRange(min=1), help="Go on, with so many seconds in between.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a turn.")
def ingest(every_s: float | None, as_json: bool) -> None:
    """Store what a team has measured: pull from DYNO_BUNDLES what is new, store, price, calibrate and publish it.

    One process does this for all, on the machine whose DYNO_HOME holds the warehouse. Doing it twice changes nothing.

    \b
    Examples:
      DYNO_BUNDLES=s3://bucket/dyno dyno ingest --every 30
      DYNO_BUNDLES=/mnt/team/dyno dyno ingest
    """
    from app._progress import display
    from flows.ingest import turn
    from models.paths import home

    with display(quiet=as_json or every_s is not None) as progress:
        _repeated(lambda: _said(turn(home(), progress), as_json, idle=every_s is None), every_s)


def _repeated(turn: Callable[[], None], every_s: float | None) -> None:
    """Once, or for ever: then a broken link is told of, and the next turn sees whether it is back."""
    from models.errors import PlaceError

    while True:
        try:
            turn()
        except PlaceError as error:
            if every_s is None:
                raise
            click.echo(f"dyno: {error}", err=True)
        if every_s is None:
            return
        time.sleep(every_s)


def _said(done: Turn, as_json: bool, idle: bool) -> None:
    """One line a turn that did something; `idle`: also where it did nothing."""
    pulled = done.pulled.count
    left = [*done.pulled.left, *((str(path), reason) for path, reason in done.stored.failed)]
    if as_json:
        from app._render import dump

        dump({"pulled": pulled, "added": done.stored.added, "there": done.stored.skipped, "published": done.published,
              "left_out": [{"what": what, "reason": reason} for what, reason in left]})
    elif pulled or done.stored.added or done.published or idle:
        click.echo(f"pulled {pulled}, stored {done.stored.added} bundles, {done.stored.skipped} were there"
                   + (", published" if done.published else ""))
    for what, reason in left:
        click.echo(f"left out {what}: {reason}", err=True)
    sys.stdout.flush()


@click.command()
@click.option("--every", "every_s", type=click.FloatRange(min=1), help="Go on, with so many seconds in between.")
@click.option("--again", is_flag=True, help="Look for each there, also for what is known to have been sent.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a turn.")
def push(every_s: float | None, again: bool, as_json: bool) -> None:
    """Send what was measured here to the place that a team shares (DYNO_BUNDLES). Evaluations do so by themselves; this
    sends what a broken link left behind.

    \b
    Examples:
      DYNO_BUNDLES=s3://bucket/dyno dyno push
      DYNO_BUNDLES=/mnt/team/dyno dyno push --every 60
    """
    from app._progress import display
    from flows import share
    from models import paths
    from models.errors import UserError

    if paths.bundles() is None:
        raise UserError("DYNO_BUNDLES: is not set: a folder that all can write to, or s3://bucket/folder")
    with display(quiet=as_json or every_s is not None) as progress:
        _repeated(lambda: _sent(share.push(paths.home(), progress, again), as_json, idle=every_s is None), every_s)


def _sent(done: Exchanged, as_json: bool, idle: bool) -> None:
    """One line a turn that sent something; `idle`: also where all of it is there."""
    if as_json:
        from app._render import dump

        dump({"sent": {kind: len(names) for kind, names in done.items.items()},
              "left": [{"what": what, "reason": reason} for what, reason in done.left]})
    elif done.count or idle:
        sent = ", ".join(f"{len(names)} {kind}" for kind, names in done.items.items())
        click.echo(f"sent {sent or 'nothing: all of it is there'}")
    for what, reason in done.left:
        click.echo(f"left {what}: {reason}", err=True)
    sys.stdout.flush()
