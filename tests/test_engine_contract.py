"""What every engine in engines/ must keep to: one run over the folder, so that a new engine is checked by being there.

The adapter's own checks (`engines._selfcheck`, which start nothing), and the recorded wire samples, read by the
instrument as in a real run. What an adapter declares as `known_failures` must fail.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import pytest

import engines
from engines import _contract, _selfcheck
from models.errors import Unsupported
from models.frames import OUTCOMES
from models.progress import silent
from models.specs import EngineSpec, HardwareSpec, ModelSpec, Setup
from tests.engines import recorded
from tests.engines.recorded import Sample
from tests.workloads import wire
from workloads import answer, dialects

ENGINES = engines.names()
SAMPLES = [sample for name in ENGINES for sample in recorded.samples(name)]
NATIVE = {"llama-server": "llama_cpp", "tgi": "tgi"}
"""Engines (or variants) that have an API of their own."""


def case(engine: str, variant: str | None, check: str, *values: object, id: str) -> Any:
    """A parameter set; where the adapter says that the check fails, it must."""
    why = _selfcheck.expected(engines.adapter(engine), check, variant)
    marks = [pytest.mark.xfail(reason=why, strict=True)] if why else []
    return pytest.param(*values, id=id, marks=marks)


def variants() -> Iterator[tuple[str, str | None]]:
    for name in ENGINES:
        for variant in engines.adapter(name).variants or (None,):
            yield name, variant


def every(check: str) -> pytest.MarkDecorator:
    """Each variant of each engine, for the check of that name."""
    return pytest.mark.parametrize(("engine", "variant"), [
        case(name, variant, check, name, variant, id=variant or name) for name, variant in variants()])


def each(check: str, kind: str) -> pytest.MarkDecorator:
    """Each sample of that kind."""
    return pytest.mark.parametrize("sample", [
        case(s.folder.name, s.variant, check, s, id=s.id) for s in SAMPLES if s.kind == kind])


RECORDED_CHECKS = ("samples", "answers", "splits", "cuts", "metrics", "inspection")


@pytest.mark.parametrize(("engine", "variant", "check"), [
    case(name, variant, check, name, variant, check, id=f"{variant or name}-{check}")
    for (name, variant), check in itertools.product(variants(), _selfcheck.CHECKS)])
def test_an_adapter_keeps_to_the_contract(engine: str, variant: str | None, check: str) -> None:
    assert engines.adapter(engine).name == engine
    _selfcheck.CHECKS[check](engines.adapter(engine), variant)


@pytest.mark.parametrize("engine", ENGINES)
def test_known_failures_name_checks_and_say_why(engine: str) -> None:
    from tests.engines.live import LIVE_CHECKS

    adapter = engines.adapter(engine)
    for name, why in adapter.known_failures.items():
        variant, _, check = name.rpartition(": ")
        assert check in {*_selfcheck.CHECKS, *RECORDED_CHECKS, *LIVE_CHECKS}
        assert not variant or variant in adapter.variants
        assert len(why) > 10


@every("samples")
def test_there_are_samples_of_all_that_an_engine_claims(engine: str, variant: str | None) -> None:
    can = engines.adapter(engine).capabilities(variant)
    mine = [s for s in recorded.samples(engine) if s.variant == variant]
    good = {s.api for s in mine if s.gives.get("outcome") == "ok"}
    kinds = {s.kind for s in mine}
    assert {s.shows for s in mine} >= {"too long", "unknown model"}
    assert "openai_api" not in can.features or good >= {"completions", "chat"}
    assert NATIVE.get(variant or engine) in {None, *good}
    assert "metrics" not in can.features or "metrics" in kinds
    overridden = type(engines.adapter(engine)).inspect is not _contract.Adapter.inspect
    assert not overridden or "inspection" in kinds or any(s.kind == "inspection" for s in recorded.samples(engine))
    for feature, asked in (("structured_output", "json_schema"), ("tool_calls", "tools")):
        assert feature not in can.features or any(
            asked in s.workload and s.gives.get("output_valid") for s in mine), feature
    if {"prefix_caching", "streaming_usage"} <= can.features and any("cached_tokens" in s.gives for s in mine):
        assert any(s.gives.get("cached_tokens") for s in mine)


def test_no_folder_of_samples_is_without_its_engine_and_no_file_without_its_line() -> None:
    folders = {path for root in recorded.FOLDERS for path in root.iterdir() if path.is_dir()}
    assert {path.name for path in folders} == set(ENGINES)
    named = {s.folder / file for s in SAMPLES for file in (s.file, s.log, *s.paths.values()) if file}
    there = {path for folder in folders for path in folder.rglob("*") if path.is_file()}
    assert there - {folder / "samples.yaml" for folder in folders} == named


def held(given: dict[str, Any], found: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What was to be and is not, by column; of an error's text a part is enough."""
    def same(name: str, value: Any) -> bool:
        if name == "error":
            return value in " ".join(str(found.get("error", "")).split())
        return bool(found.get(name) == value)
    return {name: (value, found.get(name)) for name, value in given.items() if not same(name, value)}


