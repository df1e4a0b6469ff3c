-- What tasks of lm-evaluation-harness made of setups.
create table scores (
    run varchar not null, numerics_id varchar not null, model varchar not null, engine varchar not null,
    variant varchar, engine_version varchar, quantization varchar not null, kv_type varchar not null,
    task varchar not null, metric varchar not null, filter varchar not null, value double not null, stderr double,
    samples integer, samples_max integer, tool_version varchar, scored_at timestamp not null,
    primary key (run, task, metric, filter)
);

comment on table scores is 'Scores of lm-evaluation-harness''s tasks, run against the served endpoint; numerics_id joins with setups.';
comment on column scores.run is 'folder under scores/ in DYNO_HOME, with the harness''s own results';
comment on column scores.samples_max is 'samples of each task at most; NULL: all';
