-- Prices quoted in other currencies, and of parts of a named machine.
alter table prices add column instance varchar;
alter table prices add column currency varchar;
alter table prices add column price_per_hour double;
alter table prices add column rate_date varchar;

comment on table prices is 'What an hour of some hardware costs, with date, tier and source: given, from prices.yaml, fetched, or bundled.';
comment on column prices.hardware is 'a machine by its name, or words of the name of an accelerator: then the price is for one of them';
comment on column prices.given is 'given by a person (dyno price, prices.yaml); these win over all others';
comment on column prices.instance is 'the provider''s name of the machine it is a part of';
comment on column prices.currency is 'that it was quoted in; NULL: US dollars';
comment on column prices.price_per_hour is 'as quoted, in that currency';
comment on column prices.rate_date is 'of the exchange rate it was converted at';
