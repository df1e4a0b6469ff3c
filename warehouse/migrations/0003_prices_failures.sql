-- What hardware costs, and which launches failed.
create table prices (
    price_id varchar primary key,
    hardware varchar not null, price_usd_per_hour double not null, tier varchar not null, date varchar not null,
    source varchar not null, region varchar, given boolean not null, stored_at timestamp not null
);
create table failures (
    failure varchar primary key,
    failed_at timestamp not null, setup_id varchar not null, setup_label varchar not null,
    model varchar not null, engine varchar not null, variant varchar, quantization varchar not null,
    hardware varchar not null, stage varchar not null, error varchar not null, command varchar, exit_code integer,
    log_tail varchar, record json not null
);

comment on table prices is 'What an hour of some hardware costs, with date, tier and source.';
comment on column prices.hardware is 'a hardware name, or (part of) the name of an accelerator: then the price is for one of them';
comment on column prices.given is 'given by a person; these win over the prices bundled with dyno';
comment on column prices.date is 'YYYY-MM or YYYY-MM-DD';
comment on table failures is 'Launches that failed: stage, error, exact command, the end of the log.';
comment on column failures.failure is 'folder under failures/ in DYNO_HOME';
