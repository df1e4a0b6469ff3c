-- Definitions of every latency, one row a request; models/summary.py states the same in Python, and a test holds the
-- two together. Nanoseconds become milliseconds; NULL where a stamp is missing.
create or replace view latencies as
select trial_id, request_index, phase, outcome,
       (first_token_ns - sent_ns) / 1e6 as ttft_ms,
       (first_token_ns - planned_ns) / 1e6 as ttft_from_schedule_ms,
       (first_content_ns - sent_ns) / 1e6 as first_content_ms,
       case when output_tokens >= 2 then (last_token_ns - first_token_ns) / 1e6 / (output_tokens - 1) end as tpot_ms,
       (done_ns - sent_ns) / 1e6 as e2e_ms,
       (done_ns - planned_ns) / 1e6 as e2e_from_schedule_ms,
       (sent_ns - planned_ns) / 1e6 as send_delay_ms
from requests;

comment on view latencies is 'Latencies of every request in ms. Percentiles are over phase = ''measured'' and outcome = ''ok''.';
comment on column latencies.ttft_ms is 'sent to first token';
comment on column latencies.ttft_from_schedule_ms is 'meant to be sent to first token: shows what queued in the client';
comment on column latencies.first_content_ms is 'sent to first token of the answer proper, after any reasoning';
comment on column latencies.tpot_ms is 'mean time per output token after the first';
comment on column latencies.e2e_ms is 'sent to stream ended';
comment on column latencies.send_delay_ms is 'meant to be sent to sent';

-- One row a chunk that carried output.
create or replace view chunks as
with unrolled as (
    select trial_id, request_index, unnest(range(len(chunk_ns))) as chunk_index, unnest(chunk_ns) as since_sent_ns,
           unnest(list_prepend(null, chunk_ns[:-2])) as before_ns
    from chunk_timings where len(chunk_ns) > 0
)
select u.trial_id, u.request_index, r.phase, r.outcome, u.chunk_index, (r.sent_ns + u.since_sent_ns) / 1e6 as at_ms,
       u.since_sent_ns / 1e6 as since_sent_ms, (u.since_sent_ns - u.before_ns) / 1e6 as itl_ms
from unrolled u join requests r using (trial_id, request_index);

comment on view chunks is 'When every chunk of every answer arrived; itl_ms is the gap to the chunk before it.';
comment on column chunks.at_ms is 'since the trial''s start';
