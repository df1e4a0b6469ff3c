"""The set-ups of docs/team: what Kubernetes would take, and commands that dyno has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import yaml

from app.cli import cli

FOLDER = Path(__file__).parent.parent.parent / "docs" / "team"
MANIFESTS = [one for one in yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text()) if one]
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_kubernetes_takes_it(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, "1.31", strict=True)


def _commands() -> Iterator[list[str]]:
    yield from (service["command"] for service in COMPOSE["services"].values() if "command" in service)
    for manifest in MANIFESTS:
        pod = manifest.get("spec", {}).get("template", {}).get("spec", {})
        yield from (c["args"] for c in pod.get("containers", ()) if c["image"] == "dyno" and "args" in c)


def test_what_they_run_is_what_dyno_has() -> None:
    commands = list(_commands())
    assert len(commands) == 7
    for name, *arguments in commands:
        with cli.commands[name].make_context(name, arguments) as context:
            assert isinstance(context, click.Context)


def test_nothing_but_tls_is_reached_from_outside() -> None:
    for name, service in COMPOSE["services"].items():
        assert ("ports" in service) == (name == "caddy")
        assert name in ("caddy", "postgres") or service["network_mode"] == "service:caddy"
    assert set(COMPOSE["volumes"]) == {"caddy", "dyno", "postgres"}
