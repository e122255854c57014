-- The key that an instance's registered key took the place of: it goes on until 7 days after the first use of the newer
-- one, as secrets do.

alter table instances add column previous_public_key bytea;
-- Null: the newer key was not used yet.
alter table instances add column previous_key_dies_at timestamptz;
alter table instances add constraint instances_previous_public_key_length
    check (octet_length(previous_public_key) = 32);
alter table instances add constraint instances_previous_public_key_differs
    check (previous_public_key is distinct from public_key or public_key is null and previous_public_key is null);
alter table instances add constraint instances_previous_key_dies_at
    check (previous_key_dies_at is null or previous_public_key is not null);
