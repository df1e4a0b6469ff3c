"""`dyno plan capacity`: how many instances keep an SLO at a rate, from measured load levels and their curves."""

from __future__ import annotations

import click

POSITIVE = click.FloatRange(min=0, min_open=True)


@click.command()
@click.argument("stack", required=False)
@click.option("--rate", type=POSITIVE, required=True, help="Requests a second, mean of the day.")
@click.option("--slo", default="ttft_ms_p95<=500 and tpot_ms_p95<=50", show_default=True, help="Limits to keep.")
@click.option("--workload", help="Which of the workloads that STACK was measured with.")
@click.option("--capacity", type=POSITIVE, help="Without STACK: requests a second of one instance within them.")
@click.option("--profile", default="even", show_default=True,
              help="How the load goes through the day: even, working-hours, consumer, or 24 numbers.")
@click.option("--down", type=click.IntRange(min=0), default=1, show_default=True,
              help="Instances that may be down while the SLO is kept.")
@click.option("--max-instances", type=click.IntRange(min=1), help="No more than so many can be had.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
def capacity(stack: str | None, rate: float, slo: str, workload: str | None, capacity: float | None, profile: str,
             down: int, max_instances: int | None, as_json: bool) -> None:
    """Turn a rate and an SLO into whole instances, at each level of formula side by side.

    STACK is a setup (or a trial, for what that one point did), by the start of its id. An SLO or rate that cannot be
    kept is answered with the nearest that can; the exit code is 1 then.

    \b
    Examples:
      dyno plan capacity 3f2a91 --rate 20 --slo "ttft_ms_p95<=500 tpot_ms_p95<=40"
      dyno plan capacity 3f2a91 --rate 20 --profile consumer --down 2 --json
      dyno plan capacity --capacity 4.2 --rate 20 --max-instances 6
    """
    import sys

    from app import _plan_capacity
    from models import slo as limits
    from models.paths import warehouse
    from models.planning.profile import parse

    question = _plan_capacity.Question(rate=rate, profile=parse(profile), down=down, max_instances=max_instances)
    ok = _plan_capacity.show(warehouse(), stack, workload, limits.parse(slo), capacity, question, as_json)
    sys.exit(0 if ok else 1)
