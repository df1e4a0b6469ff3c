"""The charts of the Cost page."""

from __future__ import annotations

import altair as alt
import polars as pl
import streamlit as st

from app.views import _bills, _frame, _style
from app.views._bills import Offer
from models.planning import cost, fleet
from models.planning.bill import Demand
from models.planning.capacity import Served
from warehouse.hosted import Hosted

LINES, APIS = 5, 3
"""Prices and APIs drawn; the tables hold all."""
OWN = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
HOSTED = "#8c8c8c"
SHARES = [i / 100 for i in range(4, 101, 2)]


def day(one: Served, demand: Demand) -> None:
    """Load of each hour under what the fleet can serve."""
    rates = demand.profile.rates(demand.mean_per_second)
    each = one.requests_per_second
    fixed = fleet.with_spares(max(rates), each, demand.down)
    counts = [max(1, fleet.with_spares(r, each, demand.down)) if demand.autoscale else fixed for r in rates]
    data = pl.DataFrame({"hour": range(24), "load": rates, "capacity": [n * each for n in counts], "instances": counts})
    data = data.with_columns(shown=pl.Series([_style.shown(v) for v in data["load"]]),
                             of=pl.Series([_style.shown(v) for v in data["capacity"]]), next=pl.col("hour") + 1)
    x = alt.X("hour:Q", title="Hour of the day", scale=alt.Scale(domain=[0, 24], nice=False),
              axis=alt.Axis(values=list(range(0, 25, 4))))
    tips = [alt.Tooltip("hour", title="Hour"), alt.Tooltip("shown", title="Load, requests/s"),
            alt.Tooltip("of", title="Fleet serves, requests/s"), alt.Tooltip("instances", title="Instances")]
    base = alt.Chart(data)
    bars = base.mark_bar(color=OWN[0], opacity=0.75).encode(
        x=x, x2="next:Q", y=alt.Y("load:Q", title="Requests/s", axis=_style.axis(4)), y2=alt.datum(0), tooltip=tips)
    steps = base.mark_rule(color=OWN[1], strokeWidth=2).encode(x=x, x2="next:Q", y="capacity:Q", tooltip=tips)
    st.altair_chart((bars + steps).properties(height=300), key="day")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Bars: the load. Lines: what the instances serve, spares too.")
        st.space("stretch")
        _frame.download(data.select("hour", "load", "capacity", "instances"), "day")


def utilisation(one: Served, demand: Demand, offer: Offer, prices: list[Offer], apis: list[Hosted]) -> None:
    """USD per million output tokens over the share of capacity that is used."""
    each, request, tokens = one.requests_per_second, demand.request, demand.request.output_tokens
    rows = [{"share": 100 * u, "usd": cost.per_million(o.usd_per_hour, u * each, request).output,
             "who": f"own: {o.label}"} for o in _few(offer, prices) for u in SHARES]
    rows += [{"share": 100 * u, "usd": h.usd_per_request * 1e6 / tokens, "who": _name(h)}
             for h in apis[:APIS] for u in (SHARES[0], 1.0)]
    data = pl.DataFrame(rows)
    _lines(data, "share", "% of the capacity used", "usd", "USD per M output tokens", "utilisation", log=True)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("The whole cost charged to output tokens" + (", the API's for its input too" if apis else "")
                   + ". The scale is logarithmic.")
        st.space("stretch")
        _frame.download(data.rename({"share": "utilisation_percent", "usd": "usd_per_million_output_tokens"}),
                        "utilisation")


def growth(one: Served, demand: Demand, offer: Offer, prices: list[Offer], apis: list[Hosted]) -> None:
    """A month's cost over the mean rate: own comes in whole instances, the API by the request."""
    evens = [e.for_good for h in apis[:1] if (e := _bills.even_of(one, demand, offer, h.usd_per_request)).for_good]
    top = max([2.5 * demand.mean_per_second, *(1.5 * e for e in evens if e < 1e3 * demand.mean_per_second)])
    data = pl.DataFrame(_bills.staircase(one, demand, _few(offer, prices), top))
    lines = [{"rate": top * i / 2, "who": _name(h), "instances": None, "usd": _bills.monthly(
        h, demand.model_copy(update={"mean_per_second": top * max(i, 0.01) / 2}))}
        for h in apis[:APIS] for i in range(3)]
    data = pl.concat([data, pl.DataFrame(lines, schema=data.schema)]) if lines else data
    _lines(data, "rate", "Requests/s on the mean", "usd", "USD a month", "growth", at=demand.mean_per_second)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Dashed: the load asked about.")
        st.space("stretch")
        _frame.download(data.rename({"usd": "usd_per_month", "rate": "requests_per_second"}), "growth")


def _few(offer: Offer, prices: list[Offer]) -> list[Offer]:
    """The price chosen and the cheapest of the other tiers."""
    others = {o.tier: o for o in sorted(prices, key=lambda o: -o.usd_per_hour) if o.tier != offer.tier}
    return [offer, *sorted(others.values(), key=lambda o: o.usd_per_hour)][:LINES]


def _name(api: Hosted) -> str:
    return " ".join(filter(None, ("API:", api.provider, api.model)))


def _lines(data: pl.DataFrame, x: str, x_title: str, y: str, y_title: str, key: str, at: float | None = None,
           log: bool = False) -> None:
    names = data["who"].unique(maintain_order=True).to_list()
    own = [n for n in names if n.startswith("own")]
    colours = [OWN[own.index(n) % len(OWN)] if n in own else HOSTED for n in names]
    dashes = [[1, 0] if n in own else [6, 3] if i == len(own) else [2, 2 + i] for i, n in enumerate(names)]
    data = data.with_columns(shown=pl.Series([_style.shown(v) for v in data[y]]),
                             at=pl.Series([_style.shown(v) for v in data[x]]))
    legend = alt.Legend(orient="top", columns=2, labelLimit=300)
    chart = alt.Chart(data).mark_line(strokeWidth=2).encode(
        x=alt.X(f"{x}:Q", title=x_title, axis=_style.axis(), scale=alt.Scale(nice=False)),
        y=alt.Y(f"{y}:Q", title=y_title, axis=_style.axis(5), scale=alt.Scale(type="log") if log else alt.Scale()),
        color=alt.Color("who:N", title=None, scale=alt.Scale(domain=names, range=colours), legend=legend),
        strokeDash=alt.StrokeDash("who:N", title=None, scale=alt.Scale(domain=names, range=dashes), legend=legend),
        tooltip=[alt.Tooltip("who", title="Who"), alt.Tooltip("at", title=x_title),
                 alt.Tooltip("shown", title=y_title)])
    layers: alt.Chart | alt.LayerChart = chart
    if at is not None:
        layers = chart + alt.Chart(pl.DataFrame({"at": [at]})).mark_rule(
            strokeDash=[4, 3], color=_style.MUTED).encode(x="at:Q")
    st.altair_chart(layers.properties(height=300), key=key)
