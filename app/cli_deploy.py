"""`dyno deploy`: a measured setup as a command line, a Compose file or a Kubernetes manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from flows.deploy import Format


@click.command()
@click.argument("wanted", metavar="TRIAL|SETUP", required=False)
@click.option("--answer", type=click.Path(path_type=Path, dir_okay=False),
              help="Instead: the first choice of an answer that `dyno choose --json` printed (- reads stdin), as often"
                   " as it says.")
@click.option("--format", "form", type=click.Choice(["command", "compose", "kubernetes"]), default="command",
              show_default=True)
@click.option("--instances", type=click.IntRange(1, 1000),
              help="How many to run; in a Compose file each has its own port and GPUs. [default: 1, or the answer's]")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, show_default=True,
              help="Port to serve on; in a Compose file the first one.")
@click.option("--api-key-env", metavar="NAME", help="The server wants the API key that the variable NAME holds: of "
              "this shell, or of a Kubernetes Secret. The key itself is written nowhere.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object with the text, the same as data, and notes.")
def deploy(wanted: str | None, answer: Path | None, form: Format, instances: int | None, port: int,
           api_key_env: str | None, as_json: bool) -> None:
    """Print what serves a measured setup: TRIAL or SETUP is an id or its start.

    It is made by the adapter that started the measurement. The command line is that of this machine where it was
    measured here, else a docker run. What is not as it was measured is said: on stderr, or as comments at the top.

    \b
    Examples:
      dyno deploy 3f2a91
      dyno deploy 3f2a91 --format compose --api-key-env MY_KEY > compose.yaml
      dyno deploy 3f2a91 --format kubernetes --instances 3 | kubectl apply -f -
      dyno choose --model 8B --workload chat --rate 5 --json | dyno deploy --answer - --format compose
    """
    from app import _render
    from app._progress import display
    from flows.deploy import deploy as written
    from models.errors import UserError
    from models.paths import warehouse

    if api_key_env is not None and not api_key_env.isidentifier():
        raise UserError(f"--api-key-env: {api_key_env!r} is no name of an environment variable: give the name, not "
                        "the key")
    if (wanted is None) == (answer is None):
        raise UserError("give a TRIAL or SETUP, or --answer FILE: one of them")
    if answer is not None:
        wanted, chosen = _chosen(answer)
        instances = instances or (1 if form == "command" else chosen)
    with display() as progress:
        one = written(warehouse(), wanted or "", form, instances or 1, port, api_key_env, progress)
    if as_json:
        _render.dump(one.model_dump(mode="json"))
        return
    click.echo(one.text.rstrip())
    for note in one.notes if form == "command" else ():
        click.echo(f"note: {note}", err=True)


def _chosen(file: Path) -> tuple[str, int]:
    """Setup and instances of the first choice. Raises UserError where nothing measured was chosen."""
    from app import _answer_file
    from models.errors import UserError

    answer = _answer_file.read(file)
    if answer.best is None:
        raise UserError(f"--answer: nothing measured fits: {answer.sentence}")
    return answer.best.stack.setup_id, answer.best.instances
