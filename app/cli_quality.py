"""`dyno quality`: how far quantisation moved each model, and what tasks make of it."""

from __future__ import annotations

import sys
from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--tasks", help="Run these tasks of lm-evaluation-harness too, separated by commas.")
@click.option("--limit", type=click.IntRange(min=1), help="Samples of each task at most.")
@click.option("--include", type=click.Path(path_type=Path), help="A folder with task files (YAML) of your own.")
@click.option("--fresh", is_flag=True, help="Ask again what was asked before.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON (a list of objects) instead of a table.")
def quality(file: Path | None, tasks: str | None, limit: int | None, include: Path | None, fresh: bool,
            as_json: bool) -> None:
    """Show how far each quantisation moved its model's next-token distributions from the unquantised one's.

    `dyno evaluate` asks each setup once, before its load. With FILE, an experiment, the setups that were not asked yet
    are started only to be asked. --tasks runs lm-evaluation-harness against each of them; its data sets come from the
    Hub, unless the tasks are your own.

    \b
    Examples:
      dyno quality
      dyno quality my-experiment.yaml
      dyno quality my-experiment.yaml --tasks gsm8k --limit 100
    """
    from app import _quality
    from app._progress import display
    from flows import quality as flow
    from models.errors import UserError
    from models.paths import home, warehouse

    if file is None:
        if tasks or limit or include or fresh:
            raise UserError("--tasks, --limit, --include and --fresh need an experiment FILE, whose setups are started")
        _quality.show(warehouse(), as_json)
        return
    with display() as progress:
        report = flow.ask_file(file, home(), progress, fresh)
    failed = report.failed
    if tasks:
        from flows import quality_tasks

        wanted = quality_tasks.Wanted(tuple(t.strip() for t in tasks.split(",") if t.strip()), limit, include)
        with display() as progress:
            done, more = quality_tasks.run_file(file, wanted, home(), progress)
        failed |= more
        _quality.scores(quality_tasks.rows(done), as_json)
    else:
        _quality.show(home(), as_json, report.numerics)
    for label, reason in report.left_out.items():
        click.echo(f"not asked: {label}: {reason}", err=True)
    for label, reason in failed.items():
        click.echo(f"failed: {label}: {reason}", err=True)
    if failed:
        sys.exit(1)
