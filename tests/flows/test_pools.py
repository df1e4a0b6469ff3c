"""An experiment is shared out among pools; prefect.yaml has deployments for all of them."""

from __future__ import annotations

from flows.deployments import definitions
from flows.pools import POOLS, WAREHOUSE, by_pool, pool_of
from models import experiment as experiments
from models.specs import HardwareSpec

GIVEN = {"name": "x", "models": ["m"], "workloads": ["chat"], "load": {"concurrency": [1]}, "pools": ["cpu", "cuda"],
         "engines": [{"engine": "llama_cpp"}, {"engine": "vllm", "pools": ["cuda"]}]}


def test_each_pool_gets_the_engines_that_are_for_it() -> None:
    given = experiments.parse(GIVEN, "x.yaml")
    parts = by_pool(given)
    assert {p: [e.engine for e in part.engines] for p, part in parts.items()} == {
        "cpu": ["llama_cpp"], "cuda": ["llama_cpp", "vllm"]}
    assert all(not part.pools and not any(e.pools for e in part.engines) for part in parts.values())
    assert list(by_pool(given, ("cuda",))) == ["cuda"]
    assert [e.engine for e in by_pool(given.model_copy(update={"pools": ()}))[""].engines] == ["llama_cpp", "vllm"]


def test_every_pool_has_its_deployments() -> None:
    assert {pool: [d["name"] for d in definitions(pool)] for pool in POOLS} == {pool: [pool] for pool in POOLS}
    assert {"nightly", "weekly-full", "releases"} <= {d["name"] for d in definitions(WAREHOUSE)}
    (own,) = definitions("lab")
    assert own["name"] == "lab" and own["work_pool"] == {"name": "lab"}
    assert own["entrypoint"] == "flows.evaluate.evaluate"
    assert pool_of(HardwareSpec(name="a", kind="cuda")) == "cuda"
