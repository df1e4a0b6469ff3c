"""The guided question: what is served, to how many, how fast, and with what; all of it in the URL."""

from __future__ import annotations

import shlex
from typing import Any, get_args

import streamlit as st
from pydantic import ValidationError

from app.views import _data, _state
from app.views._scope import TPOT_DEFAULT_MS, TTFT_DEFAULT_MS
from models.choosing.evidence import Evidence
from models.choosing.question import Environment, Question
from models.errors import UserError

OWN_LENGTHS = "lengths of my own"
BY = {"rate": "requests a second", "users": "users at once", "full": "cheapest token"}
RATE_DEFAULT, USERS_DEFAULT = 2.0, 8.0
KIND_NAMES = {"cpu": "CPU", "gpu": "any GPU", "nvidia": "NVIDIA GPU", "amd": "AMD GPU", "metal": "Apple Metal"}
MORE = ("limits", "allowed", "needs", "environment", "kl", "budget", "tier", "down", "headroom")


def question() -> tuple[Question, Evidence] | None:
    """Draws the question and returns it with what can answer it; None where it is not whole, which is said."""
    with st.container(border=True):
        served, load, fast = st.columns(3, gap="medium")
        with served:
            st.markdown("**1 · What is served**")
            model = _model()
            evidence = _data.evidence(model)
            asked = {"model": model} | _lengths(evidence)
        with load:
            st.markdown("**2 · How much of it**")
            asked |= _load()
        with fast:
            st.markdown("**3 · How fast**")
            limits = _limits()
        constrained = sum(_state.wanted(key) is not None for key in MORE)
        with st.expander("**4 · With what**: hardware, needs, quality, budget, spares"
                         + (f" ({constrained} set)" if constrained else ""), expanded=constrained > 0):
            asked |= _constraints(evidence)
            other = _state.words("More limits", "limits", "Any metric, its mean or a percentile: itl_ms_p99<=100, "
                                 "e2e_ms_p95<=8000.", "e2e_ms_p95<=8000")
        asked["limits"] = " ".join(filter(None, (*limits, other)))
    if not asked["limits"]:
        st.info("Give at least one limit: without one, any stack is fast enough.")
        return None
    try:
        return Question.model_validate(asked), evidence
    except ValidationError as error:
        st.error("; ".join(e["msg"].removeprefix("Value error, ") for e in error.errors()))
    except UserError as error:
        st.error(str(error))
    return None


def _model() -> str:
    known = _data.models()
    names = list(known)
    start = _state.wanted("model") or names[0]
    options = names if start in names else [start, *names]
    value = st.selectbox("Model", options, index=options.index(start), key="box chosen model", accept_new_options=True,
                         help="A model that was measured, or a size such as 8B: models within a quarter of it.")
    model = str(value or names[0])
    _state.keep("model", model)
    return model


def _lengths(evidence: Evidence) -> dict[str, Any]:
    """The workload, or mean lengths."""
    mine = list(dict.fromkeys(c.workload for c in evidence.curves))
    options = [*(mine or evidence.workloads), OWN_LENGTHS]
    workload = _state.choose("Workload", options, "workload", note="Of what lengths requests are. Workloads that this "
                             "model was measured with; other lengths are carried over from these.")
    if workload != OWN_LENGTHS:
        return {"workload": workload}
    left, right = st.columns(2)
    with left:
        inputs = _state.number("Tokens in", "in", 100.0, 512.0, "Mean of a request.")
    with right:
        outputs = _state.number("Tokens out", "out", 100.0, 128.0, "Mean of a request.")
    return {"input_tokens": inputs or 1.0, "output_tokens": outputs or 1.0}


def _load() -> dict[str, Any]:
    by = _state.pick("Load of all instances together", list(BY), "by", text=BY.__getitem__)
    if by == "full":
        st.caption("No load: the stack whose token is cheapest when it is never idle.")
        return {}
    if by == "rate":
        return {"request_rate": _state.number("Requests a second", "rate", 1.0, RATE_DEFAULT) or RATE_DEFAULT}
    return {"concurrency": _state.number("Users at once", "users", 1.0, USERS_DEFAULT,
                                         "Each waits for the answer before asking again.") or USERS_DEFAULT}


def _limits() -> list[str]:
    left, right = st.columns(2)
    with left:
        ttft = _state.number("TTFT p95 ms", "ttft", 50.0, TTFT_DEFAULT_MS, "Time to first token, 95th percentile, from "
                             "the instant a request was meant to be sent. Empty: no limit.", "no limit")
    with right:
        tpot = _state.number("TPOT p95 ms", "tpot", 5.0, TPOT_DEFAULT_MS, "Time per output token after the first, 95th "
                             "percentile. Empty: no limit.", "no limit")
    return [f"{metric}<={value:g}" for metric, value in (("ttft_ms_p95", ttft), ("tpot_ms_p95", tpot)) if value]


def _constraints(evidence: Evidence) -> dict[str, Any]:
    """All that may be left as it is."""
    machines = KIND_NAMES | {m.name: m.label for m in evidence.machines}
    hardware = _state.several("Hardware allowed", list(machines), "allowed", text=machines.__getitem__,
                              note="None chosen: any.")
    features = sorted({c.name for c in evidence.capabilities if c.kind == "feature"})
    needs = _state.several("Needs", features, "needs", text=lambda n: n.replace("_", " ")) if features else ()
    where, quality, budget, tier = st.columns(4)
    with where:
        environment = _state.choose("Environment", ["any", *get_args(Environment)], "environment")
    with quality:
        kl = _state.number("Divergence at most, nats", "kl", 0.01, note="Of the next-token distributions from the "
                           "unquantised model's. Setups whose divergence was not measured are left out.", hint="any")
    with budget:
        usd = _state.number("Budget, USD a month", "budget", 100.0, hint="any")
    with tier:
        tiers = sorted({p.tier for p in evidence.prices})
        price = _state.choose("Price tier", ["any", *tiers], "tier", note="Any: the first that cannot be taken away.")
    spare, head, _, _ = st.columns(4)
    with spare:
        down = _state.number("Instances that may be down", "down", 1.0, hint="0")
    with head:
        room = _state.number("Headroom, %", "headroom", 10.0, note="Of the load, that must fit on top.", hint="0")
    for key, value in (("environment", environment), ("tier", price)):
        if value == "any":
            _state.forget(key)
    return {"hardware": hardware, "needs": needs, "environment": None if environment == "any" else environment,
            "kl_nats_max": kl, "budget_usd_per_month": usd, "price_tier": None if price == "any" else price,
            "down": int(down or 0), "headroom": min(9.99, (room or 0.0) / 100)}


def command(asked: Question) -> str:
    """The same question for a terminal."""
    options = {"model": asked.model, "workload": asked.workload, "input-tokens": asked.input_tokens,
               "output-tokens": asked.output_tokens, "rate": asked.request_rate, "concurrency": asked.concurrency,
               "slo": asked.limits, "hardware": ",".join(asked.hardware), "needs": ",".join(asked.needs),
               "environment": asked.environment, "kl-max": asked.kl_nats_max, "budget": asked.budget_usd_per_month,
               "price-tier": asked.price_tier, "down": asked.down, "headroom": asked.headroom}
    given = {k: f"{v:g}" if isinstance(v, float) else str(v) for k, v in options.items() if v}
    return " ".join(["dyno choose", *(f"--{k} {shlex.quote(v)}" for k, v in given.items())])
