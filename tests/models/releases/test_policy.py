"""Policy files: read whole, or refused with file, field and way out."""

from __future__ import annotations

import pytest

from models.errors import ExperimentError
from models.releases import policy as policies
from models.releases.policy import FollowHub

WHOLE = """
follow:
  - {hub: Qwen, tags: [text-generation], newest: 20}
  - {models: org/name}
  - {folder: /data/checkpoints}
  - {feed: "https://example.org/releases.atom", tells: engine, engine: llama_cpp}
  - {pypi: vllm, engine: vllm}
  - {image: docker.io/vllm/vllm-openai, engine: vllm, tags: "v*"}
  - {prices: clouds}
models: {parameters: {min: 0.1B, max: 80B}, formats: [gguf], licences: [mit], gated: true, names: ["*"],
         except: ["*-Base"], since: 2026-11-01}
engines: {versions: ">=0.30", prereleases: false}
pools:
  cpu: {hardware: here, experiment: cpu.yaml, parameters: {max: 4B}}
  cuda: {hardware: h100, experiment: gpu.yaml, engine_hours: 3}
budget: {engine_hours_a_week: 20}
every_minutes: 30
"""
POOLS = "pools: {cpu: {experiment: cpu.yaml}}\n"


def test_the_form_that_is_documented_is_read() -> None:
    policy = policies.parse(WHOLE, "watch.yaml")
    assert isinstance(policy.follow[0], FollowHub) and len(policy.follow) == 7
    assert policy.models.parameters.holds(80_000_000_000) and not policy.models.parameters.holds(99_999_999)
    assert (policy.models.unwanted, policy.models.since) == (("*-Base",), "2026-11-01")
    assert policy.pools["cpu"].parameters.max == 4_000_000_000
    assert policies.__doc__ and "every_minutes: 30" in policies.__doc__


def test_what_is_followed_and_how_often_decides_nothing() -> None:
    policy = policies.parse(WHOLE, "watch.yaml")
    assert policies.parse(WHOLE.replace("every_minutes: 30", "every_minutes: 5"), "").policy_id == policy.policy_id
    assert policies.parse(WHOLE.replace("gated: true", "gated: false"), "").policy_id != policy.policy_id


@pytest.mark.parametrize(("text", "said"), [
    ("[]", "a policy is a mapping with follow and pools"),
    ("follow: [", "line 1: is not valid YAML"),
    (POOLS, "follow: is missing"),
    ("follow: [{folder: x}]", "pools: is missing"),
    ("follow: [{fodler: x}]\n" + POOLS, r"follow\[0\]: has none of hub, models, folder, .*: one of them says"),
    ("follow: [{hub: x, newest: 0}]\n" + POOLS, r"follow\[0\]\.newest: should be greater than 0"),
    ("follow: [{hub: x, newset: 3}]\n" + POOLS, r"follow\[0\]\.newset: is not a field of a policy"),
    ("follow: [{feed: x, tells: engine}]\n" + POOLS, r"follow\[0\]: `tells: engine` and `engine: NAME` belong"),
    ("follow: [{feed: x, pattern: '('}]\n" + POOLS, r"follow\[0\]\.pattern: is no regular expression"),
    ("follow: [{hub: x}]\nmodels: {parameters: {max: big}}\n" + POOLS, r"models\.parameters\.max: give a number of"),
    ("follow: [{hub: x}]\nengines: {versions: new}\n" + POOLS, r"engines\.versions: is no range of versions"),
    ("follow: [{hub: x}]\npools: {cpu: {}}", r"pools\.cpu\.experiment: is missing"),
])
def test_a_mistake_is_named_with_its_place(text: str, said: str) -> None:
    with pytest.raises(ExperimentError, match=f"^watch.yaml: {said}"):
        policies.parse(text, "watch.yaml")
