-- The price of what was measured; models/cost.py states the same in Python. NULL where nothing was produced.
create or replace macro usd_per_million_tokens(price_usd_per_hour, tokens_per_second) as
    price_usd_per_hour * 1e6 / (nullif(tokens_per_second, 0) * 3600);
create or replace macro usd_per_qps_hour(price_usd_per_hour, requests_per_second) as
    price_usd_per_hour / nullif(requests_per_second, 0);
create or replace macro usd_per_thousand_requests(price_usd_per_hour, requests_per_second) as
    price_usd_per_hour * 1e3 / (nullif(requests_per_second, 0) * 3600);

-- Every price that applies to some hardware. By name it is the price of the whole machine; by accelerator it is the
-- price of one, and a machine has several; every word of the price's hardware is one of the accelerator's name, as
-- models.prices.names says (`L4` is not an `NVIDIA L40S`). `choice` 1 is the one that `measurements` uses: given by a
-- person before all others, what may be taken away (spot) last, then the newest, then the cheapest.
create or replace macro words(name) as regexp_extract_all(lower(name), '[a-z0-9]+');
create or replace view hardware_prices as
with applicable as (
    select h.hardware_id, h.name as hardware, p.tier, p.date, p.source, p.region, p.given, p.stored_at,
           p.price_usd_per_hour * case when lower(p.hardware) = lower(h.name) then 1 else h.accelerators end
               as price_usd_per_hour
    from hardware h join prices p
      on lower(p.hardware) = lower(h.name)
      or (len(words(p.hardware)) > 0 and h.accelerators > 0 and list_has_all(words(h.accelerator), words(p.hardware)))
)
select hardware_id, hardware, price_usd_per_hour, tier, date, source, region, given,
       row_number() over (partition by hardware_id order by given desc, tier = 'spot', date desc,
                          case when given then stored_at end desc, price_usd_per_hour, tier) as choice
from applicable;

comment on view hardware_prices is 'Every price that applies to some hardware, for all of its accelerators; choice 1 is used in `measurements`.';
comment on column hardware_prices.choice is '1: given by a person before others, spot last, then newest, then cheapest';
