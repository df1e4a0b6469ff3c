"""What to do about a release: pure, from the policy, the hardware behind its pools and the hours already spent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from models.errors import UserError
from models.experiment import EngineEntry, Experiment
from models.identity import Record
from models.planning import memory
from models.planning.memory import Question
from models.planning.weights import weight_bytes
from models.releases.policy import Policy
from models.releases.release import Release
from models.specs import Architecture, HardwareSpec

PLACEHOLDER = "release"
"""Stands in an experiment's `models` for a model that is yet to be released."""
UNQUANTISED = ("F32", "BF16", "F16")
CONTEXT_TOKENS = 8192


class Place(Record):
    """A pool as far as a decision needs it. memory_bytes: what one GPU, or the machine, offers an engine."""

    pool: str
    hardware: HardwareSpec
    memory_bytes: float
    gpus: int = 1
    experiment: Experiment
    engine_hours: float


Refusal = Callable[[Release, EngineEntry, str, Place], str | None]
"""Why an engine does not take a release in a quantisation; None: it does."""
Wanted = tuple[tuple[int, tuple[str, ...]], ...]
"""Of an experiment's engines, those (by position) that take a release, and the quantisations that fit."""


@dataclass(frozen=True)
class Decision:
    """`start` on every pool of `wanted`, or why not. estimate: the planner's, where a model fits no pool."""

    state: Literal["start", "skipped", "waiting"]
    why: str = ""
    estimate: str = ""
    wanted: Mapping[str, Wanted] = field(default_factory=dict)


def screen(release: Release, policy: Policy) -> Decision | None:
    """What the policy alone says: None where nothing speaks against it. Needs no shape of a model."""
    if release.unreadable:
        return Decision("skipped", release.unreadable)
    why = _model(release, policy) if release.kind == "model" else _engine(release, policy)
    return Decision("skipped", why) if why else None


def _model(release: Release, policy: Policy) -> str:
    wanted, name = policy.models, release.name.lower()
    if not any(fnmatchcase(name, glob.lower()) for glob in wanted.names):
        return f"models.names: the policy does not name {release.name}"
    if against := next((glob for glob in wanted.unwanted if fnmatchcase(name, glob.lower())), None):
        return f"models.except: {against}"
    if wanted.since and release.released_at and release.released_at[:10] < wanted.since:
        return f"models.since: released on {release.released_at[:10]}, before {wanted.since}"
    if release.format not in wanted.formats:
        return f"models.formats: it is {release.format or 'in a format that no engine here reads'}"
    if not release.local and wanted.licences and release.licence not in wanted.licences:
        return f"models.licences: its licence is {release.licence or 'not stated'}"
    if release.gated and not wanted.gated:
        return "models.gated: it is given only to those who accepted its terms"
    if release.parameters is not None and not wanted.parameters.holds(release.parameters):
        return f"models.parameters: {release.parameters / 1e9:.3g}B weights, and the policy wants" \
               f" {wanted.parameters.text}"
    return ""


def _engine(release: Release, policy: Policy) -> str:
    try:
        version = Version(release.version)
    except InvalidVersion:
        return ""  # a build number or a tag: a range of versions cannot speak of it
    if version.is_prerelease and not policy.engines.prereleases:
        return "engines.prereleases: it is one"
    if not SpecifierSet(policy.engines.versions).contains(version, prereleases=True):
        return f"engines.versions: the policy wants {policy.engines.versions}"
    return ""


def decide(release: Release, policy: Policy, places: Sequence[Place], spent_hours: float,
           refuses: Refusal = lambda *_: None) -> Decision:
    """Start it on the pools that it fits, or wait for the budget, or skip it and say why.

    spent_hours: engine-hours of the last week, those that running evaluations are expected to take included.
    """
    if against := screen(release, policy):
        return against
    if release.kind == "model" and release.architecture is None:
        return Decision("skipped", "its shape is not known, so that nobody can tell where it fits")
    wanted, against_, estimates = dict[str, Wanted](), list[str](), list[str]()
    for place in places:
        found, why, estimate = _fit(release, policy, place, refuses)
        if found:
            wanted[place.pool] = found
        against_.append(f"{place.pool}: {why}")
        estimates += [f"{place.pool} ({place.hardware.name}): {estimate}"] if estimate else []
    if not wanted:
        why = "it fits no pool's hardware" if estimates else "; ".join(dict.fromkeys(against_))
        return Decision("skipped", why, "; ".join(estimates))
    return _within(policy, wanted, places, spent_hours)


