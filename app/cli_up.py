"""`dyno up`, `dyno worker`, `dyno start`: all on this machine, a node that joins, an experiment for the nodes."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from flows.preflight import Again


@click.command()
@click.option("--pool", "pools", multiple=True, help="Work pool of this machine [default: by its hardware]; "
              "repeatable.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Where Prefect's server listens; other nodes need "
              "an address that they can reach.")
@click.option("--port", type=click.IntRange(1, 65535), default=4200, show_default=True, help="Of Prefect's server.")
@click.option("--measure/--no-measure", default=True, help="Let this machine take evaluations, too.")
@click.option("--explorer/--no-explorer", default=True, help="Show the explorer, too (on loopback).")
def up(pools: tuple[str, ...], host: str, port: int, measure: bool, explorer: bool) -> None:
    """Run all of dyno on this machine: Prefect's server, a worker, the explorer. Ctrl-C stops them all.

    \b
    Examples:
      dyno up
      dyno up --pool cuda --pool h100
      PREFECT_SERVER_API_AUTH_STRING=admin:… PREFECT_API_AUTH_STRING=admin:… dyno up --host 10.0.0.5
      DYNO_NOTIFY_URL=https://hooks.slack.com/… dyno up

    \b
    By the clock it measures what lies in DYNO_HOME/experiments (nightly what is missing, weekly all again) and looks
    for releases (dyno watch --help). With PREFECT_API_URL set, no server is started: the work comes from that one.
    With DYNO_BUNDLES set, what other machines measured is taken in, too (dyno ingest --help).
    What is told at DYNO_NOTIFY_URL: evaluations that failed, measurements that nobody expected, regressions.
    """
    from app import _streamlit
    from app._progress import display
    from flows import deployments, server
    from flows import up as parts
    from flows.pools import WAREHOUSE, own
    from models.paths import bundles, home

    mine = (pools or (own(),)) if measure else ()
    with ExitStack() as owned:
        with display() as progress:
            url = server.shared(home())
            if url is None:
                _free(host, port)
                url = owned.enter_context(server.serve(home(), host, port, progress))
                _warn_of_strangers(host)
            progress("Prefect: deployments")
            deployments.ensure(url, [*mine, WAREHOUSE])
            children = {"the worker": owned.enter_context(parts.working(url, [*mine, WAREHOUSE], home()))}
            if bundles():
                children["the ingest"] = owned.enter_context(parts.running(
                    "ingest", [sys.executable, "-m", "app", "ingest", "--every", "30"], {}, home()))
            if explorer:
                progress("explorer")
                shown = _streamlit.free(None)
                argv, env = _streamlit.command(home(), shown)
                children["the explorer"] = owned.enter_context(
                    parts.showing(argv, env, home(), f"http://{_streamlit.HOST}:{shown}"))
        click.echo(f"Prefect   {url.removesuffix('/api')}  (runs, schedules, a form for each deployment)")
        click.echo(f"worker    {', '.join(mine) or 'measures nothing'}  (others join: dyno worker --pool NAME --server "
                   f"{url.removesuffix('/api')})")
        if explorer:
            click.echo(f"explorer  http://{_streamlit.HOST}:{shown}")
        click.echo("Ctrl-C stops them all.")
        parts.stay(children)


@click.command()
@click.option("--pool", "pools", multiple=True, required=True, help="Work pool to take evaluations from: cpu, cuda, "
              "metal, kubernetes, or a name of your own; repeatable.")
@click.option("--server", "address", envvar="PREFECT_API_URL", help="Address of the Prefect server of a `dyno up` "
              "[default: PREFECT_API_URL, or a `dyno up` on this DYNO_HOME].")
def worker(pools: tuple[str, ...], address: str | None) -> None:
    """Join a server as a node: take evaluations from work pools, one at a time, until Ctrl-C.

    \b
    Examples:
      dyno worker --pool cuda --server http://10.0.0.5:4200
      dyno worker --pool metal --pool mac-studio --server http://10.0.0.5:4200

    What it measures is kept in its own DYNO_HOME first and, with DYNO_BUNDLES set, sent to the team's place: later,
    where that cannot be reached. A run whose node went away begins again on a node of its pool, and measures only what
    is missing.
    """
    from flows import deployments, share
    from flows import up as parts
    from models.paths import home

    url = _server(address)
    deployments.ensure(url, pools)
    with share.pushing(home()), parts.working(url, pools, home()) as process:
        click.echo(f"takes evaluations of {', '.join(pools)} from {url.removesuffix('/api')}; log: {process.log_path}; "
                   "Ctrl-C leaves")
        parts.stay({"the worker": process})


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--pool", "pools", multiple=True, help="Work pool to send it to [default: the file's own `pools`, else "
              "that of hardware like this machine's]; repeatable.")
@click.option("--server", "address", envvar="PREFECT_API_URL", help="Address of the Prefect server.")
@click.option("--fresh", is_flag=True, help="Measure again what was measured before.")
@click.option("--retry-disturbed", is_flag=True, help="Measure again what something disturbed.")
@click.option("--wait", is_flag=True, help="Return when all of it has ended; exit code 1 when something failed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def start(file: Path, pools: tuple[str, ...], address: str | None, fresh: bool, retry_disturbed: bool, wait: bool,
          as_json: bool) -> None:
    """Send the evaluation of an experiment FILE to the nodes whose hardware it is for.

    \b
    Examples:
      dyno start my-experiment.yaml --pool cuda
      dyno start my-experiment.yaml --pool cpu --pool cuda --wait
      dyno start my-experiment.yaml --server http://10.0.0.5:4200 --json

    Each pool gets the engines of the file that are for it (`pools` of an engine; without, every one).
    """
    from app import _started
    from flows import dispatch, server
    from flows.pools import by_pool
    from models import experiment as experiments

    url = _server(address)
    again: Again = "all" if fresh else "disturbed" if retry_disturbed else "none"
    experiment = experiments.load(file)
    with server.at(url):
        runs = {pool: dispatch.start(part.model_dump(mode="json", exclude_none=True), str(file), pool or None,
                                     again=again) for pool, part in by_pool(experiment, pools).items()}
        rows = [{"pool": pool or "this hardware's", "run": run, "page": dispatch.page(run, url)}
                for pool, run in runs.items()]
        if wait:
            rows = _started.wait(rows, dispatch.outcome)
    _started.show(rows, as_json)
    if any(row.get("state") == "failed" for row in rows):
        raise SystemExit(1)


def _server(address: str | None) -> str:
    from flows import server
    from flows import up as parts
    from models.errors import UserError
    from models.paths import home

    url = parts.api(address) if address else server.shared(home())
    if url is None:
        raise UserError("no Prefect server is known: --server http://HOST:4200, or PREFECT_API_URL; `dyno up` runs one")
    return url


def _free(host: str, port: int) -> None:
    import socket

    from models.errors import UserError

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise UserError(f"Prefect's server cannot listen on {host}:{port} ({error.strerror}): --port or --host "
                            "names another; with PREFECT_API_URL an existing server is used") from None


def _warn_of_strangers(host: str) -> None:
    if host not in ("127.0.0.1", "localhost", "::1") and "PREFECT_SERVER_API_AUTH_STRING" not in os.environ:
        click.echo(f"anyone who reaches {host} can start programs on the workers: set PREFECT_SERVER_API_AUTH_STRING "
                   "and PREFECT_API_AUTH_STRING to the same user:password", err=True)
