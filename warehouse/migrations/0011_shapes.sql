-- Shapes beyond the plain transformer's: latent attention, sliding windows, layers without a cache, experts.
alter table models add column kv_lora_rank integer;
alter table models add column qk_rope_head_dim integer;
alter table models add column index_dim integer;
alter table models add column sliding_window_tokens integer;
alter table models add column sliding_layers integer;
alter table models add column kvless_layers integer;
alter table models add column state_bytes_per_sequence bigint;
alter table models add column kv_values_per_layer integer;
alter table models add column sliding_kv_values_per_layer integer;
alter table models add column experts integer;
alter table models add column experts_per_token integer;
alter table models add column shared_experts integer;
alter table models add column expert_intermediate_size integer;
alter table models add column dense_layers integer;
alter table models add column active_parameters bigint;

comment on column models.kv_lora_rank is 'latent attention (MLA): size of the vector kept for a token and layer; NULL: none of it';
comment on column models.kvless_layers is 'layers that keep no keys and values';
comment on column models.experts is 'routed experts of a layer; NULL: a dense model';
comment on column models.active_parameters is 'weights that a token is multiplied with, of a model with experts';
