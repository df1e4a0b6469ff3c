"""What columns mean, where the SQL beside their definition does not say it: most names mean the same everywhere."""

from __future__ import annotations

import re
from collections.abc import Iterable

METRICS = {
    "ttft_ms": "time to first token, from sent, ms",
    "ttft_from_schedule_ms": "time to first token, from the instant it was meant to be sent, ms; limits are on this",
    "first_content_ms": "time to the first token of the answer proper, from sent, ms",
    "tpot_ms": "mean time per output token after the first, of each request, ms",
    "itl_ms": "gap between consecutive chunks, pooled over requests, ms",
    "e2e_ms": "whole answer, from sent, ms",
    "e2e_from_schedule_ms": "whole answer, from the instant it was meant to be sent, ms",
    "send_delay_ms": "how late it was sent, ms: queueing in the client",
}
STATISTICS = ("mean", "p50", "p90", "p95", "p99")

COMMON = {
    "trial_id": "content hash of what was asked: setup, workload, load, seed, repeat",
    "setup_id": "content hash of model, engine, quantisation, batching and hardware",
    "engine_id": "key of engines", "model_id": "key of models", "hardware_id": "key of hardware",
    "workload_id": "key of workloads",
    "numerics_id": "setups with the same one compute the same numbers, whatever they batch",
    "reference_id": "numerics_id of the unquantised one that this is compared with",
    "engine": "engine by dyno's name: llama_cpp, vllm, sglang, tgi", "variant": "which server of the engine",
    "engine_version": "version that ran, as it says", "model": "name of the model", "setup": "label of the setup",
    "hardware": "name of the machine", "workload": "label of the workload: its name, and its scale when it is not 1",
    "load": "label of the load: 4 at once, 2 requests a second",
    "runtime": "venv, path, docker, kubernetes or endpoint",
    "quantization": "format of the weights", "kv_type": "type of the KV cache; f16: 16 bits, the model's own type",
    "max_sequences": "sequences decoded together (slots)", "max_batched_tokens": "tokens in one forward pass",
    "prefill_chunk_tokens": "tokens of one prompt in one forward pass",
    "prefix_caching": "whether prompt beginnings seen before were reused",
    "context_tokens": "longest sequence, prompt and output", "threads": "that compute, on a CPU",
    "tensor_parallel": "GPUs that share each layer", "memory_fraction": "share of the memory that it may take",
    "extra_args": "options asked for beside dyno's own",
    "scheduling_policy": "how waiting requests are ordered, by the engine's own name",
    "image": "container image; NULL: no container", "bits_per_weight": "of the tensors, mean",
    "parameters": "weights of the model, all of them", "accelerator": "name of the GPU; NULL: none",
    "accelerators": "how many GPUs", "accelerator_memory_gib": "memory of one GPU, GiB",
    "request_index": "number of the request in its trial, in the order planned",
    "phase": "warmup, measured or tail; only measured ones are in the percentiles",
    "outcome": "ok, or how it failed", "arrivals": "open loop: how requests arrive: poisson, constant, gamma, trace",
    "seed": "of prompts, lengths and arrivals", "repeat": "number of the repeat of the same question, from 0",
    "source": "measured here, or imported from …", "dyno_version": "dyno that measured",
    "duration_s": "first request planned to last one ended, warm-up and tail included, seconds",
    "client_cpu_s": "CPU seconds that the load generator used",
    "input_tokens_mean": "prompt tokens a request, mean over those that are ok",
    "output_tokens_mean": "output tokens a request, mean over those that are ok",
    "input_tokens_planned_mean": "prompt tokens a request as planned, mean",
    "output_tokens_planned_mean": "output tokens a request as planned, mean",
    "requests_per_second": "requests that ended in the window ÷ its length",
    "input_tokens_per_second": "requests a second × their mean prompt tokens",
    "price_usd_per_hour": "US dollars an hour", "usd_per_million_output_tokens":
        "price per hour × 1e6 ÷ (output tokens a second × 3600)",
    "usd_per_million_input_tokens": "the whole machine charged to input tokens",
    "usd_per_million_total_tokens": "the whole machine charged to input and output tokens together",
    "usd_per_qps_hour": "one sustained request a second for an hour",
    "usd_per_thousand_requests": "price per hour ÷ requests an hour × 1000",
    "price_tier": "on-demand, spot, reserved-1y, own…", "price_date": "of the price", "price_source": "of the price",
    "tier": "on-demand, spot, reserved-1y, own…", "date": "YYYY-MM or YYYY-MM-DD", "region": "of the provider",
    "trust": "`ok`, or the verdicts that speak against the point, worst first",
    "fatal": "true: not to be used; the reason is in trust", "workload_name": "name without scale",
    "metric": "name, unit and statistic: ttft_ms_p95", "value": "in the unit of its name",
    "positions": "prefixes compared", "same_engine": "false: another engine's arithmetic is in the figures too",
    "mass_seen": "mean probability of the tokens that both told: the nearer to 1, the tighter the bound",
    "kl_nats": "mean Kullback-Leibler divergence from the reference, nats, a lower bound",
    "top1_agreement": "share of positions at which both hold the same token for the likeliest",
    "next_logprob_difference": "mean of |ln p - ln q| of the token that the text goes on with",
    "next_positions": "positions where both told the token that the text goes on with",
    "text": "name of the text that prefixes are taken from", "asked_at": "UTC", "scored_at": "UTC", "stored_at": "UTC",
    "failed_at": "UTC", "calibrated_at": "UTC", "seen_at": "UTC", "position": "order, from 0",
    "name": "name", "kind": "kind", "record": "the JSON file of it, whole",
    "low": "lower end of the 90 % interval", "high": "upper end of the 90 % interval",
    "concurrency": "closed loop: users, each waiting for its answer",
    "request_rate": "open loop: requests a second asked for",
    "window_s": "first measured request sent to last one ended, seconds",
    "requests_ok": "measured requests answered whole", "requests_failed": "measured requests that failed in any way",
    "argv": "exact command line, secrets left out", "environment": "variables that were set, secrets left out",
    "model_bytes": "bytes of the weights file", "memory_bandwidth_gb_s": "measured: a plain read with all cores, GB/s",
    "input_tokens": "prompt tokens, as the engine counts them", "output_tokens": "output tokens",
    "cached_tokens": "prompt tokens the engine took from its prefix cache", "sha256": "of its JSON file",
    "revision": "commit on the Hub", "file": "file in the repository", "repository": "on the Hugging Face Hub",
}
"""By name of the column. For an interval's `_low` and `_high`, and a `_mean`, what it is of is enough."""

