-- How far quantisation moved a model: what setups told of next tokens, and each compared with the unquantised one.
alter table setups add column numerics_id varchar;
create table asked (
    numerics_id varchar primary key,
    model varchar not null, synthetic boolean not null, engine varchar not null, variant varchar,
    engine_version varchar, quantization varchar not null, kv_type varchar not null, hardware varchar,
    text varchar not null, text_id varchar not null, asked_by varchar not null, positions integer not null,
    top integer not null, asked_at timestamp not null, seconds double, dyno_version varchar,
    sha256 varchar not null, record json not null
);
create table distributions (
    numerics_id varchar not null, position integer not null, next_token integer, token_ids integer[], tokens varchar[],
    logprobs float[]
);
create table divergences (
    numerics_id varchar primary key,
    reference_id varchar not null, same_engine boolean not null, positions integer not null, mass_seen double,
    kl_nats double, kl_nats_low double, kl_nats_high double,
    top1_agreement double, top1_agreement_low double, top1_agreement_high double, next_positions integer,
    next_logprob_difference double, next_logprob_difference_low double, next_logprob_difference_high double
);

comment on column setups.numerics_id is 'setups with the same one compute the same numbers, whatever they batch: key of asked, distributions, divergences';
comment on table asked is 'Setups that were asked for the likeliest next tokens after prefixes of a fixed text; one row for all that compute the same numbers.';
comment on column asked.text_id is 'hash of the prefixes: only answers to the same ones are compared';
comment on column asked.asked_by is 'ids: prefixes sent as token ids; text: as text';
comment on column asked.top is 'tokens asked for at each position';
comment on table distributions is 'What they told: one row a position, tokens from the likeliest.';
comment on column distributions.next_token is 'what the text goes on with';
comment on column distributions.logprobs is 'natural logarithms, before any sampling setting';
comment on table divergences is 'Each setup against the unquantised one of the same model; view `quality` has names. models/quality.py defines every figure.';
