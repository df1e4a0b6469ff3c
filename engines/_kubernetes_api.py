"""The Kubernetes cluster that is configured here. Light to import: a pod's keeper does so too."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from models.errors import MissingTool

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api

_IN_CLUSTER = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
API_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Cluster:
    """The cluster that kubectl would talk to, and how it is used."""

    api: CoreV1Api
    namespace: str
    inside: bool


def connect() -> Cluster:
    """Raises MissingTool when there is no client or no cluster is configured. Asks the cluster nothing."""
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise MissingTool("runtime kubernetes needs its client: pip install 'llm-dyno[kubernetes]'") from error
    configuration = client.Configuration()
    file = os.environ.get("KUBECONFIG")
    inside = False
    try:
        config.load_kube_config(file, client_configuration=configuration)
        namespace = config.list_kube_config_contexts(file)[1]["context"].get("namespace")
    except config.ConfigException as outside:
        try:
            config.load_incluster_config(client_configuration=configuration)
        except config.ConfigException:
            raise MissingTool(f"runtime kubernetes needs a cluster, and none is configured ({outside}): set "
                              "KUBECONFIG, or run dyno in a pod") from outside
        namespace, inside = _IN_CLUSTER.read_text().strip(), True
    api = client.CoreV1Api(client.ApiClient(configuration))
    return Cluster(api, os.environ.get("DYNO_KUBERNETES_NAMESPACE") or namespace or "default", inside)
