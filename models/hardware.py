"""Spec sheets of accelerators: bundled, and more from aiconfigurator-core where the extra `planning` is installed."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, ValidationError

from models.errors import UserError
from models.identity import Identifier, Record

_MIB = 1 << 20


class Accelerator(Record):
    """One GPU, or one CPU socket, as its maker describes it. Rates are dense (no sparsity), tensor or matrix units."""

    name: Identifier
    kind: Literal["gpu", "cpu"] = "gpu"
    matches: tuple[str, ...] = Field(default=(), description="parts of what drivers and people call it")
    memory_bytes: int = Field(gt=0, description="as the driver reports it")
    memory_bandwidth_bytes_per_s: float = Field(gt=0)
    bf16_flops_per_s: float = Field(gt=0)
    fp8_flops_per_s: float | None = Field(default=None, gt=0)
    fp4_flops_per_s: float | None = Field(default=None, gt=0)
    int8_flops_per_s: float | None = Field(default=None, gt=0)
    power_w: float | None = Field(default=None, gt=0)
    link_bytes_per_s: float | None = Field(default=None, gt=0, description="of one GPU inside a node, one direction")
    links_gpus: int = Field(default=1, gt=0, description="GPUs of one node")
    source: Identifier


@cache
def accelerators() -> tuple[Accelerator, ...]:
    """Every accelerator known here: the bundled ones, then those that only aiconfigurator-core has."""
    text = resources.files("models").joinpath("data/hardware.yaml").read_text()
    found = {a.name: a for a in from_yaml(text, "hardware.yaml")}
    return tuple(({a.name: a for a in _from_package()} | found).values())


def accelerator(name: str, among: Iterable[Accelerator] | None = None) -> Accelerator:
    """The accelerator of that name (`h100_sxm`), or the one that a driver or a person calls so (`NVIDIA H200`, `h100`).

    Raises UserError listing what there is.
    """
    known = tuple(accelerators() if among is None else among)
    if found := lookup(name, known):
        return found
    names = ", ".join(sorted(a.name for a in known))
    raise UserError(f"hardware {name}: no spec sheet of it; known are {names}. Your own goes into hardware.yaml in"
                    " DYNO_HOME (`dyno plan memory --help` shows the form)")


def lookup(name: str, among: Iterable[Accelerator]) -> Accelerator | None:
    """The same, None where there is none. The longest match decides: `A10G` is no A10."""
    known, wanted = tuple(among), _plain(name)
    if exact := next((a for a in known if _plain(a.name) == wanted), None):
        return exact
    matches = [(len(m), a) for a in known for m in (*a.matches, a.name)
               if re.search(rf"(?:^| ){re.escape(_plain(m))}(?: |$)", wanted)]
    return max(matches, key=lambda pair: pair[0])[1] if matches else None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", " ", re.sub(r"\((r|tm)\)", "", name.lower())).strip()


def from_yaml(text: str, file: str) -> list[Accelerator]:
    """Rows of a file in the form of models/data/hardware.yaml. Raises UserError naming the file and the row."""
    try:
        table = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise UserError(f"{file}: not YAML: {error}") from error
    rows = table.get("accelerators") if isinstance(table, dict) else None
    if not isinstance(rows, list):
        raise UserError(f"{file}: it has no list `accelerators`")
    return [_row(row, file) for row in rows]


def _row(row: Any, file: str) -> Accelerator:
    name = row.get("name", "?") if isinstance(row, dict) else "?"
    try:
        return Accelerator(
            name=name, kind=row.get("kind") or "gpu", matches=tuple(row.get("match") or ()),
            memory_bytes=int(row["mib"] * _MIB), memory_bandwidth_bytes_per_s=row["tb_s"] * 1e12, source=row["source"],
            power_w=row.get("watt"), links_gpus=row.get("links") or 1,
            link_bytes_per_s=row["link_gb_s"] * 1e9 if row.get("link_gb_s") else None,
            **{f"{kind}_flops_per_s": rate * 1e12 for kind, rate in row["tflops"].items()})
    except (KeyError, TypeError, AttributeError, ValidationError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else str(error).splitlines()[-1].strip()
        raise UserError(f"{file}: accelerator {name}: {why}") from error


def package() -> Path | None:
    """Where aiconfigurator-core's data lie, without importing it; None where it is not installed."""
    spec = importlib.util.find_spec("aiconfigurator_core")
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


def _from_package() -> list[Accelerator]:
    if (folder := package()) is None:
        return []
    sheets = ((f, yaml.safe_load(f.read_text())) for f in sorted((folder / "systems").glob("*.yaml")))
    return [_sheet(file.stem, sheet) for file, sheet in sheets if isinstance(sheet, dict) and "gpu" in sheet]


def _sheet(name: str, sheet: Mapping[str, Any]) -> Accelerator:
    gpu, node = sheet["gpu"], sheet["node"]
    return Accelerator(
        name=name, memory_bytes=gpu["mem_capacity"], memory_bandwidth_bytes_per_s=gpu["mem_bw"],
        bf16_flops_per_s=gpu["bfloat16_tc_flops"], fp8_flops_per_s=gpu.get("fp8_tc_flops"),
        fp4_flops_per_s=gpu.get("fp4_tc_flops"), int8_flops_per_s=gpu.get("int8_tc_flops"), power_w=gpu.get("power"),
        link_bytes_per_s=node.get("intra_node_bw"),
        links_gpus=node.get("num_gpus_per_rack") or node["num_gpus_per_node"],
        source=f"aiconfigurator-core, systems/{name}.yaml")
