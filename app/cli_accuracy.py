"""`dyno accuracy`: how wrong every formula was, against what was measured."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--quick", is_flag=True, help="Leave out the zero-shot study, which takes minutes.")
@click.option("--vllm-logs", type=click.Path(path_type=Path),
              help="A CSV of what vLLM logged of its memory, a row a run.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON (a list of objects) instead of a table.")
def accuracy(quick: bool, vllm_logs: Path | None, as_json: bool) -> None:
    """Recompute every formula's error from measured data: your own warehouse's, and public ones (extra `planning`).

    A form is tested only on points that it was not fitted on. MAPE is the mean of the absolute percentage errors;
    "inside" is the share of points within the form's 90 % interval.

    \b
    Examples:
      dyno accuracy
      dyno accuracy --quick --json
    """
    from app._accuracy import show
    from app._progress import display
    from flows import accuracy as flow
    from models.paths import home

    with display() as progress:
        found = flow.figures(home(), progress, quick, vllm_logs)
    show(found.figures, as_json)
    for reason in found.left_out:
        click.echo(f"left out: {reason}", err=True)
