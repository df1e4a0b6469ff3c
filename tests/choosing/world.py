"""A made-up warehouse of two machines and several engines, whose figures follow from `fake`'s rule."""

from __future__ import annotations

from pathlib import Path

from models.capabilities import Capability, EngineAbout
from models.records import Verdict
from models.specs import Batching, EngineSpec, HardwareSpec, Lengths, Load, Price, Setup, Trial, Workload
from tests.warehouse import fake
from warehouse import bundles, capabilities, writer

BOX = fake.MACHINE
GPU = HardwareSpec(name="gpu-box", kind="cuda", accelerator="NVIDIA H100 80GB HBM3", accelerators=1,
                   accelerator_memory_gib=80)
LENGTHS = {"chat": (128, 24), "rag": (1024, 24), "code": (256, 96)}
PRICES = {("reserved-1y", GPU.name): 0.9, ("reserved-1y", BOX.name): 0.07, ("own", BOX.name): 0.08,
          ("on-demand", GPU.name): 2.0}
"""USD an hour; of those that a person gave, the last counts where no tier is named."""


def setup(engine: str, quantization: str, hardware: HardwareSpec = GPU, variant: str | None = None,
          slots: int | None = None) -> Setup:
    spec = EngineSpec(engine=engine, variant=variant, version="1.0", quantization=quantization,
                      batching=Batching(max_sequences=slots))
    return fake.setup().model_copy(update={"engine": spec, "hardware": hardware})


SERVER_Q8 = setup("llama_cpp", "Q8_0", BOX, "llama-server", 4)
SERVER_Q4 = setup("llama_cpp", "Q4_K_M", BOX, "llama-server", 4)
PYTHON_Q4 = setup("llama_cpp", "Q4_K_M", BOX, "llama_cpp.server")
VLLM = setup("vllm", "BF16")
VLLM_FP8 = setup("vllm", "FP8")
SGLANG = setup("sglang", "BF16")
BROKEN = setup("sglang", "FP8")
SPEEDS = ((SERVER_Q8, 60.0, 9.0), (SERVER_Q4, 50.0, 7.0), (PYTHON_Q4, 900.0, 7.0), (VLLM, 20.0, 1.2),
          (VLLM_FP8, 15.0, 0.9), (SGLANG, 16.0, 1.0), (BROKEN, 2.0, 0.1))
"""TTFT and time between tokens of one user, ms. BROKEN would win, if its points were not fatal."""
SLOWER = {1: 1.0, 4: 1.4, 8: 2.1, 16: 3.9}
"""How many times as long, with so many at once."""


def trial(of: Setup, users: int | None, name: str = "chat", rate: float | None = None) -> Trial:
    inputs, outputs = LENGTHS[name]
    workload = Workload(name=name, source="tests", input_tokens=Lengths(mean=inputs),
                        output_tokens=Lengths(mean=outputs))
    return Trial(setup=of, workload=workload, load=Load(concurrency=users, request_rate=rate, requests=60))


def store(home: Path, what: Trial, ttft_ms: float, itl_ms: float, fatal: bool = False) -> None:
    requests = fake.requests_of(what, ttft_ms, itl_ms)
    telemetry = fake.telemetry_of(requests)
    found = fake.measurement_of(what, requests, telemetry)
    kept = tuple(v for v in found.verdicts if v.severity != "fatal")
    if fatal:
        kept += (Verdict(name="engine_died", severity="fatal", detail="made up"),)
    bundles.write(home, found.model_copy(update={"verdicts": kept}), requests, telemetry, "ready\n")


def build(home: Path) -> Path:
    """Every stack at four loads of `chat`; prices of two tiers; what two of the engines can do."""
    for of, ttft, itl in SPEEDS:
        for users, slower in SLOWER.items():
            store(home, trial(of, users), ttft * slower, itl * slower, fatal=of is BROKEN)
    for (tier, name), usd in PRICES.items():
        writer.set_price(home, Price(hardware=name, price_usd_per_hour=usd, tier=tier, date="2026-11", source="tests"))
    capabilities.write(home, [about("vllm", None, True), about("sglang", None, True),
                              about("llama_cpp", "llama-server", False), about("llama_cpp", "llama_cpp.server", False)])
    writer.ingest(home)
    writer.publish(home)
    return home


def about(engine: str, variant: str | None, tools: bool) -> EngineAbout:
    docker = variant != "llama_cpp.server"
    return EngineAbout(engine=engine, variant=variant, capabilities=(
        Capability(engine=engine, variant=variant, kind="feature", name="tool_calls", supported=tools,
                   reason="" if tools else "it overlooks tool_choice"),
        Capability(engine=engine, variant=variant, kind="runtime", name="venv", supported=True),
        Capability(engine=engine, variant=variant, kind="runtime", name="docker", supported=docker)))
