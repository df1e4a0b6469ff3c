"""Whole repositories on the Hugging Face Hub: pinned to a commit when named, described without their weights, fetched
when needed. `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME` and `HF_HUB_OFFLINE` are honoured (huggingface_hub reads them)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engines import _hf_config, _hf_folder
from engines._hf_types import Stored
from engines._hub import endpoint
from engines._hub_errors import HubSilent, translated
from models.errors import ModelError
from models.progress import Progress
from models.specs import ModelSpec

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_AT_ONCE = 8
_FOLDERS = ["*/*"]
_PATIENCE_S = 20.0


def resolve(name: str, repository: str, revision: str | None) -> ModelSpec:
    """Asks the Hub for the repository's commit, config and tables of tensors: some hundred KB. Where it does not
    answer, a snapshot in its cache here is taken. Raises ModelError naming what it did not find."""
    label = f"{repository}@{revision}" if revision else repository
    try:
        with translated(label):
            pinned, config, tensors = _asked(repository, revision)
    except HubSilent:
        if (folder := cached(repository, revision)) is None:
            raise
        with translated(label):
            config, tensors = _hf_folder.read(folder)
        pinned = folder.name
    with translated(label):
        shape = _hf_config.architecture(config, tensors)
    return ModelSpec(name=name or repository, source="hub", repository=repository, revision=pinned, content=pinned,
                     architecture=shape, quantization=_hf_config.quantization(config, tensors))


def _asked(repository: str, revision: str | None) -> tuple[str, dict[str, Any], list[Stored]]:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint())
    about = api.model_info(repository, revision=revision, timeout=_PATIENCE_S)
    names = [s.rfilename for s in about.siblings or ()]
    pinned = str(about.sha)
    weights = _hf_config.weight_files(names, _index(api, repository, pinned, names))
    if "config.json" not in names:
        raise ModelError("it has no config.json")
    if revision != pinned:  # makes the Hub's cache remember which commit that name meant, for when it does not answer
        api.hf_hub_download(repository, "config.json", revision=revision)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        tables = pool.map(lambda file: _table(api, repository, pinned, file), weights)
        beside = {name: _json(api, repository, pinned, name) for name in _hf_config.BESIDE if name in names}
        config = _hf_config.completed(_json(api, repository, pinned, "config.json"), beside)
        return pinned, config, [t for table in tables for t in table]


def _index(api: HfApi, repository: str, revision: str, names: Sequence[str]) -> dict[str, Any] | None:
    return _json(api, repository, revision, _hf_config.INDEX) if _hf_config.INDEX in names else None


def _json(api: HfApi, repository: str, revision: str, file: str) -> dict[str, Any]:
    """A small file, which then is in the Hub's cache."""
    return _hf_folder.read_json(Path(api.hf_hub_download(repository, file, revision=revision)))


def _table(api: HfApi, repository: str, revision: str, file: str) -> list[Stored]:
    found = api.parse_safetensors_file_metadata(repository, file, revision=revision)
    return [Stored(name, t.dtype, tuple(t.shape), t.data_offsets[1] - t.data_offsets[0])
            for name, t in found.tensors.items()]


def cached(repository: str, revision: str | None) -> Path | None:
    """A snapshot that is here already, if it is whole."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        folder = Path(snapshot_download(repository, revision=revision, local_files_only=True,
                                        allow_patterns=["config.json"]))
        weights = [f.name for f in _hf_folder.files(folder) if f.suffix == ".safetensors"]
        snapshot_download(repository, revision=revision, local_files_only=True,
                          allow_patterns=_hf_config.patterns(weights), ignore_patterns=_FOLDERS)
    except (OSError, HFValidationError, ModelError):
        return None
    return folder


def download(model: ModelSpec, progress: Progress, step: str) -> Path:
    """Returns the repository's folder in the Hub's own cache, with what engines read of it, fetched now if need be.
    Raises ModelError when that fails."""
    from huggingface_hub import HfApi

    repository, revision = model.repository or "", model.revision or ""
    if folder := cached(repository, revision):
        return folder
    api = HfApi(endpoint=endpoint())
    progress(step, None, f"fetching {repository}")
    with translated(model.name):
        names = [s.rfilename for s in api.model_info(repository, revision=revision, timeout=_PATIENCE_S).siblings or ()]
        weights = _hf_config.weight_files(names, _index(api, repository, revision, names))
        fetched = api.snapshot_download(repository, revision=revision, ignore_patterns=_FOLDERS,
                                        allow_patterns=_hf_config.patterns(weights),
                                        tqdm_class=_bar(lambda done: progress(step, done, f"fetching {repository}")))
    return Path(fetched)


def _bar(told: Callable[[float], None]) -> Any:
    """A progress bar that shows nothing and tells the share of bytes written."""
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

    class Told(tqdm):
        def __init__(self, *args: Any, **given: Any) -> None:
            self._bytes = given.get("unit") == "B" and str(given.get("desc", "")).startswith("Reconstructing")
            super().__init__(*args, **given | {"disable": True})  # type: ignore[no-untyped-call]
            self.total = given.get("total")

        def update(self, n: float | None = 1) -> bool | None:
            self.n += n or 0
            if self._bytes and self.total:
                told(min(1.0, self.n / self.total))
            return None

    return Told
