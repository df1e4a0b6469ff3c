"""GGUF files on the Hugging Face Hub: pinned to a revision when named, fetched when needed, described without fetching.

`HF_ENDPOINT`, `HF_TOKEN` and `HF_HOME` are honoured (huggingface_hub reads them).
"""

from __future__ import annotations

import io
import os
from pathlib import Path

from engines._gguf import Header, parse_header
from engines._hub_errors import translated
from models.errors import ModelError
from models.progress import Progress
from models.specs import ModelSpec

_HEADER_BYTES = (1 << 20, 1 << 24, 1 << 26)
"""Sizes tried for a header: most of it is the vocabulary."""


def resolve(name: str, repository: str, file: str, revision: str | None) -> ModelSpec:
    """Asks the Hub for the file's revision and its header, a few MB. Raises ModelError naming what it did not find."""
    from huggingface_hub import get_hf_file_metadata, hf_hub_url

    with translated(f"{repository}:{file}"):
        url = hf_hub_url(repository, file, revision=revision, endpoint=endpoint())
        about = get_hf_file_metadata(url, endpoint=endpoint())
        pinned = about.commit_hash or revision
        header = _remote_header(hf_hub_url(repository, file, revision=pinned, endpoint=endpoint()))
        architecture = header.architecture()
    return ModelSpec(name=name or f"{repository}:{file}", source="hub", repository=repository, file=file,
                     revision=pinned, content=pinned, architecture=architecture)


def download(model: ModelSpec, progress: Progress, step: str) -> Path:
    """Returns the file in the Hub's own cache, fetched now if need be. Raises ModelError when that fails."""
    from huggingface_hub import hf_hub_download

    progress(step, None, f"fetching {model.file}")
    with translated(model.name):
        return Path(hf_hub_download(model.repository or "", model.file or "", revision=model.revision,
                                    endpoint=endpoint()))


def endpoint() -> str | None:
    """The Hub's address where it is not the public one. Read anew: huggingface_hub reads it once."""
    return os.environ.get("HF_ENDPOINT")


def _remote_header(url: str) -> Header:
    """Reads only the file's beginning."""
    from huggingface_hub import get_session
    from huggingface_hub.utils import build_hf_headers, hf_raise_for_status  # type: ignore[attr-defined]

    for size in _HEADER_BYTES:
        answer = get_session().get(url, headers={**build_hf_headers(), "Range": f"bytes=0-{size - 1}"},
                                   follow_redirects=True)
        hf_raise_for_status(answer)
        try:
            return parse_header(io.BytesIO(answer.content))
        except ModelError:
            if len(answer.content) < size or size == _HEADER_BYTES[-1]:
                raise
    raise AssertionError("unreachable")
