-- Every number of `measurements` but energy again, from the requests alone, in plain SQL: same names, one row a metric.
-- A test compares the two. Percentiles interpolate linearly between order statistics (Hyndman and Fan 1996, type 7).
create or replace view recomputed as
with samples as (
    select trial_id,
           unnest(['ttft_ms', 'ttft_from_schedule_ms', 'first_content_ms', 'tpot_ms', 'e2e_ms', 'e2e_from_schedule_ms',
                   'send_delay_ms']) as metric,
           unnest([ttft_ms, ttft_from_schedule_ms, first_content_ms, tpot_ms, e2e_ms, e2e_from_schedule_ms,
                   send_delay_ms]) as value
    from latencies where phase = 'measured' and outcome = 'ok'
    union all
    select trial_id, 'itl_ms', itl_ms from chunks where phase = 'measured' and outcome = 'ok'
),
statistics as (
    select trial_id, metric, avg(value) as mean, quantile_cont(value, [0.5, 0.9, 0.95, 0.99]) as q
    from samples where value is not null group by all
),
latency_metrics as (
    select trial_id, metric || unnest(['_mean', '_p50', '_p90', '_p95', '_p99']) as metric,
           unnest([mean, q[1], q[2], q[3], q[4]]) as value
    from statistics
),
-- from the first measured request sent to the last measured one ended
windows as (
    select trial_id, min(sent_ns) as start_ns, max(done_ns) as end_ns, (end_ns - start_ns) / 1e9 as window_s,
           count(*) filter (outcome = 'ok') as requests_ok
    from requests where phase = 'measured' and sent_ns is not null
    group by trial_id having end_ns > start_ns and requests_ok > 0
),
-- a request's tokens are spread evenly over its chunks; those that arrived within the window count, of any request
arrived as (
    select r.trial_id, sum(r.output_tokens / len(c.chunk_ns) * len(list_filter(c.chunk_ns,
               lambda t: r.sent_ns + t between w.start_ns and w.end_ns))) as tokens
    from requests r join chunk_timings c using (trial_id, request_index) join windows w using (trial_id)
    where len(c.chunk_ns) > 0 and r.output_tokens is not null
    group by r.trial_id
),
ended as (
    select r.trial_id, count(*) as requests
    from requests r join windows w using (trial_id)
    where r.outcome = 'ok' and r.done_ns > w.start_ns and r.done_ns <= w.end_ns
    group by r.trial_id
),
totals as (
    select r.trial_id, sum(r.input_tokens)::double as input_tokens, sum(r.output_tokens)::double as output_tokens,
           sum(r.cached_tokens)::double as cached_tokens, avg(r.input_tokens) as input_tokens_mean,
           avg(r.output_tokens) as output_tokens_mean, avg(r.input_tokens_planned) as input_tokens_planned_mean,
           avg(r.output_tokens_planned) as output_tokens_planned_mean, sum(len(c.chunk_ns)) as chunks,
           avg(r.output_valid::integer) as output_valid_share
    from requests r left join chunk_timings c using (trial_id, request_index)
    where r.phase = 'measured' and r.outcome = 'ok' group by r.trial_id
),
rates as (
    select w.trial_id, coalesce(e.requests, 0) / w.window_s as requests_per_second,
           coalesce(a.tokens, 0) / w.window_s as output_tokens_per_second
    from windows w left join ended e using (trial_id) left join arrived a using (trial_id)
),
others as (
    select trial_id, unnest(['requests_per_second', 'output_tokens_per_second', 'input_tokens_per_second',
               'input_tokens', 'output_tokens', 'cached_tokens', 'input_tokens_mean', 'output_tokens_mean',
               'input_tokens_planned_mean', 'output_tokens_planned_mean', 'chunks_per_output_token',
               'output_valid_share']) as metric,
           unnest([requests_per_second, output_tokens_per_second, requests_per_second * input_tokens_mean,
               input_tokens, output_tokens, cached_tokens, input_tokens_mean, output_tokens_mean,
               input_tokens_planned_mean, output_tokens_planned_mean, chunks / nullif(output_tokens, 0),
               output_valid_share]) as value
    from totals full join rates using (trial_id)
)
select trial_id, metric, value from latency_metrics
union all
select trial_id, metric, value from others where value is not null;

comment on view recomputed is 'Every aggregate again, from the requests alone: the definitions of all metrics in SQL. Same rows as `metrics`, energy apart: that is read from meters.';
