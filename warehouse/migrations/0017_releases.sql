-- What the release watch saw, and what became of it.
create table releases (
    release_id varchar primary key, kind varchar not null, name varchar not null, version varchar not null,
    state varchar not null, why varchar, estimate varchar, source varchar not null, url varchar,
    released_at timestamp, seen_at timestamp not null, decided_at timestamp not null,
    started_at timestamp, ended_at timestamp, engine_hours double, pools varchar[] not null, flow_run_ids varchar[] not null,
    format varchar, quantization varchar, parameters bigint, licence varchar, gated boolean not null, content varchar,
    record json not null
);

comment on table releases is 'Every release that the watch saw (`dyno watch`), one row each: a model with certain weights, a version of an engine, a price list.';
comment on column releases.release_id is 'content hash of kind, name and version';
comment on column releases.kind is 'model, engine or prices';
comment on column releases.name is 'repository on the Hub, name of the checkpoint, engine, or source of the prices';
comment on column releases.version is 'of a model: hash of its weights';
comment on column releases.state is 'waiting (for the budget), started, evaluated, failed or skipped';
comment on column releases.why is 'why it was skipped, waits or failed; what was evaluated';
comment on column releases.estimate is 'what the planner says of a model that fits no pool''s hardware';
comment on column releases.source is 'which entry of the policy told of it';
comment on column releases.url is 'where people read about it';
comment on column releases.released_at is 'as the source says, UTC; NULL: it does not say';
comment on column releases.seen_at is 'when the watch saw it first, UTC';
comment on column releases.decided_at is 'when its state was decided last, UTC';
comment on column releases.started_at is 'when its first evaluation was started, UTC; NULL: none was';
comment on column releases.ended_at is 'when the last of its evaluations ended, UTC; NULL: none, or one still runs';
comment on column releases.engine_hours is 'that its evaluations took';
comment on column releases.pools is 'on which it is, or was, evaluated';
comment on column releases.flow_run_ids is 'of its evaluations, in Prefect';
comment on column releases.format is 'gguf or safetensors';
comment on column releases.quantization is 'that its weights are stored in; NULL: not known, or files of several';
comment on column releases.licence is 'as the Hub states it';
comment on column releases.gated is 'given only to those who accepted its terms';
comment on column releases.content is 'as `models.content` names these weights';
comment on column releases.record is 'all of it: models.releases.release.Seen';
