"""Spec sheets: found by the names that drivers and people use, and what a file of one's own may say."""

from __future__ import annotations

import pytest

from models import hardware
from models.errors import UserError


@pytest.mark.parametrize(("asked", "name"), [
    ("h100", "h100_sxm"), ("H100", "h100_sxm"), ("NVIDIA H100 80GB HBM3", "h100_sxm"),
    ("NVIDIA H100 PCIe", "h100_pcie"), ("NVIDIA H100 NVL", "h100_nvl"),
    ("NVIDIA A100-SXM4-80GB", "a100_sxm"), ("NVIDIA A100-SXM4-40GB", "a100_sxm_40gb"),
    ("NVIDIA L40S", "l40s"), ("L4", "l4"), ("NVIDIA A10G", "a10g"), ("NVIDIA GeForce RTX 4090", "rtx_4090"),
    ("AMD Instinct MI300X", "mi300x"), ("Intel(R) Xeon(R) Platinum 8480+", "xeon_8480"), ("h200", "h200_sxm")])
def test_an_accelerator_is_found_by_what_it_is_called(asked: str, name: str) -> None:
    assert hardware.accelerator(asked).name == name


def test_figures_of_the_sheet() -> None:
    h100 = hardware.accelerator("h100_sxm")
    assert h100.memory_bytes == 81559 * 2**20
    assert (h100.bf16_flops_per_s, h100.memory_bandwidth_bytes_per_s, h100.link_bytes_per_s) == (989e12, 3.35e12, 450e9)
    assert all(a.memory_bytes > 1e10 and a.bf16_flops_per_s > 1e12 for a in hardware.accelerators())


def test_the_package_adds_what_is_not_bundled_and_agrees_on_the_rest() -> None:
    if hardware.package() is None:
        pytest.skip("needs the extra `planning`")
    assert hardware.accelerator("gb200").links_gpus == 72
    mine = {a.name: a for a in hardware.accelerators()}
    for sheet in hardware._from_package():
        own = mine[sheet.name]
        assert own.bf16_flops_per_s == pytest.approx(sheet.bf16_flops_per_s, rel=0.01)
        assert own.memory_bandwidth_bytes_per_s == pytest.approx(sheet.memory_bandwidth_bytes_per_s, rel=0.01)
        assert own.memory_bytes == pytest.approx(sheet.memory_bytes, rel=0.07)


def test_what_is_not_known_says_what_is() -> None:
    with pytest.raises(UserError, match=r"hardware toaster: no spec sheet of it; known are .*h100_sxm"):
        hardware.accelerator("toaster")


@pytest.mark.parametrize(("text", "why"), [
    ("accelerators: [{name: x, mib: 1, tb_s: 1, source: s}]", "accelerator x: it lacks 'tflops'"),
    ("accelerators: [{name: x, mib: 1, tb_s: 1, source: s, tflops: {bf16: 1, fp3: 1}}]", "accelerator x:"),
    ("accelerators: [{name: x, mib: 0, tb_s: 1, source: s, tflops: {bf16: 1}}]", "accelerator x:"),
    ("a: {", "not YAML"), ("a: 1", "no list `accelerators`"), ("accelerators: [3]", "accelerator ?:")])
def test_a_bad_file_names_the_row(text: str, why: str) -> None:
    with pytest.raises(UserError) as raised:
        hardware.from_yaml(text, "mine.yaml")
    assert str(raised.value).startswith("mine.yaml: ") and why in str(raised.value)
