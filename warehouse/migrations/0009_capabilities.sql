-- What the engines could do, by the adapters of the dyno that published last.
create table capabilities (
    engine varchar not null, variant varchar, kind varchar not null, name varchar not null,
    supported boolean not null, about varchar, reason varchar, pinned_version varchar, position integer not null
);

comment on table capabilities is 'What each engine can do with this dyno: quantisations, KV types, features, batching fields, hardware, runtimes. What was measured is in measurements.';
comment on column capabilities.kind is 'quantization, kv_type, feature, batching, hardware, runtime or model_source';
comment on column capabilities.supported is 'false: known to be missing; `reason` says why where that is known';
comment on column capabilities.reason is 'why it is missing, or missing in part';
comment on column capabilities.pinned_version is 'what runtime venv installs when none is named';
comment on column capabilities.position is 'order of the adapter''s own list';
