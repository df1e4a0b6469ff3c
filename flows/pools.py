"""Work pools: which hardware takes which evaluations, and the one where the warehouse lies."""

from __future__ import annotations

from engines._hardware import detect
from models.experiment import Experiment
from models.specs import HardwareSpec

POOLS = ("cpu", "cuda", "metal", "kubernetes")
"""Pools by hardware. Any other name is one, too, once a worker has joined it: `h100`, `lab-2`."""
WAREHOUSE = "warehouse"
"""The pool of the host that keeps the warehouse: it watches, sweeps and publishes, and measures nothing."""


def pool_of(hardware: HardwareSpec) -> str:
    """The pool that a machine belongs to by its hardware."""
    return hardware.kind if hardware.kind in POOLS else "cpu"


def own() -> str:
    """The pool that this machine belongs to."""
    return pool_of(detect())


def by_pool(experiment: Experiment, pools: tuple[str, ...] = ()) -> dict[str, Experiment]:
    """What each pool gets of an experiment: the engines that run there. `pools` overrides the experiment's own; with
    neither, all of it stays together under "" (hardware like this machine's). A pool without an engine gets nothing."""
    parts = {}
    for pool in pools or experiment.pools or ("",):
        engines = tuple(e.model_copy(update={"pools": ()}) for e in experiment.engines if not e.pools
                        or pool in ("", *e.pools))
        if engines:
            parts[pool] = experiment.model_copy(update={"pools": (), "engines": engines})
    return parts