@each("answers", "answer")
def test_an_answer_is_read_as_what_it_is(sample: Sample) -> None:
    assert sample.gives["outcome"] in OUTCOMES
    assert held(sample.gives, recorded.gives(sample)) == {}


@each("splits", "answer")
def test_an_answer_is_the_same_wherever_its_packets_end(sample: Sample) -> None:
    """As chunks of HTTP, cut in two at every byte, and byte by byte."""
    events = sample.body.split(b"\n\n")
    pieces = [e + b"\n\n" for e in events[:-1]] + [events[-1]]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces if p) + b"0\r\n\r\n"
    whole = b"HTTP/1.1 %d Status\r\nTransfer-Encoding: chunked\r\n\r\n%b" % (sample.status, chunks)
    step = max(1, len(whole) // 400)
    cuts = [[whole[:at], whole[at:]] for at in range(1, len(whole), step)]
    for reads in ([whole], [bytes([b]) for b in whole], *cuts):
        got = wire.received(reads)
        assert (got.ending, got.status, bytes(got.body)) == ("complete", sample.status, sample.body)


@each("cuts", "answer")
def test_an_answer_that_is_cut_off_is_never_taken_for_a_whole_one(sample: Sample) -> None:
    """At every byte: nothing raises, tokens only grow, and it is not done before its end."""
    body, take = sample.body, dialects.of(sample.api or "completions").take
    before = 0
    for n in range(len(body.rstrip())):
        said = answer.read(body[:n], take)
        assert len(said.ends) >= before and not said.done
        before = len(said.ends)
    if sample.gives["outcome"] == "ok":
        cut = sample.model_copy(update={"ending": "closed"})
        assert recorded.gives(cut, body[:len(body) // 2])["outcome"] == "truncated"


@each("metrics", "metrics")
def test_metrics_become_gauges_of_the_contract(sample: Sample) -> None:
    found = engines.adapter(sample.folder.name).gauges(sample.body.decode())
    assert found == pytest.approx(sample.gives)
    assert found and set(found) <= set(_contract.GAUGES)
    assert 0 <= found.get("kv_cache_usage", 0) <= 1


@each("inspection", "inspection")
def test_what_a_server_says_of_itself_is_understood(sample: Sample) -> None:
    log = (sample.folder / sample.log).read_text() if sample.log else ""
    said = dataclasses.asdict(engines.adapter(sample.folder.name).inspect(sample.variant, sample.get, log))
    settings = sample.gives.get("settings", {})
    assert {k: said["settings"].get(k) for k in settings} == settings
    assert {k: said[k] for k in sample.gives if k != "settings"} == {
        k: v for k, v in sample.gives.items() if k != "settings"}


def test_metrics_text_becomes_gauges() -> None:
    text = ("# HELP x:waiting queue\n# TYPE x:waiting gauge\nx:waiting{rank=\"0\"} 2\nx:waiting{rank=\"1\"} 3\n"
            "# TYPE x:tokens counter\nx:tokens_total 7\n# TYPE x:other gauge\nx:other 1\n")
    names = {"x:waiting": "requests_waiting", "x:tokens_total": "generated_tokens"}
    assert _contract.prometheus_gauges(text, names) == {"requests_waiting": 5, "generated_tokens": 7}


@pytest.mark.parametrize("engine", [name for name in ENGINES if "docker" in
                                    engines.adapter(name).capabilities().runtimes])
def test_a_path_in_an_image_is_honoured_or_refused(engine: str) -> None:
    adapter = engines.adapter(engine)
    spec = EngineSpec(engine=engine, runtime="docker", image="i:1", path="/bin/serve", quantization="F16")
    hardware = HardwareSpec(name="h", kind="cuda")
    setup = Setup(model=ModelSpec(name="synthetic-llama-15m"), engine=spec, hardware=hardware)
    if adapter.path_in_image:
        assert adapter.install(setup, silent).program[0] == "/bin/serve"
    else:
        with pytest.raises(Unsupported, match=r"engine\.path"):
            adapter.check(setup)
