-- Who is told of events over HTTP, and how far each was told.

create table webhooks (
    id             uuid primary key,
    url            text not null,
    description    text,
    -- Such as `license.revoke` or `license.*`; none for every event.
    event_types    text[] not null,
    state          text not null,
    state_since    timestamptz not null,
    state_reason   text,
    -- What signs the deliveries, sealed under a key that is not in this database; wiped with the webhook.
    sealed_secret  bytea,
    sealed_by      text,
    sealed_version integer,
    revision       bigint not null default 1,
    created_at     timestamptz not null,
    updated_at     timestamptz not null,
    constraint webhooks_url_length check (char_length(url) between 1 and 2048),
    constraint webhooks_description_length check (char_length(description) between 1 and 255),
    constraint webhooks_event_types check (cardinality(event_types) <= 100),
    constraint webhooks_state check (state in ('enabled', 'disabled', 'deleted')),
    constraint webhooks_secret check (
        (state = 'deleted') = (sealed_secret is null)
        and (sealed_secret is null) = (sealed_by is null) and (sealed_secret is null) = (sealed_version is null))
);
create index webhooks_state on webhooks (state, id);

create function keep_webhook_deleted() returns trigger language plpgsql as $$
begin
    if old.state = 'deleted' then
        raise exception 'a deleted webhook stays deleted'
            using errcode = 'check_violation', constraint = 'webhooks_deleted_is_final';
    end if;
    return new;
end $$;
create trigger webhooks_deleted_is_final before update on webhooks
    for each row execute function keep_webhook_deleted();
create trigger webhooks_remembered before delete on webhooks
    for each statement execute function refuse_change();
create trigger webhooks_not_truncated before truncate on webhooks
    for each statement execute function refuse_change();

-- Apart from the record, since it moves with each delivery and is nobody's change.
create table webhook_positions (
    webhook_id        uuid primary key references webhooks (id),
    -- The last event that was delivered, or that is of no type that is wanted.
    cursor            bigint not null,
    -- Failures in a row, all of the event that comes next.
    attempts          integer not null default 0,
    failing_since     timestamptz,
    next_attempt_at   timestamptz not null,
    last_attempt_at   timestamptz,
    last_status       smallint,
    last_error        text,
    last_delivered_at timestamptz,
    -- Who delivers now: nobody else does until then.
    lease             uuid,
    leased_until      timestamptz,
    constraint webhook_positions_cursor check (cursor >= 0),
    constraint webhook_positions_failing check ((attempts = 0) = (failing_since is null)),
    constraint webhook_positions_lease check ((lease is null) = (leased_until is null))
);
create index webhook_positions_due on webhook_positions (next_attempt_at);
