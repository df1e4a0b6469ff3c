"""Every error dyno raises on purpose, in one tree.

    DynoError
    ├── UserError                a person can mend it: one line, exit code 2, no traceback
    │   ├── ExperimentError      an experiment file, with the path of the bad field
    │   ├── ModelError           a model file or name that cannot be used
    │   ├── QueryError           SQL that was refused or is wrong
    │   ├── WarehouseError       a warehouse that is damaged, another dyno's, or does not answer
    │   ├── PlaceError           the shared place of bundles cannot be reached
    │   └── MissingTool          a compiler, browser or program that is not installed
    ├── Unsupported              an engine cannot honour a field of a setup (names field and reason)
    ├── EngineError              something went wrong with an engine process
    │   ├── BuildFailed
    │   ├── LaunchFailed         it did not come up: exact command, exit code, the log's tail
    │   └── EngineDied           it was up and is gone
    ├── EndpointError            a URL that does not answer, or not as it should
    └── BundleError              a bundle on disk that is incomplete or altered
"""

from __future__ import annotations


class DynoError(Exception):
    """Root of dyno's own errors; `str()` of any of them is fit to show to a person."""


class UserError(DynoError):
    """What was asked cannot be done as asked; the message says where and the way out."""


class ExperimentError(UserError):
    """An experiment file that is not valid.

    Args: source is the file's name, field its path in the file (`engines[0].variant`), reason the way out.
    """

    def __init__(self, source: str, field: str, reason: str) -> None:
        self.source, self.field, self.reason = source, field, reason
        super().__init__(f"{source}: {field}: {reason}" if field else f"{source}: {reason}")


class ModelError(UserError):
    """A model that cannot be found, read or made."""


class QueryError(UserError):
    """SQL that was refused or failed."""


class WarehouseError(UserError):
    """A warehouse that is there and cannot be read: damaged, of an older or newer dyno, or served and not answering."""


class PlaceError(UserError):
    """The folder or storage that a team shares (DYNO_BUNDLES) cannot be reached; what waits is kept."""


class MissingTool(UserError):
    """A program that this needs is not installed."""


class Unsupported(DynoError):
    """An engine cannot honour a field of a setup. Never ignored: the combination is listed with this reason."""

    def __init__(self, field: str, reason: str) -> None:
        self.field, self.reason = field, reason
        super().__init__(f"{field}: {reason}")


class EngineError(DynoError):
    """An engine process failed. `command` can be pasted into a shell; `log_tail` is what it said last."""

    def __init__(self, message: str, *, command: str = "", exit_code: int | None = None, log_tail: str = "",
                 log_path: str = "") -> None:
        self.reason, self.command, self.exit_code = message, command, exit_code
        self.log_tail, self.log_path = log_tail, log_path
        lines = [message]
        if exit_code is not None:
            lines.append(f"exit code: {exit_code}")
        if command:
            lines.append(f"command: {command}")
        if log_path:
            lines.append(f"log: {log_path}")
        if log_tail:
            lines.append("last lines:\n" + log_tail)
        super().__init__("\n".join(lines))


class BuildFailed(EngineError):
    """An engine could not be built or installed."""


class LaunchFailed(EngineError):
    """An engine did not become ready."""


class EngineDied(EngineError):
    """An engine that was ready is gone."""


class EndpointError(DynoError):
    """A URL does not answer, or not in the way its API should."""


class BundleError(DynoError):
    """A bundle on disk is incomplete, altered or of an unknown version."""
