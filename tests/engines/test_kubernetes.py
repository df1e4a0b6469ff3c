"""Runtime kubernetes: manifests against the published schemas, and a launch's life against an API over real HTTP.

The API is a stand-in whose pods are real processes of this machine (`cluster.py`); no real cluster was used.
"""

from __future__ import annotations

import copy
import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import psutil
import pytest

from engines import _kubernetes, _llama_build, _manifests, _owner
from engines.launch import launch, prepare
from models.errors import EngineDied, LaunchFailed, MissingTool, UserError
from models.specs import Setup
from tests.engines.cluster import Cluster, serving

Make = Callable[..., Setup]
SCHEMAS = ("1.25", "1.30", "1.34", "1.37")
OWNER = """
import sys, time
from pathlib import Path
from engines.launch import launch
from models.specs import Setup
with launch(Setup.model_validate_json(sys.argv[1]), Path(sys.argv[2])) as engine:
    print("up", flush=True)
    time.sleep(300)
"""


def wanted(**fields: Any) -> _manifests.Wanted:
    return _manifests.Wanted(**{
        "name": "dyno-abc-1", "engine": "vllm", "image": "vllm/vllm-openai:v0.32.0", "argv": ("vllm", "serve", "$(x)"),
        "environment": {"HF_TOKEN": "hunter2", "PLAIN": "$(y)"}, "port": 8000,
        "mounts": ("/home/me/cache/checkpoints/m", "/data/m.gguf"), "cache": "/home/me/cache", **fields})


@pytest.mark.parametrize("version", SCHEMAS)
@pytest.mark.parametrize("fields", [{}, {"gpus": 2, "node_selector": {"gpu": "h100"}, "service_type": "NodePort"},
                                    {"claim": "models", "environment": {}}, {"mounts": ()}])
def test_manifests_keep_to_the_published_schemas(version: str, fields: dict[str, Any]) -> None:
    made = _manifests.manifests(wanted(**fields))
    assert {"Pod", "Service"} <= set(made)
    for manifest in made.values():
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_schemas_do_see_mistakes() -> None:
    pod = _manifests.manifests(wanted())["Pod"]
    for path, wrong in (("restartPolicy", 1), ("noSuchField", "x"), ("containers", "engine")):
        spoiled = copy.deepcopy(pod)
        spoiled["spec"][path] = wrong
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(spoiled, SCHEMAS[-1], strict=True)


def test_gpus_are_a_limit_and_their_taint_is_borne() -> None:
    spec = _manifests.manifests(wanted(gpus=2))["Pod"]["spec"]
    assert spec["containers"][0]["resources"] == {"limits": {"nvidia.com/gpu": "2"}}
    assert spec["tolerations"][0]["key"] == "nvidia.com/gpu"
    amd = _manifests.manifests(wanted(gpus=1, gpu_resource="amd.com/gpu"))["Pod"]["spec"]
    assert amd["containers"][0]["resources"] == {"limits": {"amd.com/gpu": "1"}}
    assert "resources" not in _manifests.manifests(wanted())["Pod"]["spec"]["containers"][0]


def test_nothing_in_a_pod_is_secret_or_replaced_or_restarted() -> None:
    made = _manifests.manifests(wanted())
    pod = json.dumps(made["Pod"])
    assert "hunter2" not in pod and made["Secret"]["stringData"] == {"HF_TOKEN": "hunter2"}
    assert made["Pod"]["spec"]["containers"][0]["command"][-1] == "$$(x)" and '"$$(y)"' in pod
    assert made["Pod"]["spec"]["restartPolicy"] == "Never" and made["Pod"]["spec"]["enableServiceLinks"] is False
    assert "hunter2" not in json.dumps(_manifests.manifests(wanted(), blotted=True))


def test_weights_come_from_the_claim_or_from_the_node() -> None:
    def volumes(**fields: Any) -> list[str]:
        spec = _manifests.manifests(wanted(**fields))["Pod"]["spec"]
        return [next(k for k in v if k != "name") for v in spec["volumes"]]
    assert volumes() == ["hostPath", "hostPath", "emptyDir"]
    assert volumes(claim="models") == ["persistentVolumeClaim", "hostPath", "emptyDir"]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    with serving(tmp_path) as (cluster, config):
        monkeypatch.setenv("KUBECONFIG", str(config))
        yield cluster
        assert cluster.objects == {} and cluster.processes == {}


@pytest.fixture
def podded(setup_of: Make, llama_install: _llama_build.Toolchain) -> Make:
    def make(**fields: Any) -> Setup:
        program = str(llama_install.programs / "llama-server")
        return setup_of(**{"runtime": "kubernetes", "image": "i:1", "path": program, "threads": 1,
                           "context_tokens": 512, **fields})
    return make


