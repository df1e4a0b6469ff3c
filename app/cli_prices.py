"""`dyno prices`: every price that is known here, with its tier, region, date, source and age."""

from __future__ import annotations

import click


@click.command()
@click.option("--hardware", help="Of this accelerator or machine alone: H100, A100 80GB, ….")
@click.option("--tier", help="Of this tier alone: on-demand, spot, reserved-1y, owned, hyperscaler, rental, ….")
@click.option("--region", help="Of regions that begin so alone: us, eu-west-1, ….")
@click.option("--currency", default="USD", show_default=True, help="Show them in CNY, EUR, …, at a dated rate.")
@click.option("--all", "every", is_flag=True, help="Older prices too, not only the newest of each kind.")
@click.option("--usd-per-hour", type=click.FloatRange(min=0), help="Store this price for this machine first (--tier "
              "and --source say what it is).")
@click.option("--source", help="Where the price stored comes from.")
@click.option("--refresh", is_flag=True, help="Fetch what clouds ask now first (needs gpuhunt and a network).")
@click.option("--json", "as_json", is_flag=True, help="Print JSON (a list of objects) instead of a table.")
def prices(hardware: str | None, tier: str | None, region: str | None, currency: str, every: bool,
           usd_per_hour: float | None, source: str | None, refresh: bool, as_json: bool) -> None:
    """List the prices of hardware: your own, those fetched, and those that come with dyno.

    What a cost is computed from, where no price is named: your own before all others; spot only when asked for; then
    the newest, then the cheapest. A price by an accelerator's name is for one of them.

    \b
    Your own go into prices.yaml in DYNO_HOME, as many as you like:
      prices:
        - {hardware: H100, price_per_hour: 2.10, tier: reserved-1y, date: 2026-11-01, source: our contract}
        - {hardware: L20, price_per_hour: 9.5, currency: CNY, tier: on-demand, region: cn-beijing,
           date: 2026-11-01, source: quotation 4711}
        - hardware: our rack            # a machine by its name; its hour is worked out of what it costs to own
          date: 2026-11-01
          source: purchase order 17
          owned: {price: 250000, years: 5, interest: 0.08, salvage: 0.1, power_w: 8000, pue: 1.3,
                  electricity_per_kwh: 0.12, opex_share: 0.05, utilisation: 0.7}
      currencies:
        - {currency: CNY, per_usd: 6.65, date: 2026-11-20, source: our bank}

    \b
    Examples:
      dyno prices --usd-per-hour 0.12 --source "our cloud bill, November 2026"
      dyno prices --hardware H100
      dyno prices --hardware H100 --tier spot --currency CNY
      dyno prices --refresh --hardware H200 --json
    """
    from app import _prices
    from flows import market
    from models.errors import UserError
    from models.paths import home

    if source and usd_per_hour is None:
        raise UserError("--source: is of a price to be stored, which needs --usd-per-hour")
    if usd_per_hour is not None:
        from flows.run import set_price

        set_price(home(), usd_per_hour, tier or "own", source or "given on the command line")
    if refresh:
        from app._progress import display

        with display() as progress:
            got = market.refresh(home(), _prices.today().isoformat(), hardware, progress)
        click.echo(f"{got.stored} prices of {', '.join(got.providers)} stored", err=True)
        for provider, why in got.missing.items():
            click.echo(f"nothing from {provider}: {why}", err=True)
    market.sync(home())
    _prices.show(home(), hardware, tier, region, currency, every, as_json)
