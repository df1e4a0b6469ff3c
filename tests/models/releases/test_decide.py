"""What a policy, the pools' hardware and the week's budget make of a release."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from models import experiment as experiments
from models.releases import experiment as evaluations
from models.releases import policy as policies
from models.releases.decide import Place, decide, file_of
from models.releases.policy import Policy
from models.releases.release import Release, Run, Seen, expected_hours, spent_hours
from models.specs import Architecture, HardwareSpec

GIB = 1 << 30
LLAMA_8B = Architecture(layers=32, hidden_size=4096, heads=32, kv_heads=8, head_dim=128, intermediate_size=14336,
                        vocabulary=128256, parameters=8_030_261_248, tied_embeddings=False, context_tokens=8192)
LLAMA_70B = LLAMA_8B.model_copy(update={"layers": 80, "hidden_size": 8192, "heads": 64, "intermediate_size": 28672,
                                        "parameters": 70_553_706_496})
RAW: dict[str, Any] = {"name": "night", "models": ["release"], "workloads": ["chat"], "load": {"concurrency": [1]}}


def policy(**more: object) -> Policy:
    pools = {"cpu": {"experiment": "cpu.yaml"}, "cuda": {"experiment": "gpu.yaml", "hardware": "h100"}}
    given = {"follow": [{"folder": "x"}], "pools": pools, **more}
    return policies.parse(str(given), "watch.yaml")  # a Python mapping of strings, numbers and lists is YAML, too


def place(pool: str, gib: float, engines: list[dict[str, Any]], gpus: int = 1, **more: object) -> Place:
    kind: Any = "cpu" if pool == "cpu" else "cuda"
    return Place(pool=pool, hardware=HardwareSpec(name=f"a {pool}", kind=kind), memory_bytes=gib * GIB, gpus=gpus,
                 experiment=experiments.parse({**RAW, "engines": engines, **more}, "x.yaml"), engine_hours=2.0)


CPU = place("cpu", 24, [{"engine": "llama_cpp", "quantizations": ["F16", "Q4_K_M"]}])
CUDA = place("cuda", 80, [{"engine": "vllm", "quantizations": ["BF16"], "batching": [{"tensor_parallel": 1}]}], gpus=8)


def model(shape: Architecture | None = LLAMA_8B, **more: Any) -> Release:
    given = {"kind": "model", "name": "org/Model-8B", "version": "abc", "source": "hub: org", "licence": "mit",
             "format": "safetensors", "repository": "org/Model-8B", "revision": "f" * 40, "architecture": shape,
             "parameters": shape.parameters if shape else None, "released_at": "2026-11-20T00:00:00+00:00"}
    return Release(**given | more)


def test_a_release_goes_to_the_pools_that_it_fits_with_the_formats_that_fit() -> None:
    big = decide(model(LLAMA_70B), policy(), [CPU, CUDA], 0)
    assert big.state == "skipped" and big.why == "it fits no pool's hardware"
    small = decide(model(), policy(), [CPU, CUDA], 0)
    assert small.state == "start" and small.wanted == {"cpu": ((0, ("F16", "Q4_K_M")),), "cuda": ((0, ("BF16",)),)}
    tight = CPU.model_copy(update={"memory_bytes": 16.0 * GIB})
    assert decide(model(), policy(), [tight], 0).wanted == {"cpu": ((0, ("Q4_K_M",)),)}


def test_what_fits_nothing_gets_the_planners_estimate() -> None:
    found = decide(model(LLAMA_70B), policy(), [CPU, CUDA], 0)
    assert "cpu (a cpu): with Q4_K_M weights the weights alone do not fit: " in found.estimate
    assert "cuda (a cuda): with BF16 weights the weights alone do not fit: " in found.estimate
    assert "GiB a GPU are needed" in found.estimate and "such GPUs hold it" in found.estimate


@pytest.mark.parametrize(("more", "said", "why"), [
    ({}, {"models": {"parameters": {"max": "4B"}}}, "models.parameters: 8.03B weights, and the policy wants up to 4B"),
    ({"format": "gguf"}, {"models": {"formats": ["safetensors"]}}, "models.formats: it is gguf"),
    ({"format": None}, {}, "models.formats: it is in a format that no engine here reads"),
    ({"licence": None}, {"models": {"licences": ["mit"]}}, "models.licences: its licence is not stated"),
    ({"licence": "other"}, {"models": {"licences": ["mit"]}}, "models.licences: its licence is other"),
    ({"gated": True}, {}, "models.gated: it is given only to those who accepted its terms"),
    ({}, {"models": {"names": ["qwen/*"]}}, "models.names: the policy does not name org/Model-8B"),
    ({}, {"models": {"except": ["*-8b"]}}, "models.except: *-8b"),
    ({}, {"models": {"since": "2026-11-21"}}, "models.since: released on 2026-11-20, before 2026-11-21"),
    ({"unreadable": "it cannot be read: x"}, {}, "it cannot be read: x"),
    ({"architecture": None}, {}, "its shape is not known, so that nobody can tell where it fits"),
])
def test_a_policy_says_why_not(more: dict[str, Any], said: dict[str, Any], why: str) -> None:
    found = decide(model(**{"shape": None} if "architecture" in more else more), policy(**said), [CPU, CUDA], 0)
    assert (found.state, found.why) == ("skipped", why)


def test_a_pool_has_limits_of_its_own() -> None:
    pools = {"cpu": {"experiment": "cpu.yaml", "parameters": {"max": "4B"}}, "cuda": {"experiment": "gpu.yaml"}}
    assert set(decide(model(), policy(pools=pools), [CPU, CUDA], 0).wanted) == {"cuda"}
    alone = {"cpu": pools["cpu"]}
    assert decide(model(), policy(pools=alone), [CPU], 0).why == "cpu: pools.cpu.parameters: this pool takes up to 4B"


def test_a_checkpoint_on_disk_needs_no_licence() -> None:
    local = model(path="/data/x", repository=None, licence=None)
    assert decide(local, policy(models={"licences": ["mit"]}), [CPU], 0).state == "start"


def test_what_an_adapter_refuses_is_not_started() -> None:
    found = decide(model(), policy(), [CPU], 0, lambda _r, entry, q, _p: f"{entry.engine} does not read it")
    assert (found.state, found.why) == ("skipped", "cpu: llama_cpp does not read it")


def test_the_weeks_budget_is_kept() -> None:
    budget = {"budget": {"engine_hours_a_week": 5}}
    assert decide(model(), policy(**budget), [CPU, CUDA], 1.0).state == "start"
    waiting = decide(model(), policy(**budget), [CPU, CUDA], 1.5)
    assert waiting.state == "waiting"
    assert waiting.why == ("budget: 1.5 of 5 engine-hours of this week are spent or running, and about 4 are needed")
    never = decide(model(), policy(budget={"engine_hours_a_week": 3}), [CPU, CUDA], 0)
    assert never.why.endswith("it alone is over the budget, raise budget.engine_hours_a_week")


def test_hours_are_those_of_a_week_and_a_running_evaluation_counts() -> None:
    now = dt.datetime(2026, 11, 26, tzinfo=dt.UTC)

    def run(days_ago: float, **more: Any) -> Run:
        return Run(pool="cpu", key="k", started_at=(now - dt.timedelta(days=days_ago)).isoformat(), **more)

    seen = [Seen(release=model(version=str(i)), seen_at="", decided_at="", state="evaluated", runs=(one,))
            for i, one in enumerate((run(1, engine_hours=3.0, outcome="evaluated"), run(0.01), run(0.5),
                                     run(8, engine_hours=5.0, outcome="evaluated")))]
    assert spent_hours(seen, now, 2.0) == pytest.approx(3 + 2 + 12)
    assert expected_hours(seen, "cpu", 1.0) == 4.0
    assert expected_hours(seen, "cuda", 1.0) == 1.0


def test_files_of_a_repository_of_gguf_are_those_that_the_experiment_asks_for() -> None:
    files = ("x-Q4_K_M.gguf", "x-Q8_0-00001-of-00002.gguf", "x.f16.gguf", "mmproj-F32.gguf")
    release = model(files=files, format="gguf")
    assert [file_of(release, q) for q in ("Q4_K_M", "Q8_0", "F16", "Q2_K")] == [
        "x-Q4_K_M.gguf", None, "x.f16.gguf", None]
    found = decide(release, policy(), [CPU], 0)
    raw = evaluations.of(release, CPU, found.wanted["cpu"])
    assert raw["models"] == [{"name": f"org/Model-8B:{file}", "file": file, "repository": "org/Model-8B",
                              "revision": "f" * 40} for file in ("x.f16.gguf", "x-Q4_K_M.gguf")]


def test_quantised_weights_are_measured_as_what_they_are() -> None:
    release = model(quantization="Q5_K_M", path="/data/x.gguf", format="gguf")
    found = decide(release, policy(), [CPU], 0)
    assert found.wanted == {"cpu": ((0, ("Q5_K_M",)),)}
    raw = evaluations.of(release, CPU, found.wanted["cpu"])
    assert raw["engines"][0]["quantizations"] == ["Q5_K_M"]
    assert raw["models"] == [{"name": "org/Model-8B", "path": "/data/x.gguf"}]
    assert experiments.parse(raw, "").name.startswith("night-org-Model-8B-")


def test_a_version_of_an_engine_takes_its_engines_place_in_the_experiment() -> None:
    of: dict[str, Any] = {"kind": "engine", "name": "vllm", "source": "pypi: vllm"}
    both = place("cuda", 80, [{"engine": "vllm"}, {"engine": "sglang"}], models=["synthetic-llama-1b"])
    found = decide(Release(version="0.34.0", **of), policy(), [CPU, both], 0)
    raw = evaluations.of(Release(version="0.34.0", **of), both, found.wanted["cuda"])
    assert [(e["engine"], e["version"]) for e in raw["engines"]] == [("vllm", "0.34.0")]
    assert raw["models"] == ["synthetic-llama-1b"]
    named = policy(engines={"versions": ">=0.30,<0.34"})
    assert decide(Release(version="0.34.0", **of), named, [both], 0).why == "engines.versions: the policy wants" \
                                                                            " >=0.30,<0.34"
    assert decide(Release(version="0.34.0rc1", **of), policy(), [both], 0).why == "engines.prereleases: it is one"
    assert decide(Release(version="0.34.0", **of), policy(), [CUDA], 0).why == (
        "cuda: its experiment names no model to measure a new engine with")
    assert decide(Release(version="b7000", **of | {"name": "llama_cpp"}), policy(), [both], 0).why == (
        "cuda: its experiment has no llama_cpp of runtime venv")


def test_a_release_is_its_weights_and_nothing_else() -> None:
    assert model().release_id == model(revision="e" * 40, licence=None, source="folder: x").release_id
    assert model().release_id != model(version="other").release_id
