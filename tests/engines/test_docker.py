"""Runtime docker against a real Docker API: the real llama.cpp in a container, and every way it may end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import polars as pl
import psutil
import pytest

from engines import _docker, _llama_build, _owner
from engines._contract import Command, Install
from engines.launch import launch, prepare
from flows.measure import measure_setup
from models.errors import BuildFailed, EngineDied, LaunchFailed, MissingTool, Unsupported, UserError
from models.progress import silent
from models.records import HostInfo
from models.specs import HardwareSpec, Load, Setup, Trial
from tests.engines import containers
from warehouse import bundles
from workloads import catalogue

Make = Callable[..., Setup]
OWNER = """
import sys, time
from pathlib import Path
from engines.launch import launch
from models.specs import Setup
with launch(Setup.model_validate_json(sys.argv[1]), Path(sys.argv[2])) as engine:
    print(*engine.pids(), flush=True)
    time.sleep(300)
"""


@pytest.fixture(scope="module")
def api(llama_install: _llama_build.Toolchain) -> Iterator[str]:
    if why := containers.missing():
        pytest.skip(why)
    with containers.docker_api(llama_install.programs / "llama-server") as address:
        yield address


@pytest.fixture
def client(api: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[docker.DockerClient]:
    """The API that dyno is told of; nothing may be left in it."""
    monkeypatch.setenv("DOCKER_HOST", api)
    with contextlib.closing(docker.DockerClient(base_url=api)) as client:
        yield client
        assert client.api.containers(all=True) == []


@pytest.fixture
def contained(setup_of: Make) -> Make:
    def make(**fields: Any) -> Setup:
        return setup_of(**{"runtime": "docker", "image": containers.IMAGE, "threads": 1, "context_tokens": 512,
                           **fields})
    return make


def until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def gone(pids: list[int]) -> bool:
    return not any(map(psutil.pid_exists, pids))


@pytest.mark.engine
def test_the_real_llama_server_is_launched_in_a_container(client: docker.DockerClient, contained: Make,
                                                          tmp_path: Path) -> None:
    with launch(contained(environment={"HF_TOKEN": "hunter2"}), tmp_path / "log") as engine:
        (container,) = client.containers.list()
        pids = engine.pids()
        assert psutil.Process(pids[0]).name() == "llama-server"
        assert str(engine.run.image).startswith(f"{containers.IMAGE}@sha256:")
        assert engine.run.argv[0] == "/app/llama-server"
        assert engine.run.engine_version.startswith("b")
        assert engine.gauges()["requests_running"] == 0
        assert "HF_TOKEN=hunter2" in container.attrs["Config"]["Env"]
        assert not any("hunter2" in word for p in psutil.process_iter() for word in _words(p))
        assert engine.run.environment["HF_TOKEN"] == "***"
        (mount,) = container.attrs["Mounts"]
        assert mount["Source"] == mount["Destination"] and mount["Source"].endswith(".gguf") and not mount["RW"]
    assert "llama_server: " in (tmp_path / "log").read_text()
    assert pids and gone(pids)


@pytest.mark.engine
def test_a_point_is_measured_in_a_container(client: docker.DockerClient, contained: Make, tmp_path: Path) -> None:
    """As in an evaluation, but for Prefect: what the container's processes took is seen from outside."""
    setup = contained()
    workload = catalogue.load({"name": "chat", "scale": {"input": 0.02, "output": 0.02}})
    trial = Trial(setup=setup, workload=workload, load=Load(concurrency=2, requests=8))
    (measured,) = measure_setup(setup, [trial], tmp_path, HostInfo())
    found = bundles.read_measurement(tmp_path, measured)
    assert found.summary.requests_ok == 8 and found.summary.requests_failed == 0
    assert str(found.run.image).startswith(containers.IMAGE)
    said = pl.read_parquet(tmp_path / "bundles" / measured / "telemetry.parquet").filter(source="engine")
    assert {"cpu_percent", "rss_bytes"} <= set(said["metric"]) and said["value"].max() > 1e6
    assert "llama_server: " in (tmp_path / "bundles" / measured / "engine.log").read_text()


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.engine
def test_where_the_network_is_not_shared_the_port_is_published(client: docker.DockerClient, contained: Make,
                                                               tmp_path: Path) -> None:
    setup = contained()
    command = Command(("/app/llama-server", "--port", "18080"), {})
    options = _docker.create_options(setup, containers.IMAGE, command, [tmp_path], 18080, shared=False)
    assert options["ports"] == {"18080/tcp": ("127.0.0.1", 18080)} and "network_mode" not in options
    client.containers.create(name="published", **options).remove()
    assert "--publish=127.0.0.1:18080:18080" in _docker.to_paste(options)


@pytest.mark.engine
def test_a_bad_flag_is_told_with_what_the_engine_said(client: docker.DockerClient, contained: Make,
                                                      tmp_path: Path) -> None:
    with pytest.raises(LaunchFailed, match="llama-server ended before it was ready") as raised, \
            launch(contained(extra_args=("--no-such-flag",)), tmp_path / "log"):
        pass
    assert raised.value.exit_code == 1
    assert "no-such-flag" in raised.value.log_tail
    assert raised.value.command.startswith("docker run --rm --network=host --volume=")


@pytest.mark.engine
def test_running_out_of_the_memory_it_may_have_is_told_as_that(client: docker.DockerClient, contained: Make,
                                                               tmp_path: Path) -> None:
    """A KV cache of more than the one GiB that the hardware target has."""
    fields = contained(max_sequences=64, context_tokens=2048, kv_type="f32")
    setup = fields.model_copy(update={"hardware": HardwareSpec(name="small", memory_gib=1)})
    with pytest.raises(LaunchFailed, match=r"for want of memory: it may have 1 GiB") as raised, \
            launch(setup, tmp_path / "log"):
        pass
    assert raised.value.exit_code == 137
    assert "--memory=1073741824" in raised.value.command


