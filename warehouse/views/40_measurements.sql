-- One wide row a trial: what was asked, what ran, what came of it, what it costs, whether to trust it.
create or replace view measurements as
select t.trial_id, t.setup_id, e.engine, e.version as engine_version, e.variant, m.name as model,
       s.quantization, s.kv_type, s.max_sequences, s.max_batched_tokens, s.prefill_chunk_tokens, s.prefix_caching,
       coalesce(t.context_tokens, s.context_tokens) as context_tokens, coalesce(t.threads, s.threads) as threads,
       s.tensor_parallel, s.memory_fraction, s.scheduling_policy, s.extra_args,
       e.variant is not distinct from 'llama-server' and s.max_sequences > 1
           and not list_has_any(coalesce(s.extra_args, []), ['--kv-unified', '-kvu']) as slots_apart, s.runtime,
       coalesce(t.image, s.image) as image, s.label as setup,
       t.bits_per_weight, t.model_bytes, t.kv_cache_tokens, t.weights_bytes, t.overhead_bytes,
       m.parameters, h.name as hardware, h.accelerator, h.accelerators,
       t.memory_bandwidth_gb_s, w.workload, w.name as workload_name, t.load, t.concurrency, t.request_rate, t.arrivals,
       t.requests_ok, t.requests_failed, t.window_s, t.warmup_cut_requests, t.warmup_cut_s, t.warmup_method, t.warmup_over,
       p.input_tokens::bigint as input_tokens, p.output_tokens::bigint as output_tokens,
       p.cached_tokens::bigint as cached_tokens, p.input_tokens_mean, p.output_tokens_mean,
       p.input_tokens_planned_mean, p.output_tokens_planned_mean, p.chunks_per_output_token,
       p.output_valid_share, p.joules_per_output_token, p.joules_per_request, p.power_watts_mean, t.energy_source,
       p.requests_per_second, p.output_tokens_per_second, p.input_tokens_per_second,
       p.ttft_ms_mean, p.ttft_ms_p50, p.ttft_ms_p90, p.ttft_ms_p95, p.ttft_ms_p99,
       p.ttft_from_schedule_ms_mean, p.ttft_from_schedule_ms_p50, p.ttft_from_schedule_ms_p90,
       p.ttft_from_schedule_ms_p95, p.ttft_from_schedule_ms_p99,
       p.tpot_ms_mean, p.tpot_ms_p50, p.tpot_ms_p90, p.tpot_ms_p95, p.tpot_ms_p99,
       p.itl_ms_mean, p.itl_ms_p50, p.itl_ms_p90, p.itl_ms_p95, p.itl_ms_p99,
       p.e2e_ms_mean, p.e2e_ms_p50, p.e2e_ms_p90, p.e2e_ms_p95, p.e2e_ms_p99,
       p.e2e_from_schedule_ms_mean, p.e2e_from_schedule_ms_p50, p.e2e_from_schedule_ms_p90,
       p.e2e_from_schedule_ms_p95, p.e2e_from_schedule_ms_p99,
       p.first_content_ms_mean, p.first_content_ms_p50, p.first_content_ms_p90, p.first_content_ms_p95,
       p.first_content_ms_p99,
       p.send_delay_ms_mean, p.send_delay_ms_p50, p.send_delay_ms_p90, p.send_delay_ms_p95, p.send_delay_ms_p99,
       q.kl_nats, q.top1_agreement, q.reference_id = q.numerics_id as is_quality_reference,
       c.price_usd_per_hour, c.tier as price_tier, c.date as price_date, c.source as price_source,
       usd_per_million_tokens(c.price_usd_per_hour, p.output_tokens_per_second) as usd_per_million_output_tokens,
       usd_per_million_tokens(c.price_usd_per_hour, p.input_tokens_per_second) as usd_per_million_input_tokens,
       usd_per_million_tokens(c.price_usd_per_hour, p.output_tokens_per_second + p.input_tokens_per_second)
           as usd_per_million_total_tokens,
       usd_per_qps_hour(c.price_usd_per_hour, p.requests_per_second) as usd_per_qps_hour,
       usd_per_thousand_requests(c.price_usd_per_hour, p.requests_per_second) as usd_per_thousand_requests,
       p.trust, p.fatal, p.verdicts,
       t.ready_s, t.client_cpu_s, t.started_at, t.duration_s, t.seed, t.repeat, t.source, t.dyno_version,
       t.workload_id, s.hardware_id, t.bundle
