"""The `dyno` command. Everything heavy is imported by the command that needs it, so that --help is instant."""

from __future__ import annotations

import atexit
import gc
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from app.cli_accuracy import accuracy
from app.cli_choose import choose
from app.cli_deploy import deploy
from app.cli_engines import engines
from app.cli_load import capacity, load
from app.cli_plan import plan
from app.cli_prices import prices
from app.cli_quality import quality
from app.cli_regressions import regressions
from app.cli_report import report
from app.cli_team import ingest, push, serve
from app.cli_up import start, up, worker
from app.cli_watch import releases, watch
from models.errors import DynoError, UserError

if TYPE_CHECKING:
    from flows.preflight import Again
    from flows.report import Report
    from models.experiment import Expansion, Experiment

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110}
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON (a list of objects) instead of a table.")


@click.group(context_settings=CONTEXT)
@click.version_option(package_name="llm-dyno", prog_name="dyno")
def cli() -> None:
    """A dynamometer for LLM inference engines: measures, prices and chooses serving stacks.

    \b
    Examples:
      dyno demo                                  measure llama.cpp on this machine, and see an answer
      dyno evaluate my-experiment.yaml --dry-run
      dyno engines                               what each engine can do, and where
      dyno sql "from measurements order by usd_per_million_output_tokens limit 5"
      dyno load --url http://127.0.0.1:8080 --concurrency 8
      dyno capacity --url http://127.0.0.1:8080 --slo "ttft_ms_p95<=500 and tpot_ms_p95<=50"
      dyno explore

    State lives in DYNO_HOME, built engines and checkpoints in DYNO_CACHE (`dyno doctor` prints both).
    """


cli.add_command(load)
cli.add_command(capacity)
cli.add_command(engines)
cli.add_command(quality)
cli.add_command(accuracy)
cli.add_command(plan)
cli.add_command(report)
cli.add_command(deploy)
cli.add_command(choose)
cli.add_command(prices)
cli.add_command(serve)
cli.add_command(ingest)
cli.add_command(push)
cli.add_command(up)
cli.add_command(worker)
cli.add_command(start)
cli.add_command(watch)
cli.add_command(releases)
cli.add_command(regressions)


@cli.command()
@click.option("--fresh", is_flag=True, help="Measure again what was measured before.")
@click.option("--price", type=click.FloatRange(min=0), help="USD per hour of this machine (else an assumed price).")
@click.option("--json", "as_json", is_flag=True, help="Print the points, answer and findings as JSON.")
def demo(fresh: bool, price: float | None, as_json: bool) -> None:
    """The main job on this machine: build llama.cpp, measure it, price it, answer.

    \b
    Examples:
      dyno demo
      dyno demo --price 0.12
      dyno demo --fresh --json > demo.json
    """
    from app import _answer
    from flows.doctor import machine
    from models.paths import home

    experiment, source = _experiment(None)
    click.echo(machine(price), err=as_json)
    expansion, report = _evaluate(experiment, source, "all" if fresh else "none", price)
    _answer.show(home(), [t.trial_id for t in expansion.trials], experiment.limits, as_json)
    _fail_if(report.failed)


@cli.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--dry-run", is_flag=True, help="List what would be measured, and what cannot be and why; start nothing.")
@click.option("--fresh", is_flag=True, help="Measure again what was measured before.")
@click.option("--retry-disturbed", is_flag=True, help="Measure again the points that something disturbed (host_busy, "
              "client_bound) or whose engine died.")
@click.option("--price", type=click.FloatRange(min=0), help="USD per hour of this hardware.")
@as_json
def evaluate(file: Path, dry_run: bool, fresh: bool, retry_disturbed: bool, price: float | None, as_json: bool) -> None:
    """Measure what an experiment FILE (YAML) asks for. Points that have a result are not measured again.

    \b
    Examples:
      dyno evaluate my-experiment.yaml --dry-run
      dyno evaluate my-experiment.yaml --price 1.55
      dyno evaluate my-experiment.yaml --retry-disturbed

    \b
    A file holds: name, models, engines (engine, variant, version, runtime), quantizations, kv_types, batching
    (max_sequences, context_tokens, threads, …), workloads (name, scale), load (concurrency or request_rate, requests),
    limits, repeats, seed. The demo's own is a good start: dyno evaluate --help; dyno doctor prints its path.
    """
    from app import _answer
    from models.paths import home

    experiment, source = _experiment(file)
    if dry_run:
        from flows import preflight

        _answer.dry_run(preflight.plan(experiment, source), home(), as_json)
        return
    expansion, report = _evaluate(experiment, source, "all" if fresh else "disturbed" if retry_disturbed else "none",
                                  price)
    _answer.show(home(), [t.trial_id for t in expansion.trials], experiment.limits, as_json)
    for text in report.unforeseen:
        click.echo(f"not as predicted: {text}", err=True)
    for text in report.changed:
        click.echo(text, err=True)
    for skip in report.skipped:
        click.echo(f"not measured: {skip.label}: {skip.reason}", err=True)
    _fail_if(report.failed)


