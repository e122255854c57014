-- The log of changes: every row of the audit, numbered in the order in which it was
-- committed, and chained, so that none can be altered, removed or slipped in unseen.
--
-- A number is given at the very end of a transaction, under a lock that is held until
-- its commit can be seen. Who reads up to a number has therefore read everything
-- before it, and a transaction that takes long comes late, not in between.

create table events (
    sequence       bigint primary key,
    audit_event_id uuid not null,
    -- As the audit has them, to find events by.
    at             timestamptz not null,
    actor          text not null,
    action         text not null,
    subject_kind   text not null,
    subject_id     text not null,
    request_id     text,
    -- SHA-256 of the digest before (32 zero bytes before the first) and of what `event_text` tells of this one.
    digest         bytea not null,
    constraint events_audit_event_key unique (audit_event_id),
    constraint events_audit_event foreign key (audit_event_id) references audit_events (id),
    constraint events_sequence check (sequence >= 1),
    constraint events_digest_length check (octet_length(digest) = 32)
);
create index events_time on events (at, sequence);
create index events_actor on events (actor, sequence);
create index events_action on events (action, sequence);
create index events_subject on events (subject_kind, subject_id, sequence);
create index events_request on events (request_id, sequence) where request_id is not null;

-- One event as it is proved and exported: JSON, in the one spelling that the server gives it.
create function event_text(number bigint, told audit_events) returns text language sql stable parallel safe as $$
    select jsonb_build_object(
        'sequence', number, 'id', told.id,
        'at', to_char(told.at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'actor', told.actor, 'action', told.action, 'subject_kind', told.subject_kind, 'subject_id', told.subject_id,
        'reason', told.reason, 'before', told.before, 'after', told.after, 'request_id', told.request_id)::text
$$;

-- Whoever inserts names the audit row alone; everything else follows from it and from the last event.
create function chain_event() returns trigger language plpgsql as $$
declare
    subject audit_events%rowtype;
    last    events%rowtype;
begin
    perform pg_advisory_xact_lock(7629678, 0);
    -- Statements of their own: their snapshots follow the wait.
    select * into last from events order by sequence desc limit 1;
    select * into strict subject from audit_events where id = new.audit_event_id;
    new.sequence := coalesce(last.sequence, 0) + 1;
    new.at := subject.at;
    new.actor := subject.actor;
    new.action := subject.action;
    new.subject_kind := subject.subject_kind;
    new.subject_id := subject.subject_id;
    new.request_id := subject.request_id;
    new.digest := sha256(coalesce(last.digest, decode(repeat('00', 32), 'hex'))
                         || convert_to(event_text(new.sequence, subject), 'UTF8'));
    return new;
end $$;
create trigger events_chained before insert on events
    for each row execute function chain_event();

-- What was remembered before there was an order.
do $$
declare
    remembered uuid;
begin
    for remembered in select id from audit_events order by at, id loop
        insert into events (audit_event_id) values (remembered);
    end loop;
end $$;

-- No change can forget its event: the audit row brings it along, last of all.
create function number_event() returns trigger language plpgsql as $$
begin
    insert into events (audit_event_id) values (new.id);
    return null;
end $$;
create constraint trigger audit_events_numbered after insert on audit_events
    deferrable initially deferred for each row execute function number_event();

create trigger events_append_only before update or delete on events
    for each statement execute function refuse_change();
create trigger events_not_truncated before truncate on events
    for each statement execute function refuse_change();
