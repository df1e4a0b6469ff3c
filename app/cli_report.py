"""`dyno report`: a run, an evaluation or an answer as one HTML file or as Markdown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from warehouse.report import Document

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("what", metavar="TRIAL|EXPERIMENT.yaml", required=False)
@click.option("--answer", type=FILE, help="An answer that `dyno choose --json` printed, in a file (- reads stdin).")
@click.option("--html", "html_file", type=FILE, help="Write one self-contained HTML file.")
@click.option("--markdown", "markdown_file", type=FILE, help="Write Markdown (- prints it).")
@click.option("--json", "as_json", is_flag=True, help="Print the document as JSON: headings, facts, tables, charts.")
def report(what: str | None, answer: Path | None, html_file: Path | None, markdown_file: Path | None,
           as_json: bool) -> None:
    """Write down a run, an evaluation or an answer: to be sent, printed, kept.

    TRIAL is an id or its start, EXPERIMENT.yaml a file that was evaluated. The HTML file holds its charts, asks nothing
    of any network and has no script. Without --html and --markdown, Markdown is printed.

    \b
    Examples:
      dyno report 3f2a91 --html run.html
      dyno report my-experiment.yaml --html evaluation.html --markdown evaluation.md
      dyno choose --model 8B --workload chat --rate 5 --json | dyno report --answer - --html answer.html
    """
    from app import _render
    from models.errors import UserError
    from warehouse import report as reports

    if (what is None) == (answer is None):
        raise UserError("give a TRIAL, an EXPERIMENT.yaml or --answer FILE: one of them")
    document = _answered(answer) if answer else _measured(what or "")
    if as_json:
        _render.dump(document.model_dump(mode="json"))
        return
    if html_file:
        _write(html_file, reports.html(document))
    if markdown_file and str(markdown_file) != "-":
        _write(markdown_file, reports.markdown(document))
    elif markdown_file or not html_file:
        click.echo(reports.markdown(document).rstrip())


def _measured(what: str) -> Document:
    from models.paths import warehouse
    from warehouse import report as reports

    path = Path(what)
    if path.suffix not in (".yaml", ".yml"):
        return reports.of_trial(warehouse(), what)
    from flows import preflight
    from models import experiment as experiments

    experiment = experiments.load(path)
    expansion = preflight.plan(experiment, what)
    return reports.of_points(warehouse(), experiment.name, [t.trial_id for t in expansion.trials], experiment.limits,
                             path.read_text(), [(s.label, f"{s.field}: {s.reason}") for s in expansion.skipped])


def _answered(file: Path) -> Document:
    from app import _answer_file
    from models.paths import warehouse
    from warehouse import report as reports

    return reports.of_answer(warehouse(), _answer_file.read(file))


def _write(file: Path, text: str) -> None:
    from models.errors import UserError

    try:
        file.write_text(text)
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}") from None
    click.echo(f"wrote {file} ({len(text.encode()) / 1024:.0f} KiB)", err=True)