@cli.command()
@click.argument("query")
@as_json
def sql(query: str, as_json: bool) -> None:
    """Ask the warehouse in SQL (DuckDB's dialect), read-only. `dyno sql "show tables"` lists what there is, and
    docs/warehouse.md tells what every column means, with worked questions.

    \b
    Examples:
      dyno sql "from measurements where trust = 'ok' order by usd_per_million_output_tokens limit 5"
      dyno sql "select engine, count(*) as trials from measurements group by all" --json
    """
    from app._render import any_rows
    from models.paths import warehouse
    from warehouse import reader

    found = reader.user_sql(warehouse(), query)
    any_rows(found.columns, found.to_dicts(), as_json)


@cli.command()
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True)
@as_json
def runs(limit: int, as_json: bool) -> None:
    """List what was measured, newest first, and the launches that failed.

    \b
    Examples:
      dyno runs
      dyno runs --limit 500 --json
    """
    from app import _answer
    from models.paths import warehouse

    _answer.runs(warehouse(), limit, as_json)


@cli.command()
@click.argument("trial")
@as_json
def show(trial: str, as_json: bool) -> None:
    """Show one measurement whole: command, verdicts, every metric, the log's end. TRIAL is an id or its start.

    \b
    Examples:
      dyno show 3f2a91
    """
    from app import _answer
    from models.paths import warehouse

    _answer.show_trial(warehouse(), trial, as_json)


@cli.command()
def rebuild() -> None:
    """Make the warehouse again from the bundles on disk, and publish it."""
    from flows.ingest import rebuilt
    from models.paths import home
    from warehouse.published import snapshot

    report = rebuilt(home())
    click.echo(f"rebuilt from {report.added} bundles; published {snapshot(home())}")
    for path, reason in report.failed:
        click.echo(f"left out {path}: {reason}", err=True)


@cli.command()
@as_json
def doctor(as_json: bool) -> None:
    """Check this machine: hardware, compiler, caches, engines, warehouse, and what is missing for what.

    \b
    Examples:
      dyno doctor
    """
    from app import _answer
    from flows.doctor import checks

    _answer.doctor(checks(), as_json)


@cli.command()
@click.option("--port", type=click.IntRange(1, 65535), help="Port on loopback [default: 8501, or the next free one].")
@click.option("--browser/--no-browser", default=True, help="Open a browser on it.")
def explore(port: int | None, browser: bool) -> None:
    """Open the explorer (Streamlit, on loopback) on the published warehouse.

    \b
    Examples:
      dyno explore
      dyno explore --port 8600 --no-browser
    """
    from app._streamlit import run

    sys.exit(run(port, browser))


def _experiment(file: Path | None) -> tuple[Experiment, str]:
    from importlib import resources

    from models import experiment as experiments

    path = file or Path(str(resources.files("flows").joinpath("experiments/demo.yaml")))
    return experiments.load(path), str(file or "demo.yaml")


def _evaluate(experiment: Experiment, source: str, again: Again, price: float | None) -> tuple[Expansion, Report]:
    """Runs what is pending; Prefect is not even imported when nothing is."""
    from app._progress import display
    from flows import preflight
    from flows.run import run_evaluation
    from models.paths import home

    expansion = preflight.plan(experiment, source)
    with display() as progress:
        return expansion, run_evaluation(experiment, source, expansion, home(), again, price, progress)


def _fail_if(failed: dict[str, str]) -> None:
    for label, reason in failed.items():
        click.echo(f"failed: {label}: {reason}", err=True)
    if failed:
        sys.exit(1)


def _terminated(*_: object) -> NoReturn:
    raise SystemExit(143)


def main() -> None:
    """Entry point: a person's mistake is one line and exit code 2, an engine's failure its story and exit code 1."""
    gc.set_threshold(50_000, 20, 50)  # commands are short and make many small objects
    atexit.register(gc.freeze)  # which need not be looked through once more before all is let go
    signal.signal(signal.SIGTERM, _terminated)
    try:
        cli(standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except DynoError as error:
        click.echo(f"dyno: {error}", err=True)
        sys.exit(2 if isinstance(error, UserError) else 1)
    except (click.exceptions.Abort, KeyboardInterrupt):
        click.echo("stopped; what was finished is kept", err=True)
        sys.exit(130)
