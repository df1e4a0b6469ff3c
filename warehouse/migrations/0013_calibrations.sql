-- What was calibrated when, with its error, and the measurements that the calibration before them had not foreseen.
create table calibrations (
    run varchar not null, calibrated_at timestamp not null, setup_id varchar not null, setup varchar not null,
    workload varchar not null, quantity varchar not null, form varchar not null, a double, b double, k double,
    knee double, error double, error_points integer, concurrency_low double, concurrency_high double,
    trial_ids varchar[], fit json not null, dyno_version varchar,
    primary key (run, setup_id, workload, quantity)
);
create table surprises (
    run varchar not null, seen_at timestamp not null, setup_id varchar not null, setup varchar not null,
    workload varchar not null, trial_id varchar not null, quantity varchar not null, concurrency double not null,
    measured double not null, predicted double not null, low double not null, high double not null,
    extrapolated boolean not null,
    primary key (run, trial_id, quantity)
);

comment on table calibrations is 'Curves over concurrency, fitted after each evaluation: the history of fits and their errors. The newest of a curve is the one in use.';
comment on column calibrations.run is 'file under calibrations/ in DYNO_HOME';
comment on column calibrations.quantity is 'tpot (ms), throughput (output tokens a second) or ttft (ms)';
comment on column calibrations.knee is 'requests served at once at most; NULL: no limit shows or is known';
comment on column calibrations.error is 'mean absolute percentage error, as a share, over inner points left out one at a time; NULL: fewer than three concurrencies';
comment on column calibrations.error_points is 'points that were left out in turn';
comment on column calibrations.fit is 'the fit, whole: models.planning.curves.Fit';
comment on table surprises is 'Measurements outside the 90 % interval that the calibration before them predicted.';
comment on column surprises.extrapolated is 'the prediction was beyond the concurrencies measured until then';