_CHANGES = {
    "run": "file under comparisons/ in DYNO_HOME", "compared_at": "UTC", "text": "one sentence",
    "kind": "what changed: engine (its version), model (its weights), rerun (nothing)",
    "engine": "name of the server", "before": "version, weights or instant (UTC) of what it is compared with",
    "after": "version, weights or instant (UTC)",
    "setup": "label; NULL: over all points of this model and engine; single points are kept where they changed",
    "figure": "time of a request whose mean is compared", "points": "setup, workload and load: how many",
    "percent": "by which the mean time is longer now", "low": "of the 95 % interval, percent",
    "high": "of the 95 % interval, percent",
    "chance": "of seeing it although nothing changed, corrected for all that was compared",
    "before_ms": "mean of the figure before, ms; NULL: of several points",
    "after_ms": "mean of the figure now, ms; NULL: of several points",
    "trials_before": "trial_ids before", "trials_after": "trial_ids now",
    "caveats": "what else changed: the host, its memory bandwidth, dyno",
}
OWN = {
    "asked.synthetic": "random weights: divergences rank quantisations, but say nothing about a trained model",
    "asked.seconds": "that asking took",
    "calibrations.setup": "label of the setup", "calibrations.form": "functional form",
    "calibrations.a": "a of the form: ms, or seconds a token",
    "calibrations.b": "b of the form: ms, or seconds a token",
    "calibrations.k": "exponent of the form", "calibrations.concurrency_low": "least concurrency measured",
    "calibrations.concurrency_high": "largest concurrency measured",
    "calibrations.trial_ids": "measurements that it is fitted on", "surprises.run": "file under calibrations/",
    "surprises.quantity": "tpot (ms), throughput (output tokens a second) or ttft (ms)",
    "surprises.measured": "in the unit of the quantity", "surprises.predicted": "in the unit of the quantity",
    "capabilities.name": "of the quantisation, KV type, feature…", "capabilities.about": "what it promises",
    "chunk_timings.chunk_ns": "nanoseconds since the request was sent, one a chunk",
    "chunks.chunk_index": "number of the chunk in its answer, from 0",
    "chunks.since_sent_ms": "since its request was sent, ms", "chunks.itl_ms": "gap to the chunk before it, ms",
    "distributions.position": "number of the prefix, from 0", "distributions.token_ids": "ids, from the likeliest",
    "distributions.tokens": "texts, from the likeliest", "engines.version": "version that ran, as it says",
    **{f"{view}.{column}": text for view in ("comparisons", "changes", "regressions")
       for column, text in _CHANGES.items()},
    "failures.setup_label": "label of the setup", "failures.stage": "build, checkpoint, launch or load",
    "failures.error": "what went wrong, one line", "failures.command": "exact command, to run again",
    "failures.exit_code": "of the program; negative: a signal", "failures.log_tail": "last lines of its log",
    "hardware.name": "of the machine, as dyno or a person calls it",
    "hardware.kind": "cpu, cuda, rocm, metal or remote",
    "hardware.cpu": "name of the processor", "hardware.cores": "physical cores", "hardware.memory_gib": "memory, GiB",
    "hardware_prices.hardware": "name of the machine", "hardware_prices.source": "where the price comes from",
    "hardware_prices.price_usd_per_hour": "for all accelerators of the machine, US dollars an hour",
    "hardware_prices.given": "given by a person (dyno price, prices.yaml)", "costs.date": "of the price",
    "models.name": "name of the model", "models.source": "synthetic (random weights), file, hub or served",
    "models.content": "identifies the weights: recipe, file's SHA-256 or revision",
    "models.family": "llama, qwen3, …", "models.layers": "of the decoder",
    "models.hidden_size": "width of a layer", "models.heads": "attention heads",
    "models.kv_heads": "heads that keep KV",
    "models.head_dim": "width of a head", "models.intermediate_size": "width of the feed-forward layer",
    "models.vocabulary": "tokens it knows",
    "models.tied_embeddings": "input and output embeddings are the same weights",
    "models.context_tokens": "longest sequence that the model was made for",
    "models.qk_rope_head_dim": "MLA: size of the key with positions",
    "models.index_dim": "sparse attention: size of the index's key", "models.sliding_window_tokens":
        "that a sliding layer looks back", "models.sliding_layers": "how many layers slide",
    "models.state_bytes_per_sequence": "that layers without a KV cache keep, at any length",
    "models.kv_values_per_layer": "numbers kept for a token and full layer; NULL: 2 · kv_heads · head_dim",
    "models.sliding_kv_values_per_layer": "the same of a sliding layer", "models.experts_per_token":
        "of the experts, that a token passes", "models.shared_experts": "that every token passes",
    "models.expert_intermediate_size": "width of an expert", "models.dense_layers":
        "layers without experts, of a model with experts",
    "prices.price_id": "hash of hardware, tier, region and source", "prices.source": "where the price comes from",
    "quality.is_reference": "true: it is the unquantised one that others are compared with",
    "requests.session": "conversation that it belongs to", "requests.turn": "its turn in the conversation, from 0",
    "requests.input_tokens_planned": "prompt tokens planned", "requests.output_tokens_planned": "output tokens planned",
    "requests.sent_ns": "when it was sent", "requests.first_byte_ns": "when the first byte of the answer came",
    "requests.first_reasoning_ns": "when the first token of reasoning came",
    "requests.first_content_ns": "when the first token of the answer proper came",
    "requests.first_token_ns": "when the first token of either came", "requests.last_token_ns": "when the last came",
    "requests.done_ns": "when the stream ended", "requests.http_status": "of the answer",
    "requests.finish_reason": "as the engine says: length, stop, tool_calls", "requests.error": "what went wrong",
    "scores.task": "of lm-evaluation-harness", "scores.metric": "of the task: acc, exact_match…",
    "scores.filter": "of the task", "scores.value": "of the metric", "scores.stderr": "standard error of the value",
    "scores.samples": "that were scored", "scores.tool_version": "of lm-evaluation-harness",
    "setups.label": "for people", "setups.environment": "variables asked for",
    "setups.url": "what was measured, of runtime endpoint",
    "telemetry.source": "host, engine, client or gauges (what the engine says of itself)",
    "telemetry.metric": "cpu_percent (100: one core), rss_bytes, gpu_percent, power_watts, requests_running…",
    "trials.burstiness": "open loop: 1 is Poisson", "trials.requests_planned": "measured requests planned",
    "trials.timeout_s": "after which a request is given up", "trials.duration_s_max": "after which no more are sent",
    "trials.notes": "what is worth knowing of the launch", "trials.hostname": "of the machine that measured",
    "trials.os": "of the machine that measured", "trials.kernel": "of the machine that measured",
    "trials.python": "of the load generator", "trials.load_1m": "of the machine before the trial, mean of a minute",
    "trials.bundle_sha256": "of the bundle's measurement.json", "verdicts.name": "few_samples_p95, client_bound…",
    "verdicts.detail": "in words", "workloads.name": "name without scale", "workloads.description": "for people",
    "workloads.source": "whose traffic it is drawn from",
    "workloads.shared_prefix_tokens": "system prompt common to every session", "workloads.turns": "requests a session",
    "workloads.input_scale": "factor on the prompts' lengths",
    "workloads.output_scale": "factor on the answers' lengths",
    "workloads.api": "completions, chat, tgi or llama_cpp", "workloads.offline": "a batch job: latency does not matter",
    "workloads.spec": "the workload, whole",
}
"""By table or view and column."""

_SAID = re.compile(r"comment on column (\w+\.\w+)")


def comment(relation: str, column: str) -> str | None:
    """What a column without a comment of its own means; None where nothing is known."""
    stem, _, statistic = column.rpartition("_")
    if relation in ("measurements", "latencies") and (base := METRICS.get(column)):
        return base
    if stem in METRICS and statistic in STATISTICS:
        return f"{METRICS[stem]} ({statistic})"
    own = OWN.get(f"{relation}.{column}") or COMMON.get(column)
    if own is None and statistic in ("low", "high") and stem in COMMON:
        return f"{'lower' if statistic == 'low' else 'upper'} end of the 95 % interval of {stem}"
    return own


def said(texts: Iterable[str]) -> set[str]:
    """The columns (`table.column`) that these SQL texts comment on themselves."""
    return {found for text in texts for found in _SAID.findall(text)}
