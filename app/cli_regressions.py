"""`dyno regressions`: what got slower, or faster, since it was measured last."""

from __future__ import annotations

import click


@click.command()
@click.option("--all", "every", is_flag=True, help="What did not change beyond noise, too.")
@click.option("--compare", is_flag=True, help="Compare all that is measured with the last before it first; an "
              "evaluation does so with what it measured.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON (a list of objects) instead of a table.")
def regressions(every: bool, compare: bool, as_json: bool) -> None:
    """List what a new engine version, other weights or a rerun changed, newest first.

    The same setups under the same loads are compared request by request. A change is listed when it is beyond noise
    (also that from one run to the next, which reruns teach) with everything compared at once in mind, and 5 % or more.

    \b
    Examples:
      dyno regressions
      dyno regressions --all --json
      dyno evaluate my-experiment.yaml --fresh; dyno regressions
    """
    from app._regressions import show
    from models.paths import home, warehouse

    if compare:
        from flows.changes import look

        look(home())
    show(home() if compare else warehouse(), every, as_json)
