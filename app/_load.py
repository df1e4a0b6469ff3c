"""What a load or a capacity search gave, said so that a person can act on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from app._answer import latencies
from app._render import Row, dump, emit, number


def show_load(result: Any, as_json: bool) -> None:
    """Prints the summary of a load run."""
    flat = result.flat()
    if as_json:
        dump(flat)
        return
    click.echo(f"{flat['url']} · {flat['model']} · {flat['workload']} · {flat['load']}")
    click.echo(f"{flat['requests_ok']} requests ok, {flat['requests_failed']} failed in {number(flat['window_s'])} s · "
               f"{_known(flat, 'requests_per_second')} requests/s · "
               f"{_known(flat, 'output_tokens_per_second')} output tok/s")
    latencies(flat)
    click.echo(f"prompts of {number(flat.get('input_tokens_mean'))} tokens ({flat['prompt_lengths']}; planned"
               f" {number(flat.get('input_tokens_planned_mean'))}), answers of {number(flat.get('output_tokens_mean'))}"
               f" · load generator: {number(flat['client_cpu_seconds'])} CPU s")
    for verdict in result.point.verdicts:
        click.echo(f"{verdict.severity}: {verdict.name}: {verdict.detail}")


def _known(flat: Row, metric: str) -> str:
    """`197 (190–204)`: a figure with its 95% interval."""
    low, high = flat["intervals"].get(metric, (None, None))
    known = f" ({number(low)}–{number(high)})" if low is not None and high is not None else ""
    return number(flat.get(metric)) + known


def show_capacity(found: Sequence[Any], as_json: bool) -> None:
    """Prints the largest loads that keep the limits first, then the probes that say so; on standard error what could
    not be searched."""
    searched = [one for one in found if not one.error]
    if as_json:
        dump([one.flat() for one in found] if len(found) != 1 else found[0].flat())
        searched = []
    alone = len(searched) == 1
    for place, one in enumerate(searched):
        if not alone:
            click.echo(("\n" if place else "") + one.label)
        for capacity in one.capacities:
            click.echo(_sentence(capacity))
        for note in one.notes:
            click.echo(note)
        click.echo("limits " + ", ".join(str(limit) for limit in one.limits)
                   + (f" · {one.label}" if alone else ""))
        _probes(one)
    for one in found:
        if one.error:
            click.echo(f"{'failed' if one.failed else 'not searched'}: {one.label}: {one.error}", err=True)


def _probes(one: Any) -> None:
    """What was driven, and what it cost."""
    click.echo(f"{len(one.probes)} probes" + (f" ({one.reused} of them from the warehouse)" if one.reused else "")
               + f", {number(one.engine_s)} engine seconds, {number(one.wall_s)} s in all:")
    emit([_row(p) for p in one.probes], _COLUMNS, as_json=False)


def _row(probe: Any) -> dict[str, Any]:
    values = " ".join(f"{k} {number(v)}" for k, v in probe.values.items())
    load = f"{probe.level:g} at once" if probe.kind == "concurrency" else f"{probe.level:g}/s"
    said = "keeps" if probe.keeps else ", ".join(probe.fatal) or ("breaks, broken off" if probe.hopeless else "breaks")
    return {"load": load, "values": values, "requests": probe.requests_ok, "tok/s": probe.output_tokens_per_second,
            "s": probe.seconds, "limits": said, "sure": probe.sure}


_COLUMNS = (("load", lambda r: r["load"]), ("measured", lambda r: r["values"]),
            ("requests", lambda r: number(r["requests"])), ("tok/s", lambda r: number(r["tok/s"])),
            ("engine s", lambda r: number(r["s"])), ("limits", lambda r: r["limits"]),
            ("sure", lambda r: f"{r['sure']:.0%}"))


def _sentence(one: Any) -> str:
    name, unit = (("concurrency", " at once") if one.kind == "concurrency" else ("Poisson rate", " requests a second"))
    if one.breaks is None and not one.keeps:
        return f"Largest {name}: not found."
    if one.breaks is None:
        return f"Largest {name}: at least {number(one.keeps)}{unit}: {one.why}."
    if not one.keeps:
        return f"Largest {name}: none: {number(one.breaks)}{unit} already breaks a limit."
    interval = number(one.low) if one.low == one.high else f"{number(one.low)}–{number(one.high)}"
    return (f"Largest {name}: {number(one.estimate)}{unit} (95% interval {interval}). {number(one.keeps)} kept the"
            f" limits, {number(one.breaks)} did not: {one.sure:.0%} sure that it lies between.")
