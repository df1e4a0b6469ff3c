-- What an engine says of its memory and settings, the image it ran in, and what the energy of a trial was read from.
alter table trials add column kv_cache_tokens bigint;
alter table trials add column weights_bytes bigint;
alter table trials add column overhead_bytes bigint;
alter table trials add column settings json;
alter table trials add column image varchar;
alter table trials add column energy_source varchar;
alter table setups add column image varchar;

comment on column trials.kv_cache_tokens is 'tokens that the KV cache holds, as the engine says';
comment on column trials.weights_bytes is 'memory that the weights take, as the engine says';
comment on column trials.overhead_bytes is 'memory beside weights and KV cache, as the engine says';
comment on column trials.settings is 'what the engine resolved its configuration to, as it says';
comment on column trials.image is 'container image that ran; NULL: no container';
comment on column trials.energy_source is 'meters that the joules were read from: nvml (GPUs) or rapl (CPU packages); NULL: power was not known';
comment on column setups.image is 'container image asked for; NULL: the project''s own, or no container';
