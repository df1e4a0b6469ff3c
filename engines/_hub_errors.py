"""What the Hugging Face Hub's errors mean to a person."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from models.errors import ModelError


class HubSilent(ModelError):
    """The Hub does not answer, or is not to be asked (HF_HUB_OFFLINE)."""


@contextmanager
def translated(label: str) -> Iterator[None]:
    """Turns every error of a request to the Hub into a ModelError that names the model and the way out, HubSilent
    where there is no connection."""
    from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled, SafetensorsParsingError

    try:
        yield
    except ModelError as error:
        raise type(error)(f"model {label}: {error}") from error
    except OfflineModeIsEnabled as error:
        raise HubSilent(f"model {label}: HF_HUB_OFFLINE is set, and it is not in the Hub's cache here") from error
    except (HFValidationError, SafetensorsParsingError, OSError) as error:
        raise _meant(label, error) from error
    except Exception as error:
        if not _is_network(error):
            raise
        raise _silent(label, error) from error


def _meant(label: str, error: Exception) -> ModelError:
    """The Hub answers 401 for a repository that does not exist as for one that is private."""
    from huggingface_hub.errors import (
        GatedRepoError,
        LocalEntryNotFoundError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, GatedRepoError):
        return ModelError(f"model {label}: it is given only to those who accepted its terms: accept them on its page "
                          "at the Hub, and set HF_TOKEN")
    if isinstance(error, RevisionNotFoundError):
        return ModelError(f"model {label}: there is no such revision")
    if isinstance(error, RemoteEntryNotFoundError):
        return ModelError(f"model {label}: there is no such file in the repository")
    if isinstance(error, RepositoryNotFoundError) or status in (401, 403):
        return ModelError(f"model {label}: there is no such repository, or it is private: then set HF_TOKEN")
    if status == 429:
        return ModelError(f"model {label}: the Hub limits how often it is asked: wait some minutes, or set HF_TOKEN")
    if isinstance(error, LocalEntryNotFoundError) or (isinstance(error, OSError) and _is_network(error) and not status):
        return _silent(label, error)
    return ModelError(f"model {label}: {first_line(error)}")


def _silent(label: str, error: Exception) -> HubSilent:
    cause = error.__cause__ if isinstance(error.__cause__, Exception) else error
    return HubSilent(f"model {label}: the Hub does not answer ({first_line(cause)})")


def _is_network(error: Exception) -> bool:
    """huggingface_hub lets its HTTP library's errors through, and has changed that library twice."""
    return any(kind.__module__.partition(".")[0] in ("httpx", "httpx2", "requests") for kind in type(error).__mro__)


def first_line(error: Exception) -> str:
    """The first line that says something."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
