"""Packs what a GPU machine without a network lacks for `offline.sh`: run it where there is one.

    python -m bench.gpu.offline_pack HAVE OUT [engine vllm sglang] [--python 3.12]

HAVE is what `python3 -m pip list --format=freeze` prints on that machine, whose Python has the torch that these engines
want. OUT gets engine/wheels (dyno, and what compiles llama.cpp), vllm/ and sglang/, each wheels and packages: some
270 MB as tar.xz, and 130 more for SGLang. Left out of both are kernels of other GPUs than Hopper, of SGLang's
FlashAttention 3 those that a Llama in BF16 does not run, and what does without on one GPU (DeepGEMM, TileLang …).
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Collection
from pathlib import Path

from uv import find_uv_bin

from bench.gpu import _fatbins
from engines import _llama_build, _python_env

ALONE = ("cmake", "ninja", "pip", "scikit-build-core", "setuptools", "numpy", "diskcache", "uvicorn", "fastapi",
         "pydantic-settings", "sse-starlette", "starlette-context<0.4", "pyyaml", "jinja2")
"""What is installed into environments that see no other: to compile llama.cpp, and for its Python server."""
UNNEEDED = re.compile(r"streamlit|vl-convert-python|nvidia-|cuda-|torch|triton|flashinfer|tilelang|z3-|quack|"
                      r"tokenspeed|humming|pynvvideo|opencv|nvtx|vllm|sentry|supervisor|fastapi-cloud|rignore|fastar|"
                      r"sglang|sgl-deep|modelscope|py-spy|timm|helion|flash-attn|nccl4py|tzdata")
PARTS = {"vllm": ["vllm==0.26.0"],
         "sglang": ["sglang==0.5.17", "sglang-kernel==0.4.5", "flashinfer-python==0.6.15.post1"]}
"""The last of each for torch 2.11."""
PINNED = frozenset({"transformers", "tokenizers"})
"""Carried even if they are there: SGLang takes one version only."""
LEFT_OUT = ("_vllm_fa2_C", "vllm-rs", "third_party/deep_gemm/", "third_party/fmha_sm100/", "sgl_kernel/sm100/",
            "sgl_kernel/infllm_ops", "sgl_kernel/flashmla_ops", "flashinfer/data/spdlog/")
_ATTENTION, _SERVES = b"FlashAttnFwdSm", re.compile(rb"ELi(64|128)ENS_10bfloat16_tEf")  # heads of 64 and 128 values
_NOT_LLAMA = re.compile(rb"Sm90ELb[01]ELb[01]ELb1E|Sm80")  # a cap on the scores, GPUs before Hopper
UNUSED = re.compile(r"(\.git|docs|examples|docker|tests|vendor/llama\.cpp/(docs|tests|benches|examples|media|"
                    r"tools/ui/tests|models/(?!ggml-vocab-(llama-|qwen2\.))))")
PLATFORMS = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (39, 34, 31, 28, 27, 24, 17)]
PLATFORMS.append("--platform=manylinux2014_x86_64")


def resolved(requirements: list[str], python: str) -> list[str]:
    """Names and versions of everything that these need there."""
    listed = subprocess.run([find_uv_bin(), "pip", "compile", "--no-config", "-q", "--python-version", python,
                             "--no-annotate", "--no-header", "--python-platform", "x86_64-manylinux_2_39", "-"],
                            input="\n".join(requirements), text=True, capture_output=True, check=True)
    return listed.stdout.split()


def wheels(requirements: list[str], have: Collection[str], python: str, folder: Path) -> None:
    """Downloads what is not there, and stores it uncompressed, for xz to do better."""
    wanted = [line for line in resolved(requirements, python) if not UNNEEDED.match(line) and _name(line) not in have]
    packed = folder.with_name("packed")
    _download(wanted, python, packed)
    folder.mkdir(parents=True)
    for wheel in packed.glob("*.whl"):
        with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(folder / wheel.name, "w") as new:
            for entry in old.infolist():
                new.writestr(entry, old.read(entry), compress_type=zipfile.ZIP_STORED)
    shutil.rmtree(packed)


def llama_source(folder: Path) -> None:
    """The source of llama.cpp, without what takes no part in compiling it: a sixth of it."""
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        python = _python_env.make_environment(work / "tools", work / "log")
        _python_env.install(python, ["pip", "scikit-build-core"], work / "log")
        source = _llama_build._fetch_source(python, _llama_build.pinned_version(), work, work / "log")
        with tarfile.open(folder / f"{source.name}.tar.gz", "w:gz") as packed:
            packed.add(source, source.name, filter=lambda entry: None if UNUSED.match(
                entry.name.removeprefix(f"{source.name}/")) else entry)


def packages(requirements: list[str], python: str, folder: Path) -> None:
    """The engine itself, unpacked, with machine code for Hopper only."""
    _download(requirements, python, folder)
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as all_of_it:
            for name in all_of_it.namelist():
                if not any(part in name for part in LEFT_OUT):
                    all_of_it.extract(name, folder / "packages")
        wheel.unlink()
    for library in folder.glob("packages/sgl_kernel/**/*.so"):
        print(f"{library.name}: {_fatbins.blank(library, _needed) / 1e6:.0f} MB of machine code", file=sys.stderr)


def _needed(architecture: int, kernels: set[bytes]) -> bool:
    attention = [name for name in kernels if _ATTENTION in name]
    serves = any(map(_SERVES.search, attention)) and not any(map(_NOT_LLAMA.search, attention))
    return architecture == 90 and (serves or not attention)


def _name(line: str) -> str:
    return re.split(r"[\[=<> ]", line)[0].lower().replace("_", "-")


def _download(requirements: list[str], python: str, folder: Path) -> None:
    subprocess.run([sys.executable, "-m", "pip", "-q", "download", "--no-deps", "--only-binary=:all:",
                    "--python-version", python, "--implementation", "cp", *PLATFORMS, "-d", str(folder),
                    *requirements], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("have", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("parts", nargs="*", default=["engine", *PARTS], choices=["engine", *PARTS], metavar="PART")
    parser.add_argument("--python", default="3.12")
    asked = parser.parse_args()
    have = {_name(line) for line in asked.have.read_text().splitlines()}
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    if "engine" in asked.parts:
        alone = {_name(line) for line in resolved([*ALONE], asked.python)}
        wheels([*project["dependencies"], *project["optional-dependencies"]["nvidia"], *ALONE], have - alone,
               asked.python, asked.out / "engine/wheels")
        llama_source(asked.out / "engine/wheels")
    for part, requirements in PARTS.items():
        if part in asked.parts:
            wheels(requirements, have - PINNED if part == "sglang" else have, asked.python, asked.out / part / "wheels")
            packages(requirements, asked.python, asked.out / part)


if __name__ == "__main__":
    main()
