"""Models and machines by name, for planning: whatever is known without fetching weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from engines import _hf_config, _hf_folder, _synthetic
from engines._checkpoints import resolve_model
from engines._gguf import read_header
from engines._hardware import detect
from models import catalogue, hardware
from models.architectures import from_config
from models.errors import ModelError, UserError
from models.hardware import Accelerator
from models.identity import Identifier, Record
from models.planning.overheads import visible_bytes
from models.specs import Architecture, HardwareSpec
from warehouse.launches import memory_of

OWN_HARDWARE = "hardware.yaml"


class KnownModel(Record):
    """A model's shape; quantization and weights_bytes where its weights are known to be stored so."""

    name: Identifier
    architecture: Architecture
    quantization: str | None = None
    weights_bytes: float | None = Field(default=None, description="of the very file")
    source: str


class Machine(Record):
    """Where it is to run: what one GPU, or the whole machine, offers an engine."""

    name: Identifier
    kind: str
    memory_bytes: float = Field(gt=0)
    gpus: int = Field(default=1, description="that this machine has; of spec sheets: in one node")
    accelerator: Accelerator | None = None
    here: HardwareSpec | None = Field(default=None, description="this machine, as setups name it")
    source: str


def find_model(name: str) -> KnownModel:
    """The model of a name: a synthetic one's; a GGUF file, a config.json or the folder of one; a repository known here
    without a network (bundled shapes, aiconfigurator-core's); else a repository on the Hugging Face Hub, of which the
    config and the tables of tensors are asked for.

    Raises ModelError when there is none, or the Hub does not answer.
    """
    path = Path(name).expanduser()
    if name not in _synthetic.names() and path.exists():
        return _on_disk(path)
    if (config := catalogue.config(name)) is not None and (shape := catalogue.shape(name)) is not None:
        return KnownModel(name=name, architecture=shape, quantization=_stored(config), source="known without a network")
    spec = resolve_model(name)
    if spec.architecture is None:
        raise ModelError(f"model {name}: its shape is not known")
    return KnownModel(name=name, architecture=spec.architecture, quantization=spec.quantization,
                      source=f"Hugging Face Hub, {spec.revision}" if spec.source == "hub" else spec.source)


def _on_disk(path: Path) -> KnownModel:
    if path.suffix == ".gguf":
        header = read_header(path)
        return KnownModel(name=path.stem, architecture=header.architecture(), quantization=header.quantization,
                          weights_bytes=float(header.tensor_bytes), source=str(path))
    folder = path if path.is_dir() else path.parent
    try:
        if path.is_dir() and any(folder.glob("*.safetensors")):
            config, tensors = _hf_folder.read(folder)
            return KnownModel(
                name=folder.absolute().name, architecture=_hf_config.architecture(config, tensors), source=str(path),
                quantization=_hf_config.quantization(config, tensors),
                weights_bytes=float(sum(t.bytes for t in tensors)))
        config = _hf_folder.read_json(folder / "config.json" if path.is_dir() else path)
        return KnownModel(name=folder.absolute().name, architecture=from_config(config), quantization=_stored(config),
                          source=str(path))
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _stored(config: Mapping[str, Any]) -> str | None:
    """dyno's name of the quantisation that a config tells, None where it tells none."""
    if _hf_config.quantization_config(config) is None:
        return None
    return _hf_config.quantization(config, ())


def find_hardware(name: str | None, home: Path) -> Machine:
    """This machine (None or `here`), or one GPU of a spec sheet: your own in DYNO_HOME/hardware.yaml first.

    Raises UserError when there is no such sheet, or the file of one's own is not as it should be.
    """
    if name in (None, "here"):
        here = detect()
        return Machine(name=here.name, kind=here.kind, memory_bytes=memory_of(here), gpus=max(here.accelerators, 1),
                       accelerator=hardware.lookup(here.accelerator or here.cpu or "", accelerators(home)), here=here,
                       source="this machine")
    plain = re.sub(r"^\d+\s*[x×]\s*", "", str(name))
    if plain != name:
        raise UserError(f"hardware {name}: name one accelerator, and how many share the model with --tensor-parallel")
    sheet = hardware.accelerator(plain, accelerators(home))
    offered = visible_bytes(sheet.memory_bytes) if sheet.kind == "gpu" else float(sheet.memory_bytes)
    return Machine(name=sheet.name, kind="cuda" if sheet.kind == "gpu" else "cpu", memory_bytes=offered,
                   gpus=sheet.links_gpus, accelerator=sheet, source=sheet.source)


def accelerators(home: Path) -> list[Accelerator]:
    """One's own spec sheets, then those that dyno knows. Raises UserError for a file that is not as it should be."""
    file = home / OWN_HARDWARE
    own = hardware.from_yaml(file.read_text(), str(file)) if file.is_file() else []
    names = {a.name for a in own}
    return [*own, *(a for a in hardware.accelerators() if a.name not in names)]
