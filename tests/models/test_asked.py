"""Workloads and loads: what contradicts itself is refused, what is the same has one identity."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from models.specs import (
    EngineSpec,
    HardwareSpec,
    Lengths,
    Load,
    ModelSpec,
    Setup,
    Trace,
    Trial,
    Workload,
    content_id,
)

TRACE = Trace(path="a/b.jsonl", sha256="0" * 64, format="mooncake", requests=10, request_rate=2)
TOOL: dict[str, object] = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}


def workload(**more: object) -> Workload:
    return Workload.model_validate({"name": "w", "input_tokens": Lengths(mean=100), "output_tokens": Lengths(mean=10),
                                    **more})


@pytest.mark.parametrize(("fields", "says"), [
    ({"shared_prefix_tokens": 5, "shared_prefix_share": 0.5}, "either shared_prefix_tokens or shared_prefix_share"),
    ({"shared_prefix_share": 1.1}, "less than or equal to 1"),
    ({"trace": TRACE, "turns": 2}, "leave out turns"),
    ({"trace": TRACE, "shared_prefix_tokens": 2}, "leave out turns and the shared prefix"),
    ({"trace": TRACE, "shared_prefix_share": 0.0}, "leave out turns and the shared prefix"),
    ({"trace": TRACE, "input_scale": 0.001}, "blocks of 512 tokens: 0.002 is the least"),
    ({"tools": (), "api": "chat"}, "at least one function"),
    ({"tools": (TOOL,)}, "tools need api: chat; completions has none"),
    ({"tools": (TOOL,), "api": "llama_cpp"}, "tools need api: chat; llama_cpp has none"),
    ({"tools": (TOOL,), "api": "chat", "json_schema": {}}, "either json_schema"),
])
def test_a_workload_that_contradicts_itself_is_refused(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        workload(**fields)


@pytest.mark.parametrize(("fields", "says"), [
    ({"concurrency": 2, "request_rate_end": 3}, "request_rate_end is of an open loop"),
    ({"concurrency": 2, "arrivals": "trace"}, "arrivals: trace is of an open loop"),
    ({"request_rate": 2, "request_rate_end": 3, "arrivals": "trace"}, "either request_rate_end or arrivals: trace"),
    ({"request_rate": 2, "request_rate_end": 0}, "greater than 0"),
])
def test_a_load_that_contradicts_itself_is_refused(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        Load.model_validate(fields)


@pytest.mark.parametrize("api", ["completions", "chat", "tgi", "llama_cpp"])
def test_every_api_can_be_asked_for_an_object(api: str) -> None:
    assert workload(api=api, json_schema={"type": "object"}).json_schema == {"type": "object"}


def test_loads_say_what_they_are() -> None:
    ramp = Load(request_rate=2, request_rate_end=20)
    assert (ramp.label, ramp.request_rate_mean) == ("2 → 20 a second", 11)
    assert (Load(request_rate=2.5).label, Load(request_rate=2.5).request_rate_mean) == ("2.5 a second", 2.5)
    assert (Load(concurrency=4).label, Load(concurrency=4).request_rate_mean) == ("4 at once", None)


def test_whether_prompts_share_beginnings() -> None:
    azure = TRACE.model_copy(update={"format": "azure"})
    sharing = [workload(shared_prefix_tokens=1), workload(shared_prefix_share=0.1), workload(turns=2),
               workload(trace=TRACE), workload(api="chat", tools=(TOOL,))]
    apart = [workload(), workload(shared_prefix_share=0.0), workload(trace=azure), workload(json_schema={})]
    assert all(w.shares_prefixes for w in sharing) and not any(w.shares_prefixes for w in apart)


def test_a_trace_is_its_contents_wherever_it_lies() -> None:
    moved, other = TRACE.model_copy(update={"path": "c.jsonl"}), TRACE.model_copy(update={"sha256": "1" * 64})
    assert content_id(workload(trace=TRACE)) == content_id(workload(trace=moved)) != content_id(workload(trace=other))
    assert content_id(workload()) != content_id(workload(trace=TRACE)) != content_id(workload(shared_prefix_share=0.5))


def test_a_trial_with_a_trace_s_gaps_needs_the_trace() -> None:
    setup = Setup(model=ModelSpec(name="m"), engine=EngineSpec(engine="e"), hardware=HardwareSpec(name="h"))
    load = Load(request_rate=1, arrivals="trace")
    assert Trial(setup=setup, workload=workload(trace=TRACE), load=load).label.endswith("1 a second")
    with pytest.raises(ValidationError, match="needs a workload with a trace; w has none"):
        Trial(setup=setup, workload=workload(), load=load)


def test_setups_that_differ_by_an_option_are_told_apart() -> None:
    plain, more = (Setup(model=ModelSpec(name="m"), hardware=HardwareSpec(name="h"), engine=EngineSpec(
        engine="llama_cpp", variant="llama-server", quantization="Q8_0", extra_args=args)) for args in (
        (), ("--kv-unified", "-ub", "1024")))
    assert (plain.label, more.label) == ("llama-server Q8_0", "llama-server Q8_0, --kv-unified -ub 1024")
