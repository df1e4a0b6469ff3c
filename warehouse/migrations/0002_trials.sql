-- What was measured: one row a trial, its requests, the stamps of their chunks, telemetry, aggregates and verdicts.
create table trials (
    trial_id varchar primary key,
    setup_id varchar not null, engine_id varchar not null, workload_id varchar not null,
    load varchar not null, concurrency integer, request_rate double, arrivals varchar, burstiness double,
    requests_planned integer, warmup_requests integer, timeout_s double, duration_s_max double,
    seed bigint not null, repeat integer not null,
    started_at timestamp not null, duration_s double, window_s double, requests_ok integer, requests_failed integer,
    argv varchar[], environment json, model_bytes bigint, bits_per_weight double, threads integer,
    context_tokens integer, ready_s double, notes varchar[],
    hostname varchar, os varchar, kernel varchar, python varchar, memory_bandwidth_gb_s double, load_1m double,
    client_cpu_s double, dyno_version varchar, source varchar,
    bundle varchar not null, bundle_sha256 varchar not null, measurement json not null
);
create table metrics (
    trial_id varchar not null, metric varchar not null, value double not null
);
create table verdicts (
    trial_id varchar not null, position integer not null,
    name varchar not null, severity varchar not null, detail varchar
);
create table requests (
    trial_id varchar not null, request_index integer not null, session integer, turn integer, phase varchar,
    input_tokens_planned integer, output_tokens_planned integer, input_tokens integer, cached_tokens integer,
    output_tokens integer, output_tokens_source varchar,
    planned_ns bigint, sent_ns bigint, first_byte_ns bigint, first_reasoning_ns bigint, first_content_ns bigint,
    first_token_ns bigint, last_token_ns bigint, done_ns bigint,
    outcome varchar, http_status smallint, finish_reason varchar, error varchar
);
create table chunk_timings (
    trial_id varchar not null, request_index integer not null, chunk_ns bigint[]
);
create table telemetry (
    trial_id varchar not null, at_ns bigint not null, source varchar not null, metric varchar not null, value double
);

comment on table trials is 'One row a measured trial: what was asked, what ran, where its bundle lies. `measurements` is easier to read.';
comment on column trials.started_at is 'UTC; the instant t = 0 of every _ns column';
comment on column trials.bundle is 'folder of the bundle, relative to DYNO_HOME';
comment on column trials.measurement is 'measurement.json of the bundle, whole';
comment on column trials.ready_s is 'process start to first answered token, seconds';
comment on table metrics is 'Aggregates of each trial, one row a metric: ttft_ms_p95, output_tokens_per_second, …';
comment on table verdicts is 'Whether a trial can be trusted; a fatal one never feeds an answer.';
comment on column verdicts.severity is 'note, warning or fatal';
comment on table requests is 'Every request of every trial. _ns: nanoseconds since the trial''s start, monotonic clock.';
comment on column requests.phase is 'warmup, measured or tail; only measured ones are in the percentiles';
comment on column requests.planned_ns is 'when it was meant to be sent';
comment on column requests.output_tokens_source is 'usage, finish_length or chunks: how output_tokens is known';
comment on column requests.outcome is 'ok, or how it failed';
comment on table chunk_timings is 'When each chunk of an answer arrived, one list a request: nanoseconds since it was sent. `chunks` unrolls it.';
comment on table telemetry is 'Samples of host, engine and client during a trial: CPU, memory, the engine''s own gauges.';
comment on column telemetry.at_ns is 'nanoseconds since the trial''s start';
