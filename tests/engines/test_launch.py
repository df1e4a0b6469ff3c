"""Launching: ports, readiness and failure, with a stand-in engine of a few lines that is a real process."""

import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

import engines
from engines import _ports
from engines._contract import Adapter, Capabilities, Checkpoint, Command, Install
from engines.launch import check, launch
from models.errors import EndpointError, EngineDied, LaunchFailed, Unsupported, UserError
from models.progress import Progress
from models.records import Endpoint
from models.specs import Batching, EngineSpec, HardwareSpec, ModelSpec, Setup

SERVER = """
import http.server, json, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    loading = 2
    def do_GET(self):
        self.say(200, {}) if self.path != "/metrics" else self.say(200, None)
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        mode = sys.argv[2]
        Handler.loading -= 1
        if mode == "broken":
            self.say(500, {"error": "no weights"})
        elif mode == "strange":
            self.say(200, {"hello": "world"})
        elif Handler.loading >= 0:
            self.say(503, {"error": "loading"})
        else:
            self.say(200, {"choices": [{"text": "x", "finish_reason": "length"}]})
    def say(self, status, body):
        data = b"fake:running 3\\nfake:other 4\\n" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
if sys.argv[2] == "dies":
    print("loading\\nfatal: no such weights"); sys.exit(7)
if sys.argv[2] == "hangs":
    time.sleep(300)
http.server.HTTPServer.allow_reuse_address = False
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Fake(Adapter):
    """An engine without a model."""

    name = "fake"
    owned_options = frozenset({"--model"})
    mode = "works"
    before_start: Callable[[int], None] = staticmethod(lambda port: None)

    def capabilities(self, variant: str | None = None) -> Capabilities:
        return Capabilities(quantizations=("F16",), kv_types=("f16",), features=frozenset({"openai_api"}),
                            hardware=frozenset({"cpu"}), runtimes=frozenset({"path", "endpoint"}),
                            batching=frozenset({"max_sequences", "context_tokens"}),
                            reasons={"memory_fraction": "it has no pool"})

    def install(self, setup: Setup, progress: Progress) -> Install:
        return Install("1.0", (sys.executable, "-c", SERVER))

    def checkpoint(self, setup: Setup, progress: Progress) -> Checkpoint:
        return Checkpoint(Path("none"), 1000, 16.0)

    def command(self, setup: Setup, install: Install, checkpoint: Checkpoint, port: int) -> Command:
        self.before_start(port)
        return Command((*install.program, str(port), self.mode), {"FAKE_TOKEN": "hunter2"}, threads=1)

    def endpoint(self, setup: Setup, url: str, checkpoint: Checkpoint | None) -> Endpoint:
        return Endpoint(url=url, model="m", metrics_path="/metrics")

    def health_path(self, variant: str | None) -> str | None:
        return "/health"

    def gauges(self, text: str) -> dict[str, float]:
        from engines._contract import prometheus_gauges
        return prometheus_gauges(text, {"fake:running": "requests_running"})


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    adapter = Fake()
    monkeypatch.setattr(engines, "adapter", lambda name: adapter)
    return adapter


def setup(**fields: object) -> Setup:
    return Setup(model=ModelSpec(name="m"), engine=EngineSpec(**{"engine": "fake", "runtime": "path", **fields}),
                 hardware=HardwareSpec(name="here"))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken


def test_a_launch_tells_what_ran_and_leaves_nothing(fake: Fake, tmp_path: Path) -> None:
    with launch(setup(), tmp_path / "log") as engine:
        assert engine.alive()
        engine.raise_if_dead()
        pids = engine.pids()
        assert engine.gauges() == {"requests_running": 3}
        assert engine.run.engine_version == "1.0"
        assert engine.run.argv[:2] == (sys.executable, "-c")
        assert engine.run.environment == {"FAKE_TOKEN": "***"}
        assert engine.run.model_bytes == 1000
        assert engine.run.ready_s > 0
        assert _ports.listens(int(engine.endpoint.url.rpartition(":")[2]), pids)
    assert pids and not any(map(psutil.pid_exists, pids))


def test_an_engine_that_ends_at_once(fake: Fake, tmp_path: Path) -> None:
    fake.mode = "dies"
    with pytest.raises(LaunchFailed, match="ended before it was ready") as raised, launch(setup(), tmp_path / "log"):
        pass
    assert raised.value.exit_code == 7
    assert raised.value.log_tail == "loading\nfatal: no such weights"
    assert raised.value.command.startswith("FAKE_TOKEN='***' ")
    assert raised.value.log_path == str(tmp_path / "log")


def test_an_engine_killed_by_a_signal_says_which(fake: Fake, tmp_path: Path) -> None:
    fake.install = lambda setup, progress: Install("1.0", ("sh", "-c", "kill -SEGV $$"))  # type: ignore[method-assign]
    with pytest.raises(LaunchFailed, match="SIGSEGV"), launch(setup(), tmp_path / "log"):
        pass


@pytest.mark.parametrize(("mode", "why"), [("hangs", "was not ready after 1 s: nothing listened"),
                                           ("broken", "answered HTTP 500 to its first request.*no weights"),
                                           ("strange", "did not answer its first request with a completion")])
def test_an_engine_that_never_answers(mode: str, why: str, fake: Fake, tmp_path: Path) -> None:
    fake.mode = mode
    timeout_s = 1 if mode == "hangs" else 60
    with pytest.raises(LaunchFailed, match=why), launch(setup(), tmp_path / "log", timeout_s=timeout_s):
        pass


def test_a_port_taken_meanwhile_is_left_for_another(fake: Fake, tmp_path: Path) -> None:
    thieves: list[socket.socket] = []

    def steal(port: int) -> None:
        if len(thieves) < 2:
            thieves.append(socket.create_server(("127.0.0.1", port)))

    fake.before_start = steal  # type: ignore[method-assign]
    try:
        with launch(setup(), tmp_path / "log") as engine:
            port = int(engine.endpoint.url.rpartition(":")[2])
            assert port not in {thief.getsockname()[1] for thief in thieves}
        assert len(thieves) == 2
    finally:
        for thief in thieves:
            thief.close()


def test_an_answer_from_somebody_elses_server_is_not_believed(fake: Fake, tmp_path: Path) -> None:
    """The engine is still starting, and another process answers on the port it was given."""
    fake.mode = "hangs"
    thieves: list[socket.socket] = []
    fake.before_start = lambda port: thieves.append(  # type: ignore[method-assign]
        socket.create_server(("127.0.0.1", port)))
    try:
        with pytest.raises(LaunchFailed, match="5 free ports in a row were taken"), launch(setup(), tmp_path / "log"):
            pass
        assert len(thieves) == 5
    finally:
        for thief in thieves:
            thief.close()


def test_a_port_asked_for_that_is_in_use(fake: Fake, listener: socket.socket, tmp_path: Path) -> None:
    port = listener.getsockname()[1]
    with pytest.raises(UserError, match=rf"engine\.extra_args: --port: port {port} is in use by .*process \d+"), \
            launch(setup(extra_args=("--port", str(port))), tmp_path / "log"):
        pass


def test_a_port_asked_for_is_used(fake: Fake, tmp_path: Path) -> None:
    port = _ports.free_port()
    with launch(setup(extra_args=(f"--port={port}",)), tmp_path / "log") as engine:
        assert engine.endpoint.url == f"http://127.0.0.1:{port}"


def test_an_engine_that_dies_later_is_noticed(fake: Fake, tmp_path: Path) -> None:
    with launch(setup(), tmp_path / "log") as engine:
        victim = psutil.Process(engine.pids()[0])
        victim.kill()
        deadline = time.monotonic() + 20
        while engine.alive():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        with pytest.raises(EngineDied, match="fake ended while it was in use") as raised:
            engine.raise_if_dead()
    assert raised.value.exit_code == -9


def test_an_endpoint_is_only_asked(fake: Fake, tmp_path: Path) -> None:
    with launch(setup(), tmp_path / "log") as engine:
        url = engine.endpoint.url
        with launch(setup(runtime="endpoint", url=f"{url}/v1/", quantization="FP8"), tmp_path / "log2") as served:
            assert served.pids() == [] and served.alive()
            assert served.endpoint.url == url
            assert served.gauges() == {"requests_running": 3}
            assert "nothing was started" in served.run.notes[0]
        assert engine.alive()
    with pytest.raises(EndpointError, match=f"{url} does not answer"), \
            launch(setup(runtime="endpoint", url=url), tmp_path / "log3"):
        pass


def test_an_endpoint_needs_a_url(fake: Fake, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"engine\.url"), launch(setup(runtime="endpoint"), tmp_path / "log"):
        pass


@pytest.mark.parametrize(("fields", "field", "reason"), [
    ({"variant": "x"}, "engine.variant", "it has only one server"),
    ({"runtime": "docker"}, "engine.runtime", "fake has no 'docker': it has endpoint, path"),
    ({"quantization": "Q4_0"}, "engine.quantization", "it has F16"),
    ({"kv_type": "q8_0"}, "engine.kv_type", "it has f16"),
    ({"batching": Batching(memory_fraction=0.5)}, "engine.batching.memory_fraction", "it has no pool"),
    ({"batching": Batching(tensor_parallel=2)}, "engine.batching.tensor_parallel", "not a setting of fake"),
    ({"batching": Batching(prefix_caching=True)}, "engine.batching.prefix_caching", "not a setting of fake"),
    ({"extra_args": ("--model=x",)}, "engine.extra_args", "--model is set by dyno itself"),
])
def test_what_an_engine_cannot_honour_is_refused(fields: dict[str, object], field: str, reason: str,
                                                 fake: Fake) -> None:
    with pytest.raises(Unsupported) as raised:
        check(setup(**fields))
    assert raised.value.field == field
    assert reason in raised.value.reason
