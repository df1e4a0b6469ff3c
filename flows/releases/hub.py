"""Models on the Hugging Face Hub: listed by its API, described without their weights, pinned to a commit.

`HF_ENDPOINT`, `HF_TOKEN` and `HF_HOME` are honoured (huggingface_hub reads them).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Literal

from engines import _hub, _hub_folder
from engines._hub_errors import translated
from flows.releases import Known, Warn, label
from models.errors import ModelError
from models.releases.policy import FollowHub, FollowModels
from models.releases.release import Release

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import ModelInfo

PATIENCE_S = 20.0
_WEIGHTS = (".safetensors", ".gguf", ".bin", ".pth", ".pt")
_TOO_MANY = 429


def look(entry: FollowHub | FollowModels, known: Known, warn: Warn) -> Iterator[Release]:
    """Yields models in commits that are not known, the one changed last first. Raises ModelError when the Hub refuses
    to list them or does not answer; a repository that cannot be looked at is told, and the next is."""
    said = label(entry)
    for name, revision in _listed(entry, said):
        if known.revision(name, revision):
            continue
        try:
            yield of_repository(name, said, changed=known.name(name))
        except ModelError as error:
            warn(str(error))
            if _status(error) == _TOO_MANY:  # what was yielded is remembered: the next round goes on from here
                return


def of_repository(repository: str, source: str, changed: bool = False) -> Release:
    """One repository as it is now. changed: it was seen with other weights, so these are as new as its last commit.

    Raises ModelError.
    """
    with translated(repository):
        about = _api().model_info(repository, files_metadata=True, timeout=PATIENCE_S)
    names = [s.rfilename for s in about.siblings or ()]
    tensors = [n for n in names if n.endswith(".safetensors") and "/" not in n]
    ggufs = sorted(n for n in names if n.endswith(".gguf")) if not tensors else []
    when = (about.last_modified if changed else about.created_at) or about.last_modified
    tags = tuple(about.tags or ())
    form: Literal["safetensors", "gguf"] | None = "safetensors" if tensors else "gguf" if ggufs else None
    return Release(
        kind="model", name=about.id, version=_weights_id(about), source=source,
        released_at=when.isoformat(timespec="seconds") if when else None, url=f"{_api().endpoint}/{about.id}",
        repository=about.id, revision=about.sha, content=about.sha, format=form,
        files=tuple(ggufs), parameters=_parameters(about), gated=bool(about.gated), tags=tags,
        licence=next((t.removeprefix("license:") for t in tags if t.startswith("license:")), None),
        unreadable="the Hub has disabled it" if about.disabled else None)


def described(release: Release, wanted: Sequence[str]) -> Release:
    """The same with its shape and stored quantisation, from some hundred KB of the repository (of GGUF files, the
    header of the first `wanted` one). Raises ModelError."""
    if release.files:
        spec = _hub.resolve(release.name, release.repository or "", (*wanted, *release.files)[0], release.revision)
    else:
        spec = _hub_folder.resolve(release.name, release.repository or "", release.revision)
    shape = spec.architecture
    return release.model_copy(update={"architecture": shape, "quantization": spec.quantization,
                                      "parameters": shape.parameters if shape else release.parameters})


def _listed(entry: FollowHub | FollowModels, said: str) -> list[tuple[str, str | None]]:
    """Names with their newest commit; None: not asked for yet."""
    if isinstance(entry, FollowModels):
        return [(name, _commit(name)) for name in entry.models]
    with translated(said):
        found = _api().list_models(author=entry.hub or None, search=entry.search, filter=list(entry.tags) or None,
                                   sort="last_modified", limit=entry.newest, expand=["sha", "lastModified"])
        return [(about.id, about.sha) for about in found]


def _commit(repository: str) -> str | None:
    """The newest commit; None where that cannot be told: whoever looks closer is told why."""
    try:
        with translated(repository):
            return _api().model_info(repository, expand=["sha"], timeout=PATIENCE_S).sha
    except ModelError:
        return None


def _api() -> HfApi:
    from huggingface_hub import HfApi

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it tells of each attempt
    return HfApi(endpoint=_hub.endpoint())


def _weights_id(about: ModelInfo) -> str:
    """Hash of the weights' files: their names, and the SHA-256 that the Hub keeps of large ones."""
    files = sorted((s.rfilename, s.lfs.sha256 if s.lfs else str(s.blob_id)) for s in about.siblings or ()
                   if s.rfilename.endswith(_WEIGHTS))
    return hashlib.sha256(repr(files).encode()).hexdigest()[:16]


def _parameters(about: ModelInfo) -> int | None:
    if about.safetensors:
        return about.safetensors.total
    total = (about.gguf or {}).get("total")
    return int(total) if isinstance(total, int) else None


def _status(error: ModelError) -> int | None:
    return getattr(getattr(error.__cause__, "response", None), "status_code", None)
