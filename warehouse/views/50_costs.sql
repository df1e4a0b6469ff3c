-- What each measured point costs at every price that applies to its hardware.
create or replace view costs as
select m.trial_id, m.setup_id, m.setup, m.model, m.hardware, m.workload, m.load, c.tier, c.date, c.source, c.region,
       c.choice = 1 as applied, c.price_usd_per_hour,
       usd_per_million_tokens(c.price_usd_per_hour, m.output_tokens_per_second) as usd_per_million_output_tokens,
       usd_per_million_tokens(c.price_usd_per_hour, m.input_tokens_per_second) as usd_per_million_input_tokens,
       usd_per_million_tokens(c.price_usd_per_hour, m.output_tokens_per_second + m.input_tokens_per_second)
           as usd_per_million_total_tokens,
       usd_per_qps_hour(c.price_usd_per_hour, m.requests_per_second) as usd_per_qps_hour,
       usd_per_thousand_requests(c.price_usd_per_hour, m.requests_per_second) as usd_per_thousand_requests,
       m.trust, m.fatal
from measurements m join hardware_prices c using (hardware_id);

comment on view costs is 'One row a trial and price that applies to its hardware. Each figure charges the whole machine: they do not add up.';
comment on column costs.applied is 'the price that `measurements` uses';
comment on column costs.source is 'where the price comes from';
