"""What is new: releases that the watch saw lately, and what they came to."""

from __future__ import annotations

import datetime as dt
from typing import Any

import polars as pl
import streamlit as st

from app.views import _data, _frame, _nav, _style
from models.choosing.sentence import money

DAYS, SHOWN = 14, 3
NEWS = """
with points as (
    select m.content, x.model, x.trial_id, x.setup, x.load, x.fatal, x.usd_per_million_output_tokens as usd,
           x.output_tokens_per_second as speed
    from measurements x join setups s using (setup_id) join models m using (model_id)
    where m.content in (select content from releases where kind = 'model')
), best as (
    select content, count(*) as points, count(*) filter (fatal) as distrusted, min(usd) filter (not fatal) as usd,
           coalesce(arg_min(trial_id, usd) filter (not fatal), arg_max(trial_id, speed) filter (not fatal)) as trial_id
    from points group by content
)
select r.* exclude (record), b.points, b.distrusted, b.usd, b.trial_id, p.setup, p.load, p.speed, p.model,
       coalesce(r.released_at, r.seen_at) as dated
from releases r left join best b on r.content = b.content and r.kind = 'model'
left join points p on p.trial_id = b.trial_id
order by r.state not in ('evaluated', 'failed'), coalesce(r.ended_at, r.decided_at) desc, r.name"""
"""Releases with the cheapest trusted point of each (the fastest, where nothing has a price)."""
BADGES = {"evaluated": ":green-badge[evaluated]", "started": ":blue-badge[being measured]",
          "waiting": ":orange-badge[waiting]", "failed": ":red-badge[failed]", "skipped": ":gray-badge[skipped]"}


def draw() -> None:
    """Draws it; nothing where the watch has seen nothing lately."""
    since = dt.datetime.now(dt.UTC).replace(tzinfo=None) - dt.timedelta(days=DAYS)
    found = _data.query(NEWS).filter((pl.col("decided_at") >= since) | (pl.col("state").is_in(["waiting", "started"])))
    news = found.filter(pl.col("state").is_in(["evaluated", "started", "failed"]) & (pl.col("kind") != "prices"))
    if found.is_empty():
        return
    with st.container(border=True, gap="xsmall"):
        for row in news.head(SHOWN).iter_rows(named=True):
            _line(row)
        _rest(found)


def _line(row: dict[str, Any]) -> None:
    name = row["name"] if row["kind"] == "model" else f"{row['name']} {row['version']}"
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall"):
        st.markdown(f"**New: {_plain(name)}** {_when(row)} {BADGES[row['state']]} {_plain(_said(row))}")
        st.space("stretch")
        if row["model"]:
            _nav.link("Choose", "Choose with it", model=row["model"])
            _nav.link_to_run(row["trial_id"], "Best point")


def _said(row: dict[str, Any]) -> str:
    """What it came to, in a sentence."""
    if row["state"] != "evaluated" or row["kind"] != "model" or not row["trial_id"]:
        return ": ".join(filter(None, (row["why"], row["estimate"])))
    price = "" if row["usd"] is None else f"{money(row['usd'])} USD per million output tokens, "
    left_out = f", {row['distrusted']} left out" if row["distrusted"] else ""
    return (f"Best so far: {row['setup']}, {price}{_style.shown(row['speed'])} tok/s with {row['load']}. "
            f"{_style.count(row['points'], 'point')} measured{left_out}.")


def _when(row: dict[str, Any]) -> str:
    days = (dt.datetime.now(dt.UTC).date() - row["dated"].date()).days
    verb = "released" if row["released_at"] else "seen"
    return f"{verb} {'today' if days <= 0 else 'yesterday' if days == 1 else row['dated'].date().isoformat()}"


def _rest(found: pl.DataFrame) -> None:
    """All of them, as a table, with the reason why they wait or were skipped."""
    states = dict(found["state"].value_counts().iter_rows())
    counts = ", ".join(f"{_style.shown(states[state])} {state}" for state in BADGES if state in states)
    with st.expander(f"{_style.count(found.height, 'release')} seen in {DAYS} days: {counts}"):
        table = found.select(
            pl.col("name").alias("Release"), pl.col("version").str.slice(0, 12).alias("Version"),
            pl.col("state").alias("State"),
            pl.concat_str("why", "estimate", separator=": ", ignore_nulls=True).alias("Why"),
            (pl.col("parameters") / 1e9).alias("Weights, B"), pl.col("licence").alias("Licence"),
            pl.col("dated").dt.strftime("%Y-%m-%d").alias("Released"), pl.col("source").alias("Source"))
        _frame.table(table, key="releases", select=False, height="auto" if table.height > 10 else "content")
        with st.container(horizontal=True, vertical_alignment="center"):
            st.space("stretch")
            _nav.link_to_sql(NEWS.strip(), "Ask in SQL")
            _frame.download(found, "releases")


def _plain(text: str) -> str:
    return text.replace("$", r"\$").replace("~", r"\~").replace("[", r"\[")
