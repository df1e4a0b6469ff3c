"""One round of the watch: what ended since the last one, what is new, what to do about it. Plain: no Prefect here.

Exactly once: a release is remembered as started, with the key of its evaluation, before that is asked for. Whoever
finds it so without a run (the watch was killed in between) asks again with that key, and two of one key are one run.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from filelock import FileLock, Timeout

from flows import dispatch
from flows.releases import Known, hub, label, look, places, prices
from models.errors import DynoError, ExperimentError, UserError
from models.progress import Progress, silent
from models.releases import experiment as experiments
from models.releases.decide import Decision, Place, decide, screen
from models.releases.policy import Budget, Follow, FollowPrices, Policy
from models.releases.release import Release, Run, Seen, spent_hours
from warehouse import released, releases, writer

PATIENCE_S = 10.0
"""For another watch to finish its round."""
Look = Callable[[Follow, Known, Callable[[str], None], Path], Iterable[Release]]


@dataclass
class Round:
    """What a round did: releases that were new or changed their state, and what could not be looked at."""

    changed: list[Seen] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def once(file: Path, home: Path, progress: Progress = silent, look: Look = look) -> Round:
    """Looks everywhere that the policy follows, and starts what it wants. Raises ExperimentError for a policy or an
    experiment of its pools that is wrong, UserError when another watch is at it on this home: nothing is done then."""
    policy = places.policy(file)
    spots = places.of(policy, file, home)
    home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(home / "watch.lock")
    try:
        lock.acquire(timeout=PATIENCE_S)
    except Timeout:
        raise UserError(f"another `dyno watch` is looking on {home}: let it finish") from None
    try:
        return _Watch(policy, spots, file, home, progress, look).round()
    finally:
        lock.release()


class _Watch:
    def __init__(self, policy: Policy, spots: list[Place], file: Path, home: Path, progress: Progress,
                 look: Look) -> None:
        self.policy, self.spots, self.file, self.home = policy, spots, file, home
        self.progress, self.look = progress, look
        self.seen = {one.release.release_id: one for one in releases.every(home)}
        self.done = Round()

    def round(self) -> Round:
        for one in [s for s in self.seen.values() if s.state == "started"]:
            self.settle(one)
        for entry in self.policy.follow:
            self.progress("looking", None, label(entry))
            try:
                self.follow(entry)
            except DynoError as error:
                self.done.warnings.append(f"{label(entry)}: {error}")
        for one in [s for s in self.seen.values() if self.is_open(s)]:
            self.consider(one)
        if self.done.changed or not writer.is_published(self.home):
            writer.ingest(self.home)
            writer.publish(self.home)
        return self.done

    def follow(self, entry: Follow) -> None:
        known = Known(self.seen.values())
        if isinstance(entry, FollowPrices):
            found = prices.look(entry, known, self.home, self.file.parent, _now().date().isoformat())
            if found:
                self.remember(Seen(release=found[0], seen_at=_stamp(), decided_at=_stamp(), state="evaluated",
                                   why=found[1], policy=self.policy.policy_id))
            return
        for release in self.look(entry, known, self.done.warnings.append, self.file.parent):
            before = self.seen.get(release.release_id)
            if before is None:
                self.remember(Seen(release=release, seen_at=_stamp(), decided_at=_stamp(), state="waiting"))
            elif release.revision and release.revision not in before.revisions:  # the same weights in a newer commit
                self.keep(before.model_copy(update={"revisions": (*before.revisions, release.revision)}))

    def is_open(self, one: Seen) -> bool:
        """What waits, and what another policy skipped."""
        return one.release.kind != "prices" and (
            one.state == "waiting" or (one.state == "skipped" and one.policy != self.policy.policy_id))

    def consider(self, one: Seen) -> None:
        self.progress("deciding", None, one.release.label)
        decision = screen(one.release, self.policy)
        if decision is None:
            try:
                one = one.model_copy(update={"release": self.described(one.release)})
            except DynoError as error:
                self.change(one, "waiting", f"it cannot be looked at: {error}")
                return
            spots = places.as_expected(self.spots, self.seen.values())
            hours = sum(p.engine_hours for p in spots) / max(len(spots), 1)
            decision = decide(one.release, self.policy, spots, spent_hours(self.seen.values(), _now(), hours),
                              places.refusal)
        if decision.state == "start":
            self.start(one, decision)
        else:
            self.change(one, decision.state, decision.why, estimate=decision.estimate)

    def described(self, release: Release) -> Release:
        """With its shape: only what the policy wants is asked for it."""
        if release.kind != "model" or release.architecture is not None:
            return release
        return hub.described(release, places.files(release, self.spots))

    def start(self, one: Seen, decision: Decision) -> None:
        runs = [Run(pool=pool, started_at=_stamp(), key=f"{one.release.release_id}-{pool}-{self.attempt(one, pool)}")
                for pool in decision.wanted]
        one = one.model_copy(update={"runs": (*one.runs, *runs), "estimate": ""})
        self.settle(self.change(one, "started", f"on {', '.join(decision.wanted)}"), decision)

    @staticmethod
    def attempt(one: Seen, pool: str) -> int:
        return 1 + sum(run.pool == pool for run in one.runs)

    def settle(self, one: Seen, decision: Decision | None = None) -> None:
        """Starts what has no run yet, and asks after what has one. What a server or pool that is away cannot take is
        asked again in the next round."""
        runs, away = list[Run](), ""
        for run in one.runs:
            try:
                runs.append(self.ended(one, self.started(one, run, decision)) if run.outcome == "running" else run)
            except UserError as error:
                away = str(error)
                runs.append(run)
        begun = tuple(r for r in runs if r.flow_run_id or r.outcome != "running")
        if any(r.outcome == "running" for r in begun) or (len(begun) < len(runs) and not away):
            self.keep(one.model_copy(update={"runs": tuple(runs)}))
        elif len(begun) < len(runs):
            self.change(one.model_copy(update={"runs": begun}), "waiting", away)
        else:
            last = {r.pool: r for r in runs}.values()
            state = "evaluated" if any(r.outcome == "evaluated" for r in last) else "failed"
            self.change(one.model_copy(update={"runs": tuple(runs)}), state,
                        "; ".join(f"{r.pool}: {r.why}" for r in last))
        if away:
            self.done.warnings.append(f"{one.release.label}: {away}")

    def started(self, one: Seen, run: Run, decision: Decision | None) -> Run:
        """Raises UserError when the server or the pool's workers are not there."""
        if run.flow_run_id:
            return run
        place = next((p for p in self.spots if p.pool == run.pool), None)
        if place is None:
            return _failed(run, f"the policy has no pool {run.pool} any more")
        wanted = (decision or self.again(one.release, place)).wanted.get(run.pool)
        if not wanted:
            return _failed(run, "the policy does not want it any more")
        self.progress("evaluating", None, f"{one.release.label} on {run.pool}")
        try:
            run_id = dispatch.start(experiments.of(one.release, place, wanted), str(self.file), run.pool, key=run.key,
                                    tags=["release", one.release.name])
        except DynoError as error:
            if isinstance(error, UserError) and not isinstance(error, ExperimentError):
                raise
            return _failed(run, str(error))
        return run.model_copy(update={"flow_run_id": run_id})

    def again(self, release: Release, place: Place) -> Decision:
        """What was decided before the watch was killed: the budget has been granted."""
        free = self.policy.model_copy(update={"budget": Budget()})
        return decide(release, free, [place], 0.0, places.refusal)

    def ended(self, one: Seen, run: Run) -> Run:
        if run.flow_run_id is None:  # it could not be started, for good
            return run
        try:
            outcome = dispatch.outcome(run.flow_run_id)
        except dispatch.Forgotten:  # started again with the next round; what was measured of it is kept
            return run.model_copy(update={"flow_run_id": None})
        if outcome.state in ("waiting", "running"):
            return run
        done = released.measured(self.home, one.release, run.started_at)
        if outcome.state == "failed" or (done.failures and not done.points):
            why = outcome.detail if outcome.state == "failed" else f"{_failures(done)}: {done.reason}"
            return _failed(run, why)
        if not done.points:  # measured elsewhere, and not stored here yet
            return run
        running = sum(r.outcome == "running" for r in one.runs)
        return run.model_copy(update={"outcome": "evaluated", "ended_at": _stamp(), "why": _points(done),
                                      "engine_hours": done.engine_hours / max(running, 1)})

    def change(self, one: Seen, state: str, why: str, estimate: str | None = None) -> Seen:
        """Remembers a decision; one that says what was said before is no news."""
        update = {"state": state, "why": why, "policy": self.policy.policy_id,
                  **({} if estimate is None else {"estimate": estimate})}
        new = one.model_copy(update=update)
        if new == self.seen.get(one.release.release_id):
            return one
        return self.remember(new.model_copy(update={"decided_at": _stamp()}))

    def remember(self, one: Seen) -> Seen:
        one = self.keep(one)
        self.done.changed = [c for c in self.done.changed if c.release.release_id != one.release.release_id] + [one]
        return one

    def keep(self, one: Seen) -> Seen:
        revision = one.release.revision
        if revision and revision not in one.revisions:
            one = one.model_copy(update={"revisions": (*one.revisions, revision)})
        one = one.model_copy(update={"dyno_version": version("llm-dyno")})
        if one != self.seen.get(one.release.release_id):
            releases.remember(self.home, one)
            self.seen[one.release.release_id] = one
        return one


def _failed(run: Run, why: str) -> Run:
    return run.model_copy(update={"outcome": "failed", "why": why, "ended_at": _stamp()})


def _points(done: released.Measured) -> str:
    points = f"{done.points} point{'' if done.points == 1 else 's'}"
    return f"{points}, {_failures(done)} ({done.reason})" if done.failures else points


def _failures(done: released.Measured) -> str:
    return f"{done.failures} launch{'' if done.failures == 1 else 'es'} failed"


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def _stamp() -> str:
    return _now().isoformat(timespec="milliseconds")


def reopen(home: Path, which: str) -> Seen:
    """Has a release decided about anew, by its id, the start of it, or its name. Raises UserError where there is none,
    or where it is being evaluated."""
    found = [s for s in releases.every(home) if s.release.release_id.startswith(which) or s.release.name == which]
    if not found:
        raise UserError(f"the watch has seen no release {which}: `dyno releases` lists them")
    one = found[-1]
    if one.state == "started":
        raise UserError(f"{one.release.label} is being evaluated: cancel its run in Prefect first")
    one = one.model_copy(update={"state": "waiting", "why": "to be decided about again", "decided_at": _stamp()})
    releases.remember(home, one)
    return one
