-- How an engine orders the requests that wait.
alter table setups add column scheduling_policy varchar;

comment on column setups.scheduling_policy is 'by the engine''s own name: fcfs, priority…; NULL: its default';
