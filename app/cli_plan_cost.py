"""`dyno plan cost`: what serving a load costs a month, at each level of formula, beside a hosted API."""

from __future__ import annotations

from typing import Any

import click

POSITIVE, FROM_0 = click.FloatRange(min=0, min_open=True), click.FloatRange(min=0)
SHARE = click.FloatRange(0, 1)


@click.command()
@click.argument("stack", required=False)
@click.option("--slo", help="Of a setup: what one instance serves is within these limits, `ttft_ms_p95<=500 …`.")
@click.option("--workload", help="Which of the workloads that STACK was measured with.")
@click.option("--capacity", type=POSITIVE, help="Without STACK: requests a second that one instance serves.")
@click.option("--throughput", type=POSITIVE, help="Without STACK: output tokens a second of one instance.")
@click.option("--input-tokens", type=FROM_0, help="Of the mean request [default: as measured].")
@click.option("--output-tokens", type=POSITIVE, help="Of the mean request [default: as measured].")
@click.option("--cached-tokens", type=FROM_0, help="Of its input, from the prefix cache [default: as measured].")
@click.option("--rate", type=POSITIVE, help="Requests a second, mean of the day.")
@click.option("--requests-per-day", type=POSITIVE)
@click.option("--tokens-per-day", type=POSITIVE, help="Output tokens a day.")
@click.option("--profile", default="even", show_default=True, help="even, working-hours, consumer, or 24 numbers.")
@click.option("--down", type=click.IntRange(min=0), default=0, show_default=True,
              help="Spares: instances that may be down while the limits are kept.")
@click.option("--autoscale", is_flag=True, help="Run each hour what it needs, not day and night what the busiest does.")
@click.option("--ready-seconds", type=FROM_0, help="A new instance's start, which is paid [default: as measured].")
@click.option("--spot-interruptions", type=FROM_0, help="Of one instance an hour: 0.05 is one in 20 hours.")
@click.option("--spot-lost-seconds", type=FROM_0, default=0.0, show_default=True, help="Work lost each time.")
@click.option("--price", type=FROM_0, help="An instance's price an hour, in --currency.")
@click.option("--owned", help="Instead: what a machine costs to own, as price=250000,years=5,interest=0.08,salvage=0.1,"
              "power_w=8000,pue=1.3,electricity_per_kwh=0.12,opex_share=0.05,utilisation=0.7")
@click.option("--hardware", help="Instead: the price list's accelerator, H100, … [default: STACK's own].")
@click.option("--gpus", type=click.IntRange(min=1), default=1, show_default=True, help="Of --hardware, an instance.")
@click.option("--tier", help="The price of this tier: on-demand, spot, reserved-1y, owned, neocloud, ….")
@click.option("--region", help="The price of regions that begin so.")
@click.option("--storage-gib", type=FROM_0, default=0.0)
@click.option("--storage-price", type=FROM_0, default=0.0, help="Of a GiB a month, in --currency.")
@click.option("--hosted", help="A model as hosted APIs name it: their prices (genai-prices), and the break-even.")
@click.option("--hosted-provider", help="Of this provider alone.")
@click.option("--hosted-price", type=(FROM_0, FROM_0), metavar="IN OUT",
              help="Instead: an API's price of a million input and output tokens, in --currency.")
@click.option("--power-w", type=POSITIVE, help="Of an instance [default: as measured, else its GPUs' spec sheet].")
@click.option("--pue", type=click.FloatRange(min=1), default=1.0, show_default=True, help="Power of site ÷ machines.")
@click.option("--gco2-per-kwh", type=FROM_0, help="Carbon intensity of your region's grid.")
@click.option("--gco2-source", help="Where that figure comes from; it is never without.")
@click.option("--currency", default="USD", show_default=True, help="Money in and out: USD, CNY, ….")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of tables.")
def cost(stack: str | None, as_json: bool, **options: Any) -> None:
    """Price a load: whole instances over a day, spares, a month's bill, per token and per request.

    STACK is a trial or a setup by the start of its id. The rough level is the survey's formula on the mean load: no
    busiest hour, no spares. The others pay for whole instances over the whole day. Prices per million input, output or
    total tokens each charge everything, so they do not add up; the split by prefill and decode time does.

    \b
    Examples:
      dyno plan cost 3f2a91 --requests-per-day 500000 --profile consumer --down 1
      dyno plan cost 3f2a91 --slo "ttft_ms_p95<=500" --rate 8 --hardware H100 --tier spot --spot-interruptions 0.05
      dyno plan cost --throughput 2400 --input-tokens 1000 --output-tokens 250 --rate 5 --hardware H100 \\
          --tier neocloud --hosted llama-3.1-8b-instruct --currency CNY
      dyno plan cost --capacity 4 --input-tokens 500 --output-tokens 200 --rate 3 \\
          --owned price=250000,years=5,interest=0.08,power_w=8000,pue=1.3,electricity_per_kwh=0.12 --json
    """
    from app import _plan_cost
    from models.paths import warehouse

    _plan_cost.show(warehouse(), stack, options, as_json)
