"""Choose: a question about a model, its traffic and its limits; the answer as a sentence; then what it rests on."""

from __future__ import annotations

import polars as pl
import streamlit as st

from app.views import _ask, _data, _empty, _frame, _nav, _new, _procedure, _ranked, _style
from models.choosing.answer import Answer, Choice
from models.choosing.sentence import money
from models.errors import UserError

BASES = {"measured": ":green-badge[measured]", "interpolated": ":blue-badge[interpolated]",
         "extrapolated": ":orange-badge[extrapolated]", "formula": ":red-badge[formula]"}
SURE = 0.995


def page() -> None:
    """Draws the page."""
    if not _data.models():
        _empty.nothing_measured(_data.failures())
        return
    _new.draw()
    asked = _ask.question()
    if asked is None:
        return
    question, evidence = asked
    try:
        found = _data.answered(question)
    except UserError as error:
        st.error(str(error))
        return
    answer = found.answer
    _say(answer)
    if answer.ranked:
        _ranked.draw(answer)
        _changes(answer)
    else:
        _unmeasured(answer)
    _procedure.draw(answer, evidence)
    _excluded(answer)
    _whole(found)


def _say(answer: Answer) -> None:
    best = answer.best
    if best is None:
        st.warning(f"**{answer.sentence}**")
    else:
        with st.container(border=True):
            st.markdown(f"#### {_escaped(answer.sentence)}")
            st.markdown(_sure(best, answer))
            _tiles(best)
            st.caption(f"{best.price.price_usd_per_hour:g} USD an hour for {best.machine.label} ({best.price.tier}, "
                       f"{best.price.date}: {best.price.source}). A month has 730 hours. Workload {best.workload}."
                       + (" Random weights: speed and memory are real, quality is not."
                          if "synthetic" in best.stack.model else ""))
    for note in answer.notes:
        st.caption(f"{note[:1].upper()}{note[1:]}.")


def _sure(best: Choice, answer: Answer) -> str:
    """How sure, and on what it rests."""
    parts = [f"{BASES[best.basis]} {best.capacity.how}"]
    likely = best.probability_cheaper
    if likely is not None and len(answer.ranked) > 1:
        text = "more than 99 %" if likely > SURE else f"{likely:.0%}".replace("%", " %")
        parts.append(f"**{text}** likely to be really cheaper than the next, {answer.ranked[1].label}")
    if answer.changes:
        parts.append("another stack wins with " + ", ".join(c.what for c in answer.changes))
    return " · ".join(map(_escaped, parts))


def _tiles(best: Choice) -> None:
    tiles = [("Instances", str(best.instances), "whole ones")]
    if best.load:
        tiles.append(("A month", f"{money(best.usd_per_month)} USD", "730 hours of all instances"))
    tiles.append(("Output tokens", f"{money(best.usd_per_million_output_tokens)} USD/M", "the whole cost charged to "
                  "output tokens" + (", idle hours too" if best.load else "")))
    tiles.append(("An instance carries", f"{_style.shown(best.capacity.value)} req/s", _interval(best)))
    if best.headroom is not None:
        tiles.append(("Headroom", f"{best.headroom:.0%}".replace("%", " %"), "of the load that fits on top"))
    with st.container(horizontal=True, gap="medium"):
        for label, value, note in tiles:
            st.metric(label, value, help=note, width="content")


def _interval(best: Choice) -> str:
    one = best.capacity
    if one.low is None or one.high is None:
        return "within the limits"
    return f"within the limits; {one.confidence:.0%} interval {_style.shown(one.low)} to {_style.shown(one.high)}"


def _escaped(text: str) -> str:
    return text.replace("$", r"\$").replace("~", r"\~")


def _changes(answer: Answer) -> None:
    st.markdown("**What would change it**")
    lines = []
    for change in answer.changes:
        after = "nothing measured fits any more" if change.winner is None else change.winner + (
            f", {money(change.usd_per_month)} USD a month" if change.usd_per_month is not None else "")
        lines.append(f"- {change.what}: **{after}**")
    if answer.unchanged:
        lines.append(f"- the same stack wins with {', '.join(answer.unchanged)}")
    st.markdown("\n".join(map(_escaped, lines)))


def _unmeasured(answer: Answer) -> None:
    """What formulas say, and the experiment that would settle it."""
    if answer.estimates:
        st.markdown("**What formulas say**: nobody measured this")
        rows = [{"Stack": e.label, "Instances": e.instances, "An instance carries, req/s": e.capacity.value,
                 "USD a month": e.usd_per_month, "USD per M out": e.usd_per_million_output_tokens,
                 "Basis": e.capacity.basis, "How": e.capacity.how} for e in answer.estimates]
        frame = pl.DataFrame(rows, infer_schema_length=None)
        _frame.table(frame, key="estimates", select=False)
        _frame.download(frame, "estimates")
        if learned := answer.estimates[0].learned:
            st.markdown(f"Learned from what was measured elsewhere, with intervals: `{learned}`")
    if answer.experiment:
        st.markdown("**The experiment that would settle it**: save it and run `dyno evaluate settle.yaml`")
        st.code(answer.experiment, language="yaml")
        st.download_button("settle.yaml", answer.experiment, "settle.yaml", "text/yaml", key="experiment",
                           on_click="ignore", type="tertiary")


def _excluded(answer: Answer) -> None:
    if not answer.excluded:
        return
    kinds = {k: sum(e.kind == k for e in answer.excluded) for k in dict.fromkeys(e.kind for e in answer.excluded)}
    title = f"What was left out: {_style.count(len(answer.excluded), 'setup')} (" + ", ".join(
        f"{n} by {kind}" for kind, n in kinds.items()) + ")"
    with st.expander(title, expanded=not answer.ranked):
        frame = pl.DataFrame([{"Setup": e.label, "By": e.kind, "Why": e.reason, "Trial": (e.trial_ids or ("",))[0][:8]}
                              for e in answer.excluded])
        picked = _frame.table(frame, key="excluded", height="auto" if frame.height > 10 else "content")
        with st.container(horizontal=True, vertical_alignment="center"):
            if picked is not None and answer.excluded[picked].trial_ids:
                _nav.link_to_run(answer.excluded[picked].trial_ids[0], "Open its nearest run")
            st.space("stretch")
            _frame.download(frame, "excluded")


def _whole(found: _data.Answered) -> None:
    answer = found.answer
    with st.expander("In a terminal: the same question, and how to deploy the answer"):
        lines = [_ask.command(answer.question)]
        if answer.best:
            setup = answer.best.stack.setup_id
            lines += [f"dyno deploy {setup} --format {form}" for form in ("command", "compose", "kubernetes")]
        st.code("\n".join(lines), language="shell", wrap_lines=True)
    with st.container(horizontal=True, vertical_alignment="center"):
        curves = _style.count(found.curves, "curve")
        st.caption(f"Answered from {_style.count(found.points, 'measured point')} of {curves}. The address of "
                   "this page holds the question.")
        st.space("stretch")
        st.download_button("Answer as JSON", lambda: answer.model_dump_json(indent=1),
                           "dyno-answer.json", "application/json", key="answer json", type="tertiary",
                           on_click="ignore")
