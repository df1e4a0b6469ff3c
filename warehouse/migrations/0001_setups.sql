-- What was launched: models, engines, hardware, workloads, and the setups made of them.
create table models (
    model_id varchar primary key,
    name varchar not null, source varchar not null, repository varchar, file varchar, revision varchar, content varchar,
    family varchar, layers integer, hidden_size integer, heads integer, kv_heads integer, head_dim integer,
    intermediate_size integer, vocabulary integer, parameters bigint, tied_embeddings boolean, context_tokens integer
);
create table engines (
    engine_id varchar primary key,
    engine varchar not null, variant varchar, version varchar not null
);
create table hardware (
    hardware_id varchar primary key,
    name varchar not null, kind varchar not null, cpu varchar, cores integer, memory_gib integer,
    accelerator varchar, accelerators integer not null, accelerator_memory_gib integer
);
create table workloads (
    workload_id varchar primary key,
    workload varchar not null, name varchar not null, description varchar, source varchar,
    shared_prefix_tokens integer, turns integer, input_scale double, output_scale double, api varchar, offline boolean,
    spec json not null
);
create table setups (
    setup_id varchar primary key,
    label varchar not null, model_id varchar not null, hardware_id varchar not null,
    engine varchar not null, variant varchar, version varchar, runtime varchar not null,
    quantization varchar not null, kv_type varchar not null,
    max_sequences integer, max_batched_tokens integer, prefill_chunk_tokens integer, prefix_caching boolean,
    context_tokens integer, memory_fraction double, tensor_parallel integer, threads integer,
    extra_args varchar[], environment json, url varchar
);

comment on table models is 'Models by what identifies their weights, with the shape of the transformer.';
comment on table engines is 'Engines as they resolved: engine, server variant, version.';
comment on table hardware is 'What setups run on.';
comment on table workloads is 'What was asked of the engines: lengths, shared prefixes, turns.';
comment on table setups is 'What one launch of an engine has: model, engine, quantisation, batching, hardware. NULL: the engine''s default.';
comment on column setups.version is 'version asked for; what ran is in engines';
comment on column workloads.workload is 'label for people: the name, and the scale when it is not 1';
