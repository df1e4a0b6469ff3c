"""Cost: what a load costs on a measured setup, what if price, utilisation or traffic were others, and a hosted API."""

from __future__ import annotations

import polars as pl
import streamlit as st
from streamlit.delta_generator import DeltaGenerator as Column

from app.views import _bills, _cost_charts, _data, _empty, _frame, _scope, _state, _style
from app.views._bills import Offer
from app.views._scope import Scope
from models import planner
from models.choosing.sentence import money
from models.errors import UserError
from models.planning import profile as profiles
from models.planning.bill import Bill, Demand, Rate, bill
from models.planning.capacity import Impossible, Served
from models.planning.cost import Request
from models.planning.profile import Profile
from warehouse.hosted import Hosted

OWN_PRICE, OWN_HOURS = "a price of my own", "24 numbers of my own"
RATE_DEFAULT, PRICE_DEFAULT = 1.0, 1.0
UNITS = {"second": 1.0, "day": 1 / 86_400, "month": 1 / (86_400 * 365 / 12)}
"""Requests a …"""


def page() -> None:
    """Draws the page."""
    scope = _scope.current()
    if scope is None:
        _empty.nothing_measured(_data.failures())
        return
    chosen, priced, typed = st.columns([2, 1, 1])
    with chosen:
        rows = _setup(scope)
    offer, prices = _offer(rows["hardware_id"][0], priced, typed)
    asked = _bills.request(rows)
    if asked is None:
        st.info("Nothing of this setup was answered and can be trusted: choose another.")
        return
    try:
        levels = _bills.served(rows, scope.limits)
    except UserError as error:
        st.info(str(error))
        return
    if isinstance(levels, Impossible):
        nearest = " and ".join(str(x) for x in levels.nearest)
        st.warning(f"{levels.reason}. The nearest that is kept: {nearest}. Raise the limits in the side bar.")
        return
    demand = _demand(asked)
    if demand is None:
        return
    apis = _apis(asked)
    one = _bills.best(levels)
    made = bill(one, demand, Rate(usd_per_hour=offer.usd_per_hour))
    _say(rows, one, demand, made, offer, apis)
    _charts(one, demand, offer, prices, apis)
    _tables(levels, demand, offer, prices, apis)


def _setup(scope: Scope) -> pl.DataFrame:
    """The rows of the setup chosen; at first of the cheapest that keeps the limits."""
    names = dict(scope.rows.select("setup_id", "setup_shown").unique().sort("setup_shown").iter_rows())
    best = planner.cheapest(scope.rows.to_dicts(), scope.limits).best
    first = scope.rows.filter(pl.col("trial_id") == best)["setup_id"].to_list() if best else []
    chosen = _state.choose("Setup", list(names), "setup", default=first[0] if first else None, text=names.__getitem__)
    return scope.rows.filter(pl.col("setup_id") == chosen)


def _offer(hardware_id: str, left: Column, right: Column) -> tuple[Offer, list[Offer]]:
    """The price chosen, and all there are."""
    known = _bills.offers(_data.prices(hardware_id))
    labels = [o.label for o in known]
    with left:
        chosen = _state.choose("USD an hour of the machine", [*labels, OWN_PRICE], "price")
    if chosen != OWN_PRICE:
        return known[labels.index(chosen)], known
    with right:
        usd = _state.number("USD an hour", "usd", 0.1, PRICE_DEFAULT) or PRICE_DEFAULT
    own = Offer(usd, "typed", "—", "typed in")
    return own, [own, *known]


def _demand(asked: Request) -> Demand | None:
    amount, unit, hours, spare = st.columns(4)
    with amount:
        load = _state.number("Requests", "load", 1.0, RATE_DEFAULT, "Mean over the day.") or RATE_DEFAULT
    with unit:
        per = _state.choose("a …", list(UNITS), "per")
    with hours:
        name = _state.choose("Over the day", [*profiles.named(), OWN_HOURS], "profile")
    with spare:
        down = _state.number("Spare instances", "down", 1.0, note="That many may be down while the limits are kept.",
                             hint="0")
    shape = _profile(name)
    if shape is None:
        return None
    scaled = _state.flag("Scale with the hour of the day", "autoscale", "Each hour has the instances that it needs; "
                         "otherwise there are always enough for the busiest.")
    return Demand(mean_per_second=load * UNITS[per], profile=shape, request=asked, down=int(down or 0),
                  autoscale=scaled)


def _profile(name: str) -> Profile | None:
    if name != OWN_HOURS:
        return profiles.named()[name]
    text = _state.words("Weights of the 24 hours from midnight", "hours", hint="1 1 1 1 1 1 2 4 8 …")
    try:
        return profiles.parse(text)
    except UserError as error:
        st.info(str(error))
        return None


