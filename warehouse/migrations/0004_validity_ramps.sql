-- Answers that had to obey a schema or call a tool; loads that ramp up, or stop as soon as they are precise.
alter table requests add column output_valid boolean;
alter table trials add column request_rate_end double;
alter table trials add column precision double;
alter table trials add column limits varchar;

comment on column requests.output_valid is 'whether the answer obeyed its schema or called a tool as it should; NULL: nothing to check';
comment on column trials.request_rate_end is 'open loop that ramps: requests a second when the last is due';
comment on column trials.precision is 'half-width of the intervals, relative, at which it was to stop';
comment on column trials.limits is 'of a probe of a capacity search: it was broken off once these were decided';
