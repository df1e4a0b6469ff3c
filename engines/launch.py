"""Starts the engine of a setup, owns it for as long as a `with`, and tells what really ran."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

import engines
from engines import _docker, _kubernetes, _ports, _ready
from engines._contract import Adapter, Checkpoint, Command, Install
from engines._mounts import mounts
from engines._process import redacted, redacted_argv, supervise
from engines._running import Running
from models.errors import EndpointError, EngineDied, LaunchFailed, UserError
from models.progress import Progress, silent
from models.records import Endpoint, EngineRun
from models.specs import Setup

_PORT_TRIES = 5


@dataclass(frozen=True)
class Prepared:
    """What a launch needs on this machine; making it may take minutes, having it takes none."""

    install: Install
    checkpoint: Checkpoint


class Engine:
    """A running engine. Made by `launch` only."""

    def __init__(self, adapter: Adapter, run: EngineRun, endpoint: Endpoint, running: Running | None) -> None:
        self.run, self.endpoint = run, endpoint
        self._adapter, self._running = adapter, running
        self._http = _ready.client(endpoint.url)

    def pids(self) -> list[int]:
        """Every process of the engine, as of now; empty where they are out of sight: of an endpoint, of a pod."""
        return self._running.pids() if self._running else []

    def alive(self) -> bool:
        """Whether the engine still runs; an endpoint that dyno did not start is believed to."""
        return self._running is None or self._running.alive()

    def raise_if_dead(self) -> None:
        """Raises EngineDied, with exit code and the log's tail, when it is gone."""
        if (gone := self._running) and not gone.alive():
            why = f" ({gone.ending})" if gone.ending else ""
            raise EngineDied(f"{self.run.variant or self.run.engine} ended while it was in use{why}",
                             command=gone.command, exit_code=gone.exit_code, log_tail=gone.log_tail(),
                             log_path=self.run.log_file)

    def gauges(self) -> dict[str, float]:
        """What it tells about itself now, by the names of `engines._contract.GAUGES`; empty when it tells nothing."""
        if not self.endpoint.metrics_path:
            return {}
        try:
            answer = self._http.get(self.endpoint.metrics_path, timeout=5.0)
        except httpx.HTTPError:
            return {}
        return self._adapter.gauges(answer.text) if answer.status_code == 200 else {}

    def log_tail(self, lines: int = 20) -> str:
        """The last lines of its log."""
        return self._running.log_tail(lines) if self._running else ""

    def close(self) -> None:
        """Closes dyno's own connection; the engine is ended by `launch`."""
        self._http.close()


def check(setup: Setup) -> None:
    """Raises Unsupported naming the first field that the engine cannot honour, UserError for an unknown engine."""
    engines.adapter(setup.engine.engine).check(setup)


def prepare(setup: Setup, progress: Progress = silent) -> Prepared | None:
    """Builds or installs the engine and makes its checkpoint, unless that was done before. None for an endpoint.

    For a container, its image is pulled. Raises what `check` raises, MissingTool, BuildFailed, ModelError, and
    UserError for a path that is no engine.
    """
    check(setup)
    if setup.engine.runtime == "endpoint":
        return None
    adapter = engines.adapter(setup.engine.engine)
    install = adapter.install(setup, progress)
    if setup.engine.runtime == "docker":
        install = _docker.prepare(setup, install, progress)
    if setup.engine.runtime == "kubernetes":
        install = _kubernetes.prepare(install)
    if setup.engine.version and setup.engine.version not in install.version:
        raise UserError(f"engine.version: {setup.engine.version} was asked for, and {install.program[0]} is "
                        f"{install.version}")
    return Prepared(install, adapter.checkpoint(setup, progress))


@contextlib.contextmanager
def launch(setup: Setup, log_path: Path, progress: Progress = silent, *, timeout_s: float = 300.0) -> Iterator[Engine]:
    """Runs the setup's engine, its output in `log_path`, and yields it when it has answered one token.

    Its process tree, container or pod is gone afterwards, whatever happens. Raises what `prepare` raises; LaunchFailed
    with the exact command, exit code and log's tail; UserError when a port asked for (`--port N` in extra_args) is in
    use; EndpointError when a URL does not answer.
    """
    prepared = prepare(setup, progress)
    adapter = engines.adapter(setup.engine.engine)
    with contextlib.ExitStack() as owned:
        if prepared is None:
            engine = _attach(setup, adapter, timeout_s)
        else:
            engine = _start(setup, adapter, prepared, log_path, timeout_s, owned)
        owned.callback(engine.close)
        yield engine