def _apis(asked: Request) -> list[Hosted]:
    """Hosted APIs, those typed in first; empty where none was asked about."""
    with st.expander("Beside a hosted API: its price, or a model's name", expanded=any(
            _state.wanted(k) for k in ("api_in", "api_out", "api"))):
        inputs, outputs, named = st.columns(3)
        with inputs:
            usd_in = _state.number("USD per M input tokens", "api_in", 0.1, hint="none")
        with outputs:
            usd_out = _state.number("USD per M output tokens", "api_out", 0.1, hint="none")
        with named:
            name = _state.words("Model as a provider names it", "api", "Prices of genai-prices, where it is installed.",
                                "llama-3.1-8b-instruct")
        try:
            return _bills.apis(name, (usd_in, usd_out), asked)
        except UserError as error:
            st.warning(str(error))
            return _bills.apis("", (usd_in, usd_out), asked)


def _say(rows: pl.DataFrame, one: Served, demand: Demand, made: Bill, offer: Offer, apis: list[Hosted]) -> None:
    with st.container(border=True):
        st.markdown(f"#### {_style.count(made.instances, 'instance')} of {rows['setup_shown'][0]}: "
                    f"{money(made.usd_per_month)} USD a month, {money(made.per_million.output)} USD per million output "
                    "tokens")
        if apis:
            st.markdown(_against(one, demand, made, offer, apis[0]))
        span = f", 90 %: {_style.shown(one.low)} to {_style.shown(one.high)}" if one.low else ""
        request = demand.request
        st.caption(f"One instance serves {_style.shown(one.requests_per_second)} requests a second within the limits "
                   f"({one.level}: {one.how}{span}). {_style.shown(demand.mean_per_second)} a second on the mean, "
                   f"{_style.shown(demand.mean_per_second * demand.profile.peak_factor)} in the busiest hour; "
                   f"{_style.shown(request.input_tokens)} tokens in, {_style.shown(request.output_tokens)} out. "
                   f"{offer.usd_per_hour:g} USD an hour ({offer.tier}, {offer.date}: {offer.source}). "
                   f"{made.utilisation:.0%} of the paid hours are used.".replace("%", " %").replace("  %", " %"))


def _against(one: Served, demand: Demand, made: Bill, offer: Offer, api: Hosted) -> str:
    """Own serving beside the API, and where they cost the same."""
    theirs = _bills.monthly(api, demand)
    name = " ".join(filter(None, (api.provider, api.model)))
    less, more = sorted((theirs, made.usd_per_month))
    who = "The hosted API is" if theirs < made.usd_per_month else "Own serving is"
    text = (f"{who} cheaper: {name} asks **{money(theirs)} USD a month** for the same requests, own serving costs "
            f"**{money(made.usd_per_month)}**" + (f" ({more / less:.2g} times)" if less else "") + ". ")
    even = _bills.even_of(one, demand, offer, api.usd_per_request)
    if even.first is None or even.for_good is None:
        return text + "The API is cheaper at any rate, even beside machines that are never idle."
    return text + (f"They break even at **{_style.shown(even.first)} requests a second** on the mean; from "
                   f"{_style.shown(even.for_good)} on, own serving stays cheaper.")


def _charts(one: Served, demand: Demand, offer: Offer, prices: list[Offer], apis: list[Hosted]) -> None:
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**A day**: load and what is paid for")
        _cost_charts.day(one, demand)
    with right:
        st.markdown("**Utilisation**: what a token costs when machines are partly idle")
        _cost_charts.utilisation(one, demand, offer, prices, apis)
    st.markdown("**More or fewer requests**: a month's cost" + (", own and hosted" if apis else ""))
    _cost_charts.growth(one, demand, offer, prices, apis)


def _tables(levels: list[Served], demand: Demand, offer: Offer, prices: list[Offer], apis: list[Hosted]) -> None:
    st.markdown("**By level of formula**, roughest first")
    frame = _bills.table(levels, demand, offer)
    _frame.table(frame, key="levels", select=False)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Rough is the survey's formula on the mean load: no busiest hour, no spares. Prices per million "
                   "input, output and all tokens each charge everything: they do not add up.")
        st.space("stretch")
        _frame.download(frame, "levels")
    st.markdown("**By price**")
    by_offer = _bills.by_offer(_bills.best(levels), demand, prices, apis[0].usd_per_request if apis else None)
    _frame.table(by_offer, key="prices", select=False, lower=["USD a month"])
    _frame.download(by_offer, "prices")
    if len(apis) > 1:
        st.markdown("**Hosted APIs**")
        frame = pl.DataFrame([{"Provider": h.provider, "Model": h.model, "USD per M in": h.usd_per_million_input,
                               "USD per M out": h.usd_per_million_output, "USD a month": _bills.monthly(h, demand),
                               "Source": h.source} for h in apis])
        _frame.table(frame, key="apis", select=False, lower=["USD a month"])
        _frame.download(frame, "apis")
