-- A webhook's secret is replaced with an overlap: until its receivers know the new one, deliveries carry the
-- signatures of both (Standard Webhooks).
alter table webhooks
    add column previous_secret    bytea,
    add column previous_sealed_by text,
    add column previous_version   integer,
    add column previous_ends_at   timestamptz,
    add constraint webhooks_previous_secret check (
        (previous_secret is null) = (previous_sealed_by is null) and (previous_secret is null) = (previous_version is null)
        and (previous_secret is null) = (previous_ends_at is null) and (state <> 'deleted' or previous_secret is null)),
    -- Each is sealed for its own version: none can stand for the other.
    add constraint webhooks_secret_order check (previous_version < sealed_version);
