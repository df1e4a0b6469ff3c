-- What a question about stacks reads, joined beforehand and lying in the order it is read in, so that it reads little
-- else. Made anew for each snapshot: warehouse/observed.py runs this file again.
create or replace table _stacks as
select s.setup_id, s.label as setup, m.name as model, s.engine, any_value(e.variant) as variant,
       max(e.version) as engine_version, s.quantization, s.kv_type, s.max_sequences, s.tensor_parallel,
       coalesce(s.prefix_caching, false) as prefix_caching, s.runtime, s.hardware_id,
       any_value(q.kl_nats) as kl_nats, coalesce(bool_or(a.synthetic), false) as kl_of_random_weights,
       list(distinct w.workload order by w.workload) as workloads
from setups s join models m using (model_id) join trials t using (setup_id) join engines e using (engine_id)
join workloads w using (workload_id)
left join divergences q on q.numerics_id = s.numerics_id left join asked a on a.numerics_id = s.numerics_id
group by s.setup_id, s.label, m.name, s.engine, s.quantization, s.kv_type, s.max_sequences, s.tensor_parallel,
         s.prefix_caching, s.runtime, s.hardware_id
order by m.name, s.setup_id;

create or replace table _machines as
with seen as (
    select setup_id, any_value(memory_bandwidth_gb_s) as memory_bandwidth_gb_s from trials group by setup_id)
select h.hardware_id, h.name, h.kind, h.accelerator, h.accelerators, h.accelerator_memory_gib, h.cores, h.memory_gib,
       any_value(t.memory_bandwidth_gb_s) as memory_bandwidth_gb_s
from hardware h left join setups s using (hardware_id) left join seen t using (setup_id)
group by all order by h.name;

create or replace table _fits as
select c.workload, m.name as model, c.setup_id, c.quantity, arg_max(c.fit::varchar, c.calibrated_at) as fit
from calibrations c join setups using (setup_id) join models m using (model_id)
group by all order by all;

create or replace table _points as
select w.workload, m.name as model, t.setup_id, t.trial_id, t.concurrency, t.request_rate, f.requests_per_second,
       f.input_tokens_mean, f.output_tokens_mean, f.trust, f.fatal, f.intervals,
       f.* like '%_ms_%'
from trials t join setups s using (setup_id) join models m using (model_id) join workloads w using (workload_id)
join _measured f using (trial_id)
order by w.workload, m.name, t.setup_id, t.started_at, t.trial_id;
