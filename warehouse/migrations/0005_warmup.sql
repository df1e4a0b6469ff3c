-- Where the warm-up of a trial was found to end.
alter table trials add column warmup_cut_requests integer;
alter table trials add column warmup_cut_s double;
alter table trials add column warmup_method varchar;
alter table trials add column warmup_over boolean;

comment on column trials.warmup_requests is 'requests planned as warm-up, before the measured ones';
comment on column trials.warmup_cut_requests is 'measured requests found to be warm-up still, and left out; NULL: not looked for';
comment on column trials.warmup_cut_s is 'seconds from the first of these to the first kept one';
comment on column trials.warmup_method is 'how the end of the warm-up was found; NULL: not looked for, or too few requests';
comment on column trials.warmup_over is 'false: still moving at the end, so nothing was cut';
