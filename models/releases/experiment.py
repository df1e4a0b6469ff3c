"""The experiment that evaluates a release: the pool's own, with the release in its place."""

from __future__ import annotations

import re
from typing import Any

from models.releases.decide import Place, Wanted, file_of
from models.releases.release import Release


def of(release: Release, place: Place, wanted: Wanted) -> dict[str, Any]:
    """Plain data, as in an experiment file. `wanted`: the engines and quantisations that a decision kept."""
    experiment = place.experiment
    raw = experiment.model_dump(mode="json", exclude_none=True)
    quantizations = dict(wanted)
    entries = [{**raw["engines"][i], "quantizations": list(kept)} for i, kept in quantizations.items()]
    if release.kind == "engine":
        entries = [entry | {"version": release.version} | ({"image": release.image} if release.image else {})
                   for entry in entries]
    else:
        raw["models"] = _models(release, sorted({q for kept in quantizations.values() for q in kept}))
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", release.label)
    return raw | {"name": f"{experiment.name}-{slug}-{release.release_id[:6]}"[:100], "engines": entries,
                  "description": f"{release.label}: {release.source}"}


def _models(release: Release, quantizations: list[str]) -> list[dict[str, Any]]:
    if release.path:
        return [{"name": release.name, "path": release.path}]
    pinned = {"repository": release.repository, "revision": release.revision}
    if not release.files:
        return [{"name": release.name, **pinned}]
    files = dict.fromkeys(f for q in quantizations if (f := file_of(release, q)))
    return [{"name": f"{release.repository}:{file}", "file": file, **pinned} for file in files]

