"""`dyno watch` and `dyno releases`: what is released, and what becomes of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from models.releases.release import Seen

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON (a list of objects) instead of a table.")


@click.command()
@click.option("--policy", type=click.Path(path_type=Path), help="The policy's file [default: watch.yaml in DYNO_HOME].")
@click.option("--once", is_flag=True, help="Look once, now, and leave; needs no Prefect server.")
@as_json
def watch(policy: Path | None, once: bool, as_json: bool) -> None:
    """Follow models, engine versions and price lists, and evaluate what is new, once, as a policy says.

    Without --once it stays and looks again every so often, on the schedule of the Prefect server that `dyno up` starts
    or PREFECT_API_URL names; evaluations then go to the workers of the policy's pools. With --once and no server they
    are measured here, before it leaves.

    \b
    Examples:
      dyno watch --once
      dyno watch --policy team/watch.yaml
      dyno releases

    \b
    A policy (YAML):
      follow:
        - {hub: Qwen, tags: [text-generation], newest: 20}   # also {models: [org/name]}
        - {folder: /data/checkpoints}                        # .gguf files, and folders with config.json
        - {feed: https://example.org/releases.atom, tells: engine, engine: llama_cpp}
        - {pypi: vllm, engine: vllm}
        - {image: docker.io/vllm/vllm-openai, engine: vllm, tags: "v*"}
        - {prices: clouds}
      models: {parameters: {min: 0.1B, max: 80B}, formats: [gguf, safetensors], licences: [apache-2.0, mit],
               gated: false, names: ["*"], except: ["*-Base"], since: 2026-11-01}
      engines: {versions: ">=0.30", prereleases: false}
      pools:
        cpu: {hardware: here, experiment: cpu.yaml, parameters: {max: 4B}}
        cuda: {hardware: h100, experiment: gpu.yaml, engine_hours: 3}
      budget: {engine_hours_a_week: 20}
      every_minutes: 30

    A pool's experiment is an experiment file beside the policy; a new model takes the place of its `models` (write
    `models: [release]` where nothing else is to stand there), a new version that of its engine's.
    """
    from models.paths import home

    file = policy.absolute() if policy else home() / "watch.yaml"
    if not once:
        from flows import watch as flow

        flow.serve(file, home(), lambda text: click.echo(text, err=True))
        return
    # Prefect's own lines would tear the progress display; its API keeps them all.
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    from app._progress import display
    from flows.releases import rounds

    with display() as progress:
        done = rounds.once(file, home(), progress)
    for warning in done.warnings:
        click.echo(f"not looked at: {warning}", err=True)
    _show([_row(one) for one in done.changed], as_json, "nothing new")


@click.command()
@click.option("--state", type=click.Choice(["waiting", "started", "evaluated", "failed", "skipped"]),
              help="Only those in this state.")
@click.option("--again", metavar="RELEASE", help="Have the watch decide anew about this one (its id, its start, or"
              " its name): one that failed, say.")
@as_json
def releases(state: str | None, again: str | None, as_json: bool) -> None:
    """List what the watch has seen, the newest first, and what became of it: evaluated, skipped or failed and why.

    \b
    Examples:
      dyno releases
      dyno releases --state skipped --json
      dyno releases --again org/name
    """
    from models.paths import home, warehouse
    from warehouse import published, reader

    if again:
        from flows.releases import rounds

        one = rounds.reopen(home(), again)
        click.echo(f"{one.release.label} is decided about again in the next round (dyno watch --once)", err=True)
        return
    rows = []
    if published.stamp(warehouse()):
        rows = reader.query(warehouse(), "select * exclude (record) from releases where ? is null or state = ? "
                            "order by seen_at desc, name", [state, state]).to_dicts()
    _show(rows, as_json, "the watch has seen nothing (dyno watch --help)")


def _row(one: Seen) -> dict[str, Any]:
    release = one.release
    return {"release_id": release.release_id, "kind": release.kind, "name": release.name, "version": release.version,
            "state": one.state, "why": one.why, "estimate": one.estimate, "source": release.source,
            "released_at": release.released_at, "seen_at": one.seen_at, "parameters": release.parameters,
            "format": release.format, "quantization": release.quantization, "pools": [r.pool for r in one.runs]}


def _show(rows: list[dict[str, Any]], as_json: bool, nothing: str) -> None:
    from app._render import emit

    if not rows and not as_json:
        click.echo(nothing, err=True)
        return
    emit(rows, (
        ("release", lambda r: str(r["name"])),
        ("version", lambda r: str(r["version"])[:12]),
        ("kind", lambda r: str(r["kind"])),
        ("released", lambda r: str(r["released_at"] or "—")[:10]),
        ("weights", lambda r: f"{r['parameters'] / 1e9:.3g}B" if r["parameters"] else "—"),
        ("state", lambda r: str(r["state"])),
        ("source", lambda r: str(r["source"])),
        ("why", lambda r: ": ".join(filter(None, (r["why"], r["estimate"])))),
    ), as_json, spare=("kind", "version", "source", "released", "weights"))
