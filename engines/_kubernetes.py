"""Runtime `kubernetes`: an engine in its image, as a pod and a service, with the GPUs that its hardware target names.

Read from the environment, beside what kubectl reads (KUBECONFIG):

    DYNO_KUBERNETES_NAMESPACE      default: the context's, or that of the pod dyno runs in
    DYNO_KUBERNETES_CLAIM          a persistent volume claim that holds what is in dyno's cache here, and is mounted
                                   at the cache's path; without one, the node must have the weights at the same path
    DYNO_KUBERNETES_NODE_SELECTOR  labels that a node must have: `name=value,name=value`
    DYNO_KUBERNETES_SCHEDULE_S     seconds that the cluster may take to find a node or add one, default 600
    DYNO_KUBERNETES_NODE_ADDRESS   where the nodes' ports are reached from here, if not at the nodes' own addresses

In the cluster, dyno reaches the service at its cluster address; from outside, through a node's port. It never measures
through a port-forward, whose path by way of the API server would be measured with the engine.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from engines import _kept, _manifests, _owner, _ports
from engines._contract import Command, Install
from engines._keeper import explain
from engines._kubernetes_api import API_TIMEOUT_S, Cluster, connect
from models import paths
from models.errors import UserError
from models.specs import Setup


def prepare(install: Install) -> Install:
    """Checks that there is a cluster to ask, and says where the server has to listen; nodes pull the image."""
    if not install.image:
        raise UserError("engine.image: this engine has no image of its own: name one")
    connect()
    return replace(install, host=_ports.ANY)


GPUS = {"cuda": "nvidia.com/gpu", "rocm": "amd.com/gpu"}
"""Names of the resource that a node's device plugin offers."""


@contextlib.contextmanager
def pod(setup: Setup, install: Install, command: Command, mounts: list[Path], port: int,
        log_path: Path) -> Iterator[_kept.Kept]:
    """Runs a command as a pod for as long as the `with`. Orphans of killed launches are removed first."""
    cluster = connect()
    sweep(cluster)
    name = f"dyno-{setup.setup_id[:8]}-{uuid.uuid4().hex[:8]}"
    wanted = _manifests.Wanted(
        name=name, engine=setup.engine.engine, image=install.image or "", argv=command.argv,
        environment=dict(command.environment), port=port, mounts=tuple(map(str, mounts)),
        claim=os.environ.get("DYNO_KUBERNETES_CLAIM"), cache=str(paths.cache()),
        gpus=max(setup.hardware.accelerators, setup.engine.batching.tensor_parallel)
        if setup.hardware.kind in GPUS else 0, gpu_resource=GPUS.get(setup.hardware.kind, ""),
        node_selector=_labels(os.environ.get("DYNO_KUBERNETES_NODE_SELECTOR", "")),
        service_type="ClusterIP" if cluster.inside else "NodePort")
    manifests = _manifests.manifests(wanted)
    spec = {"runtime": "kubernetes", "namespace": cluster.namespace, "manifests": manifests, "inside": cluster.inside,
            "node_address": os.environ.get("DYNO_KUBERNETES_NODE_ADDRESS"),
            "schedule_s": float(os.environ.get("DYNO_KUBERNETES_SCHEDULE_S", "600"))}
    with _kept.keep(spec, log_path, label=f"{command.argv[0].rpartition('/')[2]} in pod {name}", seen=False,
                    command=to_paste(cluster.namespace, _manifests.manifests(wanted, blotted=True))) as kept:
        yield kept


def to_paste(namespace: str, manifests: Mapping[str, Any]) -> str:
    """The same as a `kubectl apply`."""
    objects = json.dumps({"apiVersion": "v1", "kind": "List", "items": list(manifests.values())})
    return f"printf %s {shlex.quote(objects)} | kubectl --namespace {shlex.quote(namespace)} apply --filename -"


def sweep(cluster: Cluster) -> list[str]:
    """Removes what belongs to launches of this machine whose keeper was killed; returns the names. Raises UserError
    when the cluster does not answer."""
    from kubernetes.client import ApiException
    from urllib3.exceptions import HTTPError

    swept = []
    for kind in ("pod", "service", "secret"):
        try:
            found = getattr(cluster.api, f"list_namespaced_{kind}")(
                cluster.namespace, label_selector=_manifests.MANAGED, _request_timeout=API_TIMEOUT_S).items
        except (ApiException, HTTPError) as error:
            if getattr(error, "status", None) == 403:  # what it may not list it may not have made
                continue
            raise UserError(f"engine.runtime: the Kubernetes cluster does not answer as it should: "
                            f"{explain(error)}") from error
        for one in found:
            if _owner.is_orphan((one.metadata.annotations or {}).get(_owner.KEY, "")):
                with contextlib.suppress(ApiException):
                    getattr(cluster.api, f"delete_namespaced_{kind}")(one.metadata.name, cluster.namespace,
                                                                      _request_timeout=API_TIMEOUT_S)
                    swept.append(str(one.metadata.name))
    return swept


def _labels(text: str) -> dict[str, str]:
    """Raises UserError when that is no list of labels."""
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    if any(not name.strip() or not equals for name, equals, _ in pairs):
        raise UserError(f"DYNO_KUBERNETES_NODE_SELECTOR: {text!r} is not `name=value,name=value`")
    return {name.strip(): value.strip() for name, _, value in pairs}
