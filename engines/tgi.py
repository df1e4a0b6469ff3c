"""Hugging Face's Text Generation Inference 3: a launcher, a router in Rust and Python shards, in maintenance since
2025-12. Written after the source of 3.3.7; it could not be run where this was made."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from engines import _hf_checkpoints, _installed, _tgi_client, _tgi_options, _tgi_says
from engines._contract import Adapter, Capabilities, Checkpoint, Command, Inspection, Install
from models.errors import Unsupported
from models.progress import Progress
from models.quality import TOP
from models.records import Endpoint
from models.specs import Setup

_VERSION = "3.3.7"
"""The last there is."""
_IMAGE = "ghcr.io/huggingface/text-generation-inference"
_SUFFIX = {"rocm": "-rocm", "cpu": "-intel-cpu"}
"""Of the image's tag, by hardware; NVIDIA's has none."""
_TOP_N_TOKENS_MAX = 5
"""Next tokens that it tells where nobody said otherwise."""
_PROGRAM = "text-generation-launcher"
_CAN = Capabilities(
    quantizations=(*_tgi_options.DTYPES, *_tgi_options.QUANTIZE), kv_types=tuple(_tgi_options.KV_TYPES),
    features=frozenset({"openai_api", "streaming_usage", "continuous_batching", "prefix_caching", "structured_output",
                        "safetensors", "metrics"}),
    hardware=frozenset({"cpu", "cuda", "rocm"}), runtimes=frozenset({"path", "docker", "kubernetes", "endpoint"}),
    batching=frozenset({"max_sequences", "max_batched_tokens", "prefix_caching", "context_tokens", "memory_fraction",
                        "tensor_parallel", "threads"}),
    reasons={"tool_calls": "TGI's stream of a call ends without a finish reason, like one that broke off",
             "prefill_chunk_tokens": "TGI cuts prompts at the tokens of a prefill pass: set max_batched_tokens",
             "scheduling_policy": "TGI takes requests in the order they come"})


class TGI(Adapter):
    """One server."""

    name = "tgi"
    owned_options = frozenset({
        "--model-id", "--hostname", "-p", "--prometheus-port", "--shard-uds-path", "--master-port", "--num-shard",
        "--sharded", "--usage-stats", "--dtype", "--quantize", "--kv-cache-dtype", "--max-batch-size",
        "--max-batch-prefill-tokens", "--max-total-tokens", "--max-input-tokens", "--max-input-length",
        "--cuda-memory-fraction", "--max-top-n-tokens", "--json-output"})

    known_failures: ClassVar[Mapping[str, str]] = {
        "unknown model": "TGI takes a model's name for that of a LoRA adapter, and passes over one that is not loaded"}

    def capabilities(self, variant: str | None = None) -> Capabilities:
        return _CAN

    def check_more(self, setup: Setup) -> None:
        version = setup.engine.version
        if version and not re.match(r"v?3\.", version):
            raise Unsupported("engine.version", f"TGI {version}: only the options of TGI 3 are known here")
        _tgi_options.check(setup)
        _hf_checkpoints.check_hf(setup.model, setup.engine.quantization, _tgi_options.ONLINE)

    def install(self, setup: Setup, progress: Progress) -> Install:
        """The client that will check a whole answer is installed too, before anything is started."""
        engine = setup.engine
        _tgi_client.python(progress)
        if engine.runtime == "path":
            return _at(engine.path)
        return self.contained(setup)

    def key_variable(self, variant: str | None) -> str | None:
        return "API_KEY"

    def contained(self, setup: Setup) -> Install:
        engine = setup.engine
        version = (engine.version or _VERSION).removeprefix("v")
        image = engine.image or f"{_IMAGE}:{version}{_SUFFIX.get(setup.hardware.kind, '')}"
        return Install(engine.version or image.rpartition(":")[2], (_PROGRAM,), image=image)

    def checkpoint(self, setup: Setup, progress: Progress) -> Checkpoint:
        return _hf_checkpoints.hf_checkpoint(setup.model, setup.engine.quantization, progress, _tgi_options.ONLINE)

    def command(self, setup: Setup, install: Install, checkpoint: Checkpoint, port: int) -> Command:
        words = _tgi_options.options(setup, str(checkpoint.path), install.host, port)
        return Command(argv=(*install.program, *words, *setup.engine.extra_args),
                       environment={**install.environment, **_tgi_options.environment(setup),
                                    **setup.engine.environment},
                       threads=_tgi_options.threads(setup), notes=checkpoint.notes,
                       context_tokens=setup.engine.batching.context_tokens)

    def endpoint(self, setup: Setup, url: str, checkpoint: Checkpoint | None) -> Endpoint:
        """Its OpenAI routes sample unless the temperature is 0. Any model name but `tgi` asks for a LoRA adapter of
        that name. It has no ignore_eos: answers end where the model ends them, and are counted."""
        return Endpoint(url=url, model="tgi", tokenize_path="/tokenize", tokenize_field="inputs",
                        metrics_path="/metrics", usage_in_stream=True, schema_form="value",
                        body={"temperature": 0.0}, logprobs_form="tgi",
                        logprobs_max=_TOP_N_TOKENS_MAX if setup.engine.runtime == "endpoint" else TOP)

    def health_path(self, variant: str | None) -> str | None:
        return "/health"

    def inspect(self, variant: str | None, get: Callable[[str], Any], log: str = "") -> Inspection:
        return _tgi_says.inspect(get, log)

    def probe(self, setup: Setup, endpoint: Endpoint, timeout_s: float) -> None:
        _tgi_client.check(endpoint.url, timeout_s)

    def gauges(self, text: str) -> dict[str, float]:
        return _tgi_says.gauges(text)


ADAPTER = TGI()


def _at(path: str | None) -> Install:
    """The launcher that runtime `path` names. Raises UserError when it is not there or is something else."""
    wanted = f"a {_PROGRAM}"
    program = _installed.program(path, _PROGRAM, wanted, "; PyPI has none, and it is built from Rust")
    version = _installed.version(program, wanted, rf"^{_PROGRAM} (\d+\.\d+\S*)", str(program), "--version")
    return Install(version, (str(program),))