@pytest.mark.engine
def test_a_pod_and_a_service_are_made_used_and_deleted(cluster: Cluster, podded: Make, tmp_path: Path) -> None:
    with launch(podded(environment={"HF_TOKEN": "hunter2"}), tmp_path / "log") as engine:
        assert engine.alive() and engine.pids() == []
        assert {kind for kind, _ in cluster.objects} == {"secrets", "pods", "services"}
        (pod,) = (o for (kind, _), o in cluster.objects.items() if kind == "pods")
        assert pod["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "dyno"
        command = pod["spec"]["containers"][0]["command"]
        assert command[command.index("--host") + 1] == "0.0.0.0"
        assert engine.run.image == "i:1@sha256:abc"
        assert engine.gauges()["requests_running"] == 0
    assert cluster.objects == {}
    assert all("/namespaces/bench/" in call for call in cluster.calls)
    assert "llama_server: " in (tmp_path / "log").read_text()


@pytest.mark.engine
def test_a_bad_flag_in_a_pod(cluster: Cluster, podded: Make, tmp_path: Path) -> None:
    with pytest.raises(LaunchFailed, match=r"llama-server in pod dyno-\S+ ended before it was ready") as raised, \
            launch(podded(extra_args=("--no-such-flag",)), tmp_path / "log"):
        pass
    assert raised.value.exit_code == 1 and "no-such-flag" in raised.value.log_tail
    assert raised.value.command.startswith("printf %s '{\"apiVersion\"") and "kubectl" in raised.value.command


@pytest.mark.engine
def test_a_pod_killed_for_want_of_memory(cluster: Cluster, podded: Make, tmp_path: Path) -> None:
    cluster.oom = True
    with pytest.raises(LaunchFailed, match="killed for want of memory"), \
            launch(podded(path="/bin/false"), tmp_path / "log"):
        pass


@pytest.mark.engine
def test_a_pod_that_dies_in_use(cluster: Cluster, podded: Make, tmp_path: Path) -> None:
    with launch(podded(), tmp_path / "log") as engine:
        (process,) = cluster.processes.values()
        process.send_signal(signal.SIGSEGV)
        assert until(lambda: not engine.alive())
        with pytest.raises(EngineDied, match="SIGSEGV") as raised:
            engine.raise_if_dead()
    assert raised.value.exit_code == 139


@pytest.mark.engine
def test_a_pod_removed_by_somebody_else(cluster: Cluster, podded: Make, tmp_path: Path) -> None:
    with launch(podded(), tmp_path / "log") as engine:
        (name,) = cluster.processes
        del cluster.objects["pods", name]
        cluster.end(name)
        assert until(lambda: not engine.alive())
        with pytest.raises(EngineDied, match="removed by somebody else"):
            engine.raise_if_dead()


@pytest.mark.engine
@pytest.mark.parametrize("reason", ["ImagePullBackOff", "CrashLoopBackOff", "InvalidImageName"])
def test_a_pod_that_will_never_start_is_not_waited_for(reason: str, cluster: Cluster, podded: Make,
                                                       tmp_path: Path) -> None:
    cluster.waiting = reason
    with pytest.raises(LaunchFailed, match=f"{reason}: because"), launch(podded(), tmp_path / "log"):
        pass


@pytest.mark.engine
def test_a_pod_that_finds_no_node(cluster: Cluster, podded: Make, tmp_path: Path,
                                  monkeypatch: pytest.MonkeyPatch) -> None:
    cluster.unschedulable = "0/3 nodes are available: 3 Insufficient nvidia.com/gpu."
    monkeypatch.setenv("DYNO_KUBERNETES_SCHEDULE_S", "1")
    with pytest.raises(LaunchFailed, match=r"no node was found for it: 0/3 nodes .* nvidia\.com/gpu"), \
            launch(podded(), tmp_path / "log"):
        pass


@pytest.mark.engine
def test_a_cluster_that_refuses(cluster: Cluster, podded: Make, tmp_path: Path) -> None:
    cluster.refused = True
    with pytest.raises(LaunchFailed, match="pods is forbidden"), launch(podded(), tmp_path / "log"):
        pass


@pytest.mark.engine
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_signal_that_ends_dyno_deletes_the_pod(number: signal.Signals, cluster: Cluster, podded: Make,
                                                 tmp_path: Path) -> None:
    with owner_process(podded(), tmp_path) as owner:
        assert owner.stdout is not None and owner.stdout.readline() == "up\n"
        owner.send_signal(number)
        owner.wait(30)
    assert until(lambda: cluster.objects == {})


@pytest.mark.engine
def test_what_even_the_keeper_could_not_delete_is_swept(cluster: Cluster, podded: Make, tmp_path: Path) -> None:
    with owner_process(podded(), tmp_path) as owner:
        assert owner.stdout is not None and owner.stdout.readline() == "up\n"
        everyone = [psutil.Process(owner.pid), *psutil.Process(owner.pid).children(recursive=True)]
        for process in sorted(everyone, key=lambda p: "engines._keeper" not in p.cmdline()):
            process.kill()
    assert len(cluster.objects) == 2
    cluster.objects["pods", "other"] = {"metadata": {"name": "other", "annotations": {_owner.KEY: _owner.mark()}}}
    assert len(_kubernetes.sweep(_kubernetes.connect())) == 2
    assert list(cluster.objects) == [("pods", "other")]
    cluster.objects.clear()


def owner_process(setup: Setup, tmp_path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", OWNER, setup.model_dump_json(), str(tmp_path / "log")],
                            stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def until(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_no_cluster_is_configured(podded: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(MissingTool, match="none is configured"):
        prepare(podded())


def test_the_client_is_only_needed_for_this_runtime(podded: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)
    with pytest.raises(MissingTool, match=r"pip install 'llm-dyno\[kubernetes\]'"):
        prepare(podded())


def test_a_cluster_that_is_not_there(cluster: Cluster, podded: Make, tmp_path: Path) -> None:
    config = tmp_path / "kubeconfig"
    config.write_text(re.sub(r"127.0.0.1:\d+", "127.0.0.1:1", config.read_text()))
    with pytest.raises(UserError, match="cluster does not answer"), launch(podded(), tmp_path / "log"):
        pass


@pytest.mark.engine
def test_a_node_selector_that_is_none(cluster: Cluster, podded: Make, tmp_path: Path,
                                      monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DYNO_KUBERNETES_NODE_SELECTOR", "gpu")
    with pytest.raises(UserError, match="DYNO_KUBERNETES_NODE_SELECTOR: 'gpu' is not"), \
            launch(podded(), tmp_path / "log"):
        pass