from trials t
join setups s using (setup_id) join engines e using (engine_id) join models m using (model_id)
join hardware h using (hardware_id) join workloads w using (workload_id)
left join _measured p using (trial_id)
left join divergences q on q.numerics_id = s.numerics_id
left join hardware_prices c on c.hardware_id = s.hardware_id and c.choice = 1;

comment on view measurements is 'One wide row a measured trial. Start here: from measurements order by usd_per_million_output_tokens.';
comment on column measurements.trial_id is 'content hash of what was asked: setup, workload, load, seed, repeat';
comment on column measurements.setup_id is 'content hash of model, engine, quantisation, batching and hardware';
comment on column measurements.variant is 'which server of the engine';
comment on column measurements.workload is 'name, with its scale when it is not 1: different scales are not comparable';
comment on column measurements.max_sequences is 'sequences decoded together (slots)';
comment on column measurements.slots_apart is 'true: each slot has a KV cache of its own, and one pass through the weights serves only busy slots that are neighbours (llama-server)';
comment on column measurements.concurrency is 'closed loop: users, each waiting for its answer';
comment on column measurements.request_rate is 'open loop: requests a second asked for';
comment on column measurements.model_bytes is 'bytes of the weights file';
comment on column measurements.memory_bandwidth_gb_s is 'measured on this machine: a plain read with all cores';
comment on column measurements.requests_ok is 'measured requests answered whole';
comment on column measurements.requests_failed is 'measured requests that failed in any way';
comment on column measurements.window_s is 'first measured request sent to last one ended; rates are over this window';
comment on column measurements.warmup_cut_requests is 'found to be warm-up still, and left out of every figure; NULL: not looked for';
comment on column measurements.warmup_cut_s is 'seconds from the first of these to the first kept request';
comment on column measurements.warmup_method is 'how the end of the warm-up was found; NULL: not looked for, or too few requests';
comment on column measurements.warmup_over is 'false: still moving at the end, so nothing was cut';
comment on column measurements.input_tokens is 'total of the measured requests that are ok';
comment on column measurements.output_tokens is 'total of the measured requests that are ok';
comment on column measurements.cached_tokens is 'prompt tokens the engine took from its prefix cache';
comment on column measurements.output_tokens_per_second is 'tokens that arrived in the window, whichever request they belong to';
comment on column measurements.chunks_per_output_token is 'below 1, several tokens share a chunk and ITL is longer than TPOT';
comment on column measurements.output_valid_share is 'of the answers that had to obey a schema or call a tool, those that did; NULL: none had to';
comment on column measurements.kl_nats is 'divergence of the next-token distributions from the unquantised model, nats, a lower bound; view quality has the interval and the reference';
comment on column measurements.top1_agreement is 'share of positions at which the likeliest next token is that of the unquantised model';
comment on column measurements.is_quality_reference is 'true: this is the unquantised one that others of its engine are compared with';
comment on column measurements.kv_cache_tokens is 'tokens that the KV cache holds, as the engine says; NULL: it does not';
comment on column measurements.weights_bytes is 'memory that the weights take, as the engine says';
comment on column measurements.overhead_bytes is 'memory beside weights and KV cache, as the engine says';
comment on column measurements.joules_per_output_token is 'energy of the window ÷ output tokens that arrived in it; idle power included; NULL: power was not known';
comment on column measurements.joules_per_request is 'energy of the window ÷ requests that ended in it';
comment on column measurements.power_watts_mean is 'energy of the window ÷ its length';
comment on column measurements.energy_source is 'meters behind these: nvml (GPUs) or rapl (CPU packages, with all else that the machine did)';
comment on column measurements.price_usd_per_hour is 'of the whole machine; which price: view hardware_prices';
comment on column measurements.usd_per_million_output_tokens is 'price per hour × 1e6 ÷ (output tokens a second × 3600); all prices: view costs';
comment on column measurements.usd_per_million_input_tokens is 'the whole machine charged to input tokens: do not add to the output price';
comment on column measurements.usd_per_million_total_tokens is 'the whole machine charged to input and output tokens together';
comment on column measurements.usd_per_qps_hour is 'one sustained request a second for an hour';
comment on column measurements.trust is '`ok`, or the verdicts that speak against the point, worst first';
comment on column measurements.fatal is 'true: not to be used; the reason is in trust';
comment on column measurements.verdicts is 'every verdict, notes included; details in table verdicts';
comment on column measurements.ready_s is 'process start to first answered token, seconds';
comment on column measurements.started_at is 'UTC';
comment on column measurements.bundle is 'folder with everything of this trial, relative to DYNO_HOME';