def _start(setup: Setup, adapter: Adapter, prepared: Prepared, log_path: Path, timeout_s: float,
           owned: contextlib.ExitStack) -> Engine:
    """Tries ports until one is really ours: between choosing and binding, somebody else may take it."""
    log_path.unlink(missing_ok=True)
    fixed = _fixed_port(setup)
    health = adapter.health_path(adapter.variant(setup.engine))
    endpoint_at = partial(adapter.endpoint, setup, checkpoint=prepared.checkpoint)
    for _ in range(1 if fixed else _PORT_TRIES):
        port = fixed or _ports.free_port()
        command = adapter.command(setup, prepared.install, prepared.checkpoint, port)
        with contextlib.ExitStack() as attempt:
            running = attempt.enter_context(_run(setup, prepared, command, port, log_path))
            try:
                endpoint = _ready.wait_ready(running, port, endpoint_at, health, timeout_s)
            except _ready.PortTaken:
                continue
            ready_s = time.monotonic() - (running.started_s or 0.0)
            _probe(setup, adapter, running, endpoint, timeout_s)
            run = _record(setup, adapter, prepared, command, endpoint, ready_s, running)
            owned.enter_context(attempt.pop_all())
        return Engine(adapter, run, endpoint, running)
    raise LaunchFailed(f"port {fixed} was taken just before the engine could have it" if fixed else
                       f"{_PORT_TRIES} free ports in a row were taken before the engine could have them",
                       command=running.command, log_path=str(log_path))


def _run(setup: Setup, prepared: Prepared, command: Command, port: int,
         log_path: Path) -> contextlib.AbstractContextManager[Running]:
    """Starts the command by the setup's runtime."""
    if setup.engine.runtime == "docker":
        return _docker.contain(setup, prepared.install, command, mounts(prepared.checkpoint.path), port, log_path)
    if setup.engine.runtime == "kubernetes":
        return _kubernetes.pod(setup, prepared.install, command, mounts(prepared.checkpoint.path), port, log_path)
    return supervise(command.argv, command.environment, log_path)


def _probe(setup: Setup, adapter: Adapter, running: Running, endpoint: Endpoint, timeout_s: float) -> None:
    """Raises LaunchFailed when the engine's own check of a whole answer fails."""
    try:
        adapter.probe(setup, endpoint, timeout_s)
    except EndpointError as error:
        raise _ready.failed(running, str(error)) from error


def _record(setup: Setup, adapter: Adapter, prepared: Prepared, command: Command, endpoint: Endpoint, ready_s: float,
            running: Running) -> EngineRun:
    """Raises LaunchFailed when an image holds another version than was asked for."""
    variant, contained = adapter.variant(setup.engine), prepared.install.image is not None
    with _ready.client(endpoint.url) as http:
        said = adapter.inspect(variant, lambda path: _ready.get_json(http, path), _read(running.log_path))
    wanted = setup.engine.version
    if contained and wanted and said.version and wanted.removeprefix("v") not in said.version:
        raise _ready.failed(running, f"is version {said.version}, and {wanted} was asked for")
    return EngineRun(engine=adapter.name, variant=variant,
                     engine_version=(said.version if contained else None) or prepared.install.version,
                     argv=redacted_argv(command.argv), environment=redacted(command.environment),
                     model_bytes=prepared.checkpoint.bytes, bits_per_weight=prepared.checkpoint.bits_per_weight,
                     threads=command.threads, context_tokens=said.context_tokens or command.context_tokens,
                     kv_cache_tokens=said.kv_cache_tokens, weights_bytes=said.weights_bytes,
                     overhead_bytes=said.overhead_bytes, settings=dict(said.settings),
                     image=running.image or prepared.install.image, ready_s=ready_s, log_file=str(running.log_path),
                     notes=command.notes + said.notes, functional_only=said.functional_only)


def _read(log_path: Path) -> str:
    try:
        return log_path.read_text(errors="replace")
    except OSError:
        return ""


def _fixed_port(setup: Setup) -> int | None:
    """The port that extra_args ask for, once it is known to be free."""
    words = iter(setup.engine.extra_args)
    for word in words:
        option, _, value = word.partition("=")
        if option == "--port":
            value = value or next(words, "")
            if not value.isdigit() or not 0 < int(value) < 65536:
                raise UserError(f"engine.extra_args: --port {value} is no port number")
            _ports.require_free(int(value), "engine.extra_args: --port")
            return int(value)
    return None


def _attach(setup: Setup, adapter: Adapter, timeout_s: float) -> Engine:
    """An endpoint is only asked for one token. Raises EndpointError naming the URL."""
    if not setup.engine.url:
        raise UserError("engine.url: runtime endpoint needs the URL of what serves (http://host:port)")
    url = setup.engine.url.rstrip("/").removesuffix("/v1")
    endpoint = adapter.endpoint(setup, url, None)
    variant = adapter.variant(setup.engine)
    started = time.monotonic()
    try:
        with _ready.client(url) as http:
            _ready.first_token(http, endpoint, min(timeout_s, 60.0))
            ready_s = time.monotonic() - started
            said = adapter.inspect(variant, lambda path: _ready.get_json(http, path))
            if endpoint.metrics_path and http.get(endpoint.metrics_path).status_code != 200:
                endpoint = endpoint.model_copy(update={"metrics_path": None})
    except httpx.HTTPStatusError as error:
        raise EndpointError(f"{url} answered HTTP {error.response.status_code}") from error
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise EndpointError(f"{url} does not answer: {str(error) or type(error).__name__}") from error
    except EndpointError as error:
        raise EndpointError(f"{url} {error}") from error
    run = EngineRun(engine=adapter.name, variant=variant,
                    engine_version=said.version or setup.engine.version or "unknown", argv=(),
                    context_tokens=said.context_tokens, ready_s=ready_s, functional_only=said.functional_only,
                    notes=(f"served at {url} before dyno came: nothing was started, settings are as declared",
                           *said.notes))
    return Engine(adapter, run, endpoint, None)
