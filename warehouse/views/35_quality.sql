-- Quality beside speed: one row a setup whose next-token distributions could be compared; models/quality.py has the
-- definitions. Setups that differ only in how they batch share one comparison.
create or replace view quality as
select s.setup_id, s.label as setup, a.model, a.engine, a.variant, a.engine_version, a.quantization, a.kv_type,
       a.hardware, d.kl_nats, d.kl_nats_low, d.kl_nats_high, d.top1_agreement, d.top1_agreement_low,
       d.top1_agreement_high, d.next_logprob_difference, d.next_logprob_difference_low, d.next_logprob_difference_high,
       d.next_positions, d.positions, d.mass_seen, a.numerics_id = d.reference_id as is_reference,
       concat_ws(' ', coalesce(r.variant, r.engine), r.engine_version, r.quantization,
                 case when r.kv_type <> 'f16' then 'KV ' || r.kv_type end) as reference,
       d.same_engine, a.synthetic, a.text, a.top, a.asked_at, a.numerics_id, d.reference_id
from divergences d join asked a using (numerics_id) join asked r on r.numerics_id = d.reference_id
left join setups s on s.numerics_id = d.numerics_id;

comment on view quality is 'How far each setup''s next-token distributions are from the unquantised model''s, on a fixed text.';
comment on column quality.setup_id is 'NULL: asked, but no load of it was measured';
comment on column quality.kl_nats is 'mean Kullback-Leibler divergence from the reference, nats: a lower bound, over the tokens that both told and one bucket for the rest';
comment on column quality.mass_seen is 'mean probability of the tokens that both told: the nearer to 1, the tighter the bound';
comment on column quality.top1_agreement is 'share of positions at which both hold the same token for the likeliest';
comment on column quality.next_logprob_difference is 'mean of |ln p - ln q| of the token that the text goes on with, where both told it';
comment on column quality.next_positions is 'positions where both told it';
comment on column quality.reference is 'weights as they were trained, KV cache of 16 bits or more: on the same engine if there is one, else on any';
comment on column quality.same_engine is 'false: another engine''s arithmetic is in the figures too';
comment on column quality.synthetic is 'random weights: divergences rank quantisations, but say nothing about a trained model';
comment on column quality.top is 'tokens asked for at each position';
