"""What was measured, as something to deploy: the measurement is looked up, its engine's adapter makes the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from engines import _deployed, _deployment
from models.errors import UserError
from models.identity import Record
from models.progress import Progress, silent
from models.records import Measurement
from warehouse import reader

Format = Literal["command", "compose", "kubernetes"]


class Deployed(Record):
    """`text` is what is run or written to a file; `documents` the same as data (none of a command line). `notes` say
    what is not as it was measured."""

    trial_id: str
    setup_id: str
    setup: str
    format: Format
    image: str | None
    text: str
    documents: tuple[dict[str, Any], ...] = ()
    notes: tuple[str, ...] = ()


def deploy(home: Path, wanted: str, form: Format, instances: int = 1, port: int = 8000, key_env: str | None = None,
           progress: Progress = silent) -> Deployed:
    """Writes down how the setup of a trial, or a setup (each by its id or the start of it), is served.

    Raises UserError where there is no such thing, several, or no image of it; and what `launch.prepare` raises.
    """
    measured = measurement(home, wanted)
    setup, run = measured.trial.setup, measured.run
    if form == "command" and instances > 1:
        raise UserError("--instances: a command line starts one: use --format compose or kubernetes")
    one = _deployment.here(setup, run, port, key_env is not None, progress) if form == "command" else None
    one = one or _deployment.contained(setup, run, port, key_env is not None, progress)
    documents: tuple[dict[str, Any], ...] = ()
    if form == "compose":
        documents = (_deployed.compose(one, instances, key_env),)
    elif form == "kubernetes":
        documents = tuple(_deployed.kubernetes(one, instances, key_env))
    about = f"{setup.model.name}: {setup.label}, measured in trial {measured.trial_id} on {setup.hardware.name}"
    notes = (*one.notes, *_secrets(one, form, key_env))
    text = _deployed.dumped(documents, [about, *notes]) if documents else _deployed.command(one, key_env)
    return Deployed(trial_id=measured.trial_id, setup_id=setup.setup_id, setup=setup.label, format=form,
                    image=one.image, text=text, documents=documents, notes=notes)


def measurement(home: Path, wanted: str) -> Measurement:
    """The measurement of a trial, or the newest one of a setup that can be trusted. Raises UserError."""
    start = wanted.strip().lower()
    if start and not reader.beginning(home, start):
        found = reader.query(home, "select setup_id, arg_max(trial_id, (not fatal, started_at)) as trial_id "
                             "from measurements where starts_with(setup_id, ?) group by all order by all", [start])
        if found.height > 1:
            raise UserError(f"{wanted!r} is the start of {found.height} setups: {', '.join(found['setup_id'][:5])}")
        if found.height:
            return reader.bundle_of(home, found["trial_id"].item()).measurement
        raise UserError(f"no trial or setup begins with {wanted!r}; `dyno runs` lists the trials")
    return reader.bundle_of(home, wanted).measurement


def _secrets(one: _deployment.Deployment, form: Format, key_env: str | None) -> list[str]:
    """Where secrets are taken from."""
    names = [*one.secrets, *([key_env] if key_env else [])]
    if form == "kubernetes":
        token = [f"a gated repository needs {_deployed.HUB_TOKEN} in the Secret {one.name}"] if one.fetches else []
        made = " ".join(f"--from-literal={name}=…" for name in names)
        return [f"before it: kubectl create secret generic {one.name} {made}", *token] if names else token
    said = [f"set {', '.join(names)} where this is started"] if names else []
    token = [f"a gated repository needs {_deployed.HUB_TOKEN} where this is started"] if one.fetches else []
    return said + token