@pytest.mark.engine
def test_a_program_that_is_not_in_the_image(client: docker.DockerClient, contained: Make, tmp_path: Path) -> None:
    with pytest.raises(LaunchFailed, match="/app/nothing") as raised, \
            launch(contained(path="/app/nothing"), tmp_path / "log"):
        pass
    assert "dyno: " in raised.value.log_tail


@pytest.mark.engine
def test_a_container_that_dies_in_use_is_noticed(client: docker.DockerClient, contained: Make, tmp_path: Path) -> None:
    with launch(contained(), tmp_path / "log") as engine:
        psutil.Process(engine.pids()[0]).kill()
        assert until(lambda: not engine.alive())
        with pytest.raises(EngineDied, match="SIGKILL") as raised:
            engine.raise_if_dead()
    assert raised.value.exit_code == 137


@pytest.mark.engine
def test_a_container_removed_by_somebody_else_is_noticed(client: docker.DockerClient, contained: Make,
                                                         tmp_path: Path) -> None:
    with launch(contained(), tmp_path / "log") as engine:
        client.containers.list()[0].remove(force=True)
        assert until(lambda: not engine.alive())


@pytest.mark.engine
def test_an_exception_removes_the_container(client: docker.DockerClient, contained: Make, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), launch(contained(), tmp_path / "log"):
        assert len(client.containers.list()) == 1
        raise KeyboardInterrupt


@pytest.mark.engine
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_signal_that_ends_dyno_removes_the_container(number: signal.Signals, client: docker.DockerClient,
                                                       contained: Make, tmp_path: Path) -> None:
    with _owner_process(contained(), tmp_path) as owner:
        assert owner.stdout is not None
        pids = [int(p) for p in owner.stdout.readline().split()]
        assert pids and len(client.containers.list()) == 1
        owner.send_signal(number)
        owner.wait(30)
    assert until(lambda: client.api.containers(all=True) == [])
    assert gone(pids)


@pytest.mark.engine
def test_what_even_the_keeper_could_not_remove_is_swept_by_the_next_launch(client: docker.DockerClient,
                                                                           contained: Make, tmp_path: Path) -> None:
    with _owner_process(contained(), tmp_path) as owner:
        assert owner.stdout is not None and owner.stdout.readline()
        everyone = [psutil.Process(owner.pid), *psutil.Process(owner.pid).children(recursive=True)]
        for process in sorted(everyone, key=lambda p: "_keeper" not in " ".join(_words(p))):
            process.kill()
    (orphan,) = client.containers.list()
    assert _owner.is_orphan(orphan.labels[_owner.KEY])
    alive = client.containers.create(containers.IMAGE, ["/app/llama-server"], labels={_owner.KEY: _owner.mark()})
    assert _docker.sweep() == [orphan.name]
    alive.remove()


def _owner_process(setup: Setup, tmp_path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", OWNER, setup.model_dump_json(), str(tmp_path / "log")],
                            stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


@pytest.mark.engine
def test_an_image_that_is_not_to_be_had(client: docker.DockerClient, contained: Make) -> None:
    with pytest.raises(BuildFailed, match=r"engine\.image: localhost/no-such:1 cannot be pulled"):
        prepare(contained(image="localhost/no-such:1"))


@pytest.mark.engine
def test_podman_has_no_gpus_to_hand_out(client: docker.DockerClient, contained: Make) -> None:
    setup = contained().model_copy(update={"hardware": HardwareSpec(name="gpu", kind="cuda")})
    with pytest.raises(UserError, match="podman hands no GPU"):
        _docker.prepare(setup, Install("1", ("x",), image=containers.IMAGE), silent)


def test_gpus_are_asked_for_on_cuda(contained: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    setup = contained().model_copy(update={"hardware": HardwareSpec(name="gpu", kind="cuda")})
    options = _docker.create_options(setup, "i", Command(("x", "--api-key", "s"), {"A": "b"}), [], 80, shared=True)
    assert options["device_requests"] == [{"count": -1, "capabilities": [["gpu"]]}]
    assert options["environment"] == {"CUDA_VISIBLE_DEVICES": "1", "A": "b"}
    assert options["shm_size"] > 1 << 30
    said = _docker.to_paste(options)
    assert "--gpus=all" in said and said.endswith("--entrypoint=x i --api-key '***'")


def test_no_docker_api_at_all(contained: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")
    with pytest.raises(MissingTool, match="none answers at unix://"):
        prepare(contained())


def test_a_docker_api_of_another_machine_is_refused(contained: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://gpu-box:2375")
    with pytest.raises(UserError, match="another machine's"):
        prepare(contained())


def test_the_sdk_is_only_needed_for_this_runtime(contained: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "docker", None)
    with pytest.raises(MissingTool, match=r"pip install 'llm-dyno\[docker\]'"):
        prepare(contained())
    loaded = subprocess.run([sys.executable, "-c", "import engines.launch, sys; print({'docker', 'kubernetes'} & "
                                                   "set(sys.modules))"], capture_output=True, text=True, env=os.environ)
    assert loaded.stdout.strip() == "set()"


@pytest.mark.parametrize(("fields", "field"), [
    ({"runtime": "venv"}, "engine.image"), ({"variant": "llama_cpp.server"}, "engine.runtime")])
def test_what_no_container_can_do_is_refused(fields: dict[str, Any], field: str, contained: Make) -> None:
    with pytest.raises(Unsupported) as raised:
        prepare(contained(**fields))
    assert raised.value.field == field


