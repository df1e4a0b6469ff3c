"""The two servers of llama.cpp: their command lines, and how they talk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from engines import _llama_log
from engines._checkpoints import GUIDED_QUANTIZATIONS, QUANTIZATIONS
from engines._contract import Capabilities, Checkpoint, Inspection, Install, prometheus_gauges
from models.quality import TOP
from models.records import Endpoint
from models.specs import Setup

KV_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "iq4_nl": 20, "bf16": 30}
"""Types a KV cache may have, with their numbers in ggml.h (llama_cpp.server takes numbers)."""
_WITHOUT_FLASH_ATTENTION = frozenset({"f32", "f16", "bf16"})
_NO_MEMORY_FRACTION = "llama.cpp sets aside what the context needs: set context_tokens and max_sequences"
_NO_TENSOR_PARALLEL = "llama.cpp runs on one device here; with several GPUs give --split-mode in extra_args"
_NO_CHUNK = "llama.cpp prefills by whole batches: set max_batched_tokens"
_HARDWARE = frozenset({"cpu", "cuda", "metal"})
_RUNTIMES = frozenset({"venv", "path", "endpoint"})


class Server(Protocol):
    """One of the two."""

    capabilities: Capabilities
    health_path: str | None

    def options(self, setup: Setup, install: Install, checkpoint: Checkpoint, threads: int, context: int,
                port: int) -> list[str]: ...

    def endpoint(self, setup: Setup, url: str, checkpoint: Checkpoint | None) -> Endpoint: ...

    def notes(self, setup: Setup) -> tuple[str, ...]: ...

    def inspect(self, get: Callable[[str], Any], log: str) -> Inspection: ...

    def gauges(self, text: str) -> dict[str, float]: ...


class LlamaServer:
    """`llama-server`, in C++: slots decoded together by continuous batching."""

    health_path: str | None = "/health"
    capabilities = Capabilities(
        quantizations=QUANTIZATIONS + GUIDED_QUANTIZATIONS, kv_types=tuple(KV_TYPES), hardware=_HARDWARE,
        runtimes=_RUNTIMES | {"docker", "kubernetes"},
        features=frozenset({"openai_api", "streaming_usage", "ignore_eos", "continuous_batching", "prefix_caching",
                            "structured_output", "tool_calls", "gguf", "metrics"}),
        batching=frozenset({"max_sequences", "max_batched_tokens", "prefix_caching", "context_tokens", "threads"}),
        reasons={"memory_fraction": _NO_MEMORY_FRACTION, "tensor_parallel": _NO_TENSOR_PARALLEL,
                 "prefill_chunk_tokens": _NO_CHUNK})

    def options(self, setup: Setup, install: Install, checkpoint: Checkpoint, threads: int, context: int,
                port: int) -> list[str]:
        """Context is split across the slots, so it is multiplied by them. Without a number of slots llama-server takes
        four that share one context, which must then hold four sequences too."""
        batching, kv = setup.engine.batching, setup.engine.kv_type
        slots = batching.max_sequences
        words = ["--model", str(checkpoint.path), "--alias", setup.model.name, "--host", install.host,
                 "--port", str(port), "--threads", str(threads), "--threads-batch", str(threads),
                 "--ctx-size", str(context * (slots or 4)), "--metrics"]
        if slots:
            words += ["--parallel", str(slots)]
        if n := batching.max_batched_tokens:  # one scheduler step and one pass through the weights carry that many
            words += ["--batch-size", str(n), "--ubatch-size", str(n)]
        if kv != "f16":
            words += ["--cache-type-k", kv, "--cache-type-v", kv]
        if kv not in _WITHOUT_FLASH_ATTENTION:
            words += ["--flash-attn", "on"]
        if not batching.prefix_caching:
            words += ["--no-cache-prompt", *_if_known(install, "--cache-ram", "0")]
        words += _if_known(install, "--fit", "off")  # it would change what was asked for
        if "--log-jsonl" in install.options:  # these builds tell of their buffers at level 4 only, earlier ones always
            words += ["--log-verbosity", "4"]
        if setup.hardware.kind == "cpu":
            words += ["--n-gpu-layers", "0", *_if_known(install, "--device", "none")]
        else:
            words += ["--n-gpu-layers", "999"]
        return [*words, *_if_known(install, "--no-webui")]

    def endpoint(self, setup: Setup, url: str, checkpoint: Checkpoint | None) -> Endpoint:
        """Output lengths are fixed by the client's max_tokens with `ignore_eos`. Temperature 0 repeats exactly, and on
        synthetic weights never picks a token that shows no text, so that tokens and chunks can be counted."""
        return Endpoint(url=url, model=setup.model.name, tokenize_path="/tokenize", tokenize_field="content",
                        metrics_path="/metrics", usage_in_stream=True, schema_form="json_schema",
                        body={"temperature": 0.0, "cache_prompt": setup.engine.batching.prefix_caching},
                        fixed_length={"ignore_eos": True}, logprobs_max=TOP,
                        logprobs_body={"post_sampling_probs": False, "cache_prompt": True})

    def notes(self, setup: Setup) -> tuple[str, ...]:
        return ()

    def inspect(self, get: Callable[[str], Any], log: str) -> Inspection:
        props = get("/props") or {}
        slots, context = props.get("total_slots"), (props.get("default_generation_settings") or {}).get("n_ctx")
        return replace(_llama_log.said(log), version=props.get("build_info"), context_tokens=context,
                       notes=(f"{slots} slots of {context} tokens",) if slots and context else ())

    def gauges(self, text: str) -> dict[str, float]:
        return prometheus_gauges(text, _GAUGES)


class PythonServer:
    """`python -m llama_cpp.server`: one global lock, so requests run one after another."""

    health_path: str | None = None
    capabilities = Capabilities(
        quantizations=QUANTIZATIONS + GUIDED_QUANTIZATIONS, kv_types=tuple(KV_TYPES), hardware=_HARDWARE,
        runtimes=_RUNTIMES,
        features=frozenset({"openai_api", "prefix_caching", "structured_output", "embedding_in_python", "gguf"}),
        batching=frozenset({"max_sequences", "max_batched_tokens", "prefix_caching", "context_tokens", "threads"}),
        reasons={"memory_fraction": _NO_MEMORY_FRACTION, "tensor_parallel": _NO_TENSOR_PARALLEL,
                 "prefill_chunk_tokens": _NO_CHUNK,
                 "tool_calls": "llama_cpp.server overlooks tool_choice required with the chat template of a model",
                 "max_sequences": "llama_cpp.server runs one request after another under one lock: 1 is all there is"})

    def options(self, setup: Setup, install: Install, checkpoint: Checkpoint, threads: int, context: int,
                port: int) -> list[str]:
        """With its default interrupt_requests, a second request would cut the first one off under HTTP 200."""
        batching, kv = setup.engine.batching, setup.engine.kv_type
        values: dict[str, object] = {
            "model": checkpoint.path, "model_alias": setup.model.name, "host": install.host, "port": port,
            "interrupt_requests": False, "logits_all": False, "use_mlock": False, "n_ctx": context,
            "n_threads": threads, "n_threads_batch": threads, "n_gpu_layers": 0 if setup.hardware.kind == "cpu" else -1}
        if n := batching.max_batched_tokens:
            values |= {"n_batch": n, "n_ubatch": n}
        if kv != "f16":
            values |= {"type_k": KV_TYPES[kv], "type_v": KV_TYPES[kv]}
        if kv not in _WITHOUT_FLASH_ATTENTION:
            values["flash_attn"] = True
        if batching.prefix_caching:
            values |= {"cache": True, "cache_type": "ram"}
        return [word for name, value in values.items() for word in (f"--{name}", str(value).lower()
                                                                    if isinstance(value, bool) else str(value))]

    def endpoint(self, setup: Setup, url: str, checkpoint: Checkpoint | None) -> Endpoint:
        """It knows no `ignore_eos`: the end tokens are biased away instead. Synthetic weights never end by themselves,
        and are spared the bias, which costs a copy of all logits in Python for every token."""
        ends = checkpoint.end_tokens if checkpoint and setup.model.source != "synthetic" else ()
        return Endpoint(url=url, model=setup.model.name, tokenize_path="/extras/tokenize", tokenize_field="input",
                        usage_in_stream=False, schema_form="json_object",
                        body={"temperature": 0.0, "repeat_penalty": 1.0},
                        fixed_length={"logit_bias": {str(token): -100.0 for token in ends}} if ends else {},
                        logprobs_refused="llama_cpp.server tells log-probabilities only with --logits_all, which keeps "
                                         "the logits of every token of every prompt and slows it down; llama-server's "
                                         "are of the same library")

    def notes(self, setup: Setup) -> tuple[str, ...]:
        if setup.engine.batching.prefix_caching:
            return ()
        return ("llama_cpp.server always reuses the beginning that a prompt shares with the request just before it; "
                "prefix_caching only adds a cache of earlier ones",)

    def inspect(self, get: Callable[[str], Any], log: str) -> Inspection:
        return _llama_log.said(log)

    def gauges(self, text: str) -> dict[str, float]:
        return {}


SERVERS: Mapping[str, Server] = {"llama-server": LlamaServer(), "llama_cpp.server": PythonServer()}

_GAUGES = {
    "llamacpp:requests_processing": "requests_running",
    "llamacpp:requests_deferred": "requests_waiting",
    "llamacpp:kv_cache_usage_ratio": "kv_cache_usage",  # builds before 2025-07
    "llamacpp:kv_cache_tokens": "kv_cache_tokens",  # the same
    "llamacpp:prompt_tokens_total": "prompt_tokens",
    "llamacpp:tokens_predicted_total": "generated_tokens",
    "llamacpp:prompt_tokens_cached_total": "prefix_cache_hit_tokens",
    "llamacpp:n_decode_total": "engine_steps",
    "llamacpp:n_busy_slots_per_decode": "batch_size_mean",
    "llamacpp:prompt_seconds_total": "prefill_s",
    "llamacpp:tokens_predicted_seconds_total": "decode_s",
}


def _if_known(install: Install, option: str, *values: str) -> list[str]:
    """Options that not every version has; what an install of unknown options gets is the newest's."""
    return [option, *values] if not install.options or option in install.options else []
