"""What the probes of a capacity search say together: where the limits are first broken, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from models.probing import Floats, Probe

RANGE = math.log(8.0)
"""Beyond the lowest and the highest level tried, that the limits may be broken at."""
NEAR = math.log(2)
"""How far off a curve is about as the model has it: a factor."""
BENT, BENT_LEAST = 0.1, 0.01
"""How far off a line: of ln(value / limit), and at the least."""
SHARE_SLOPES, MARGIN_SLOPES = np.geomspace(4, 2000, 31), np.geomspace(0.1, 500, 41)
"""Over the logarithm of the level: of the log odds of a request to be above a limit, 5 for a single slot; and of
ln(value / limit), 0.3 for the time between tokens of sequences that share an engine."""
APART = 0.99
"""How sure a probe is that is told apart from the limits."""
SUREST = 0.999999
"""Of one probe: an engine may have a bad moment."""


def chances(probes: Sequence[Probe], about: float) -> tuple[Floats, Floats]:
    """Levels, ascending, and the chance that the limits are first broken below each; before anything is known, every
    place is alike on a logarithmic scale. about: where it seems to be.

    Near there the share of requests above a limit is taken to grow with the level as a logistic curve, through the
    share allowed at the level looked for (a dose and its response: Berkson, "Application of the logistic function to
    bio-assay", JASA 39, 1944); what a probe counted is binomial, of as many requests as its are worth. Where there is
    nothing to count, ln(value / limit) is a line through 0, seen with the probe's standard error. Curve and line may be
    as steep as they like, every slope alike on a logarithmic scale: slots make a cliff, where the interval is as wide
    as the bracket. Probes farther away say on which side it is, as surely as they are sure.
    """
    logs = np.log([p.level for p in probes])
    grid = np.unique(np.concatenate([np.linspace(logs.min() - RANGE, logs.max() + RANGE, 2001),
                                     *(np.linspace(x - 0.1, x + 0.1, 201) for x in logs)]))
    near = [p for p in probes if abs(math.log(p.level / about)) <= NEAR
            and (p.counted or not (p.hopeless or p.fatal))]
    said = np.zeros(len(grid))
    for slopes, ours in ((SHARE_SLOPES, [p for p in near if p.counted]),
                         (MARGIN_SLOPES, [p for p in near if not p.counted])):
        each = sum((_likely(p, slopes * (math.log(p.level) - grid[:, None])) for p in ours), np.zeros((1, len(slopes))))
        said = said + np.logaddexp.reduce(each, axis=1)
    for p in probes:
        if p not in near:
            sure = min(p.sure, SUREST)
            said = said + np.where((grid >= math.log(p.level)) == p.keeps, math.log(sure), math.log(1 - sure))
    density = np.exp(said - said.max())
    mass = np.concatenate([[0.0], np.cumsum(np.diff(grid) * (density[1:] + density[:-1]) / 2)])
    return np.exp(grid), mass / mass[-1]


def _likely(probe: Probe, beyond: Floats) -> Floats:
    """ln of how likely the probe is, up to a constant. beyond: of the level past the one looked for, times a slope.

    A probe that is told apart says nothing against a level farther off: curves flatten (some prompts are slow however
    few there are; a queue is still short when a hopeless probe ends).
    """
    clip = (np.maximum if probe.keeps else np.minimum) if probe.sure >= APART else lambda said, _: said
    if not probe.counted:
        sigma = math.hypot(probe.sigma, BENT * probe.worst, BENT_LEAST)
        said = -((probe.worst - clip(beyond, probe.worst)) / sigma)**2 / 2
    else:
        seen = probe.above / probe.counted
        edge = math.inf * (2 * seen - 1) if seen in (0, 1) else math.log(seen / (1 - seen))
        odds = clip(math.log(probe.allowed / (1 - probe.allowed)) + beyond, edge)
        less = sum(x * math.log(x) for x in (seen, 1 - seen) if x > 0)
        each = -seen * np.logaddexp(0, -odds) - (1 - seen) * np.logaddexp(0, odds) - less
        said = probe.worth * probe.counted * each
    return np.asarray(np.logaddexp(said, math.log(1 - SUREST)))