def _within(policy: Policy, wanted: dict[str, Wanted], places: Sequence[Place], spent_hours: float) -> Decision:
    budget = policy.budget.engine_hours_a_week
    needed = sum(p.engine_hours for p in places if p.pool in wanted)
    if budget is None or spent_hours + needed <= budget:
        return Decision("start", wanted=wanted)
    more = ": it alone is over the budget, raise budget.engine_hours_a_week" if needed > budget else ""
    return Decision("waiting", f"budget: {spent_hours:.3g} of {budget:g} engine-hours of this week are spent or"
                               f" running, and about {needed:.3g} are needed{more}", wanted=wanted)


def _fit(release: Release, policy: Policy, place: Place, refuses: Refusal) -> tuple[Wanted, str, str]:
    """What of a pool's experiment is possible, else why not, and the planner's estimate where memory is the reason."""
    limits = policy.pools[place.pool].parameters
    if release.kind == "model" and release.parameters is not None and not limits.holds(release.parameters):
        return (), f"pools.{place.pool}.parameters: this pool takes {limits.text}", ""
    entries = [(i, e) for i, e in enumerate(place.experiment.engines) if _concerns(release, e)]
    if not entries:
        return (), f"its experiment has no {release.name} of runtime {release.runtime}", ""
    if release.kind == "engine" and place.experiment.models == (PLACEHOLDER,):
        return (), "its experiment names no model to measure a new engine with", ""
    found, refused, short = dict[int, tuple[str, ...]](), list[str](), list[Question]()
    for i, entry, name in ((i, e, q) for i, e in entries for q in _quantizations(release, e, place.experiment)):
        if why := refuses(release, entry, name, place):
            refused.append(why)
        elif lacking := _lacking(release, entry, name, place):
            short.append(lacking)
        else:
            found[i] = (*found.get(i, ()), name)
    if found:
        return tuple(found.items()), "", ""
    if not short:
        return (), next(iter(refused), "its experiment has no quantisation that these weights can be had in"), ""
    nearest = min(short, key=lambda q: weight_bytes(q.architecture, q.quantization) / q.gpus)
    return (), "memory", f"with {nearest.quantization} weights {'; '.join(memory.nearest(nearest))}"


def _concerns(release: Release, entry: EngineEntry) -> bool:
    return release.kind == "model" or (entry.engine == release.name and entry.runtime == release.runtime)


def _quantizations(release: Release, entry: EngineEntry, experiment: Experiment) -> tuple[str, ...]:
    """What the experiment asks for; of weights that are quantised already, what they are."""
    asked = entry.quantizations or experiment.quantizations
    if release.files:
        return tuple(q for q in asked if file_of(release, q))
    return (release.quantization,) if release.quantization and release.quantization not in UNQUANTISED else asked


def file_of(release: Release, quantization: str) -> str | None:
    """The GGUF file of a repository that holds this quantisation, by its name; one in parts is not taken."""
    ends = (f"{mark}{quantization.lower()}.gguf" for mark in "-._")
    return next((f for end in ends for f in release.files if f.lower().endswith(end)), None)


def _lacking(release: Release, entry: EngineEntry, quantization: str, place: Place) -> Question | None:
    """The planner's question where its answer is no for every batching; None where it fits, or nothing is known."""
    if release.architecture is None:
        return None
    asked = [_question(release.architecture, entry, quantization, batching.tensor_parallel, place,
                       batching.context_tokens, batching.memory_fraction)
             for batching in entry.batching or place.experiment.batching]
    try:
        fitting = [q for q in asked if q.gpus <= place.gpus and memory.plan(q).fits]
    except UserError:  # an engine or quantisation that the planner knows nothing of: the engine itself will tell
        return None
    return None if fitting else asked[0]


def _question(shape: Architecture, entry: EngineEntry, quantization: str, gpus: int, place: Place,
              context: int | None, utilisation: float | None) -> Question:
    return Question(architecture=shape, engine=entry.engine, kind=place.hardware.kind, quantization=quantization,
                    gpus=gpus, memory_bytes=place.memory_bytes, utilisation=utilisation,
                    context_tokens=context or min(CONTEXT_TOKENS, shape.context_tokens))
