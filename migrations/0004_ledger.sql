-- Every token that ever left, written before it left.
--
-- Partitioned by time: `jti` is a version 7 UUID, whose first 48 bits are its
-- milliseconds since 1970, so that a range of jtis is a range of time, the
-- primary key finds one partition, and a month is dropped as a whole.

-- What a token grants, told once: millions of tokens share a few of these.
create table scope_sets (
    number   integer primary key generated always as identity,
    audience text not null,
    backend  text not null,
    scopes   text[] not null,
    constraint scope_sets_key unique (audience, backend, scopes)
);

create table issuances (
    jti             uuid not null,
    instance_number bigint not null,
    issued_at       timestamptz not null,
    expires_at      timestamptz not null,
    -- Tokens of one sync share this: what was asked and what was decided.
    sync_digest     bytea not null,
    idempotency     bytea,
    seats           bigint,
    scope_set       integer not null,
    key_number      smallint not null,
    catalog_number  smallint not null,
    ends_with_grant boolean not null,
    primary key (jti),
    constraint issuances_life check (issued_at < expires_at),
    constraint issuances_seats check (seats >= 1),
    constraint issuances_sync_digest_length check (octet_length(sync_digest) = 16)
) partition by range (jti);

-- An instance's tokens, latest first: what a retry gets again, and when its last one expires.
create index issuances_instance on issuances (instance_number, jti);

-- Takes what no monthly partition covers, so that a missing one never stops a sync.
create table issuances_default partition of issuances default;

-- The smallest version 7 UUID of an instant.
create function first_jti_of(instant timestamptz) returns uuid language sql immutable strict parallel safe as $$
    select (lpad(to_hex((extract(epoch from instant) * 1000)::bigint), 12, '0') || '70008000000000000000')::uuid
$$;

-- Makes the monthly partitions of the month of `instant` and of the months that
-- follow it, where they are missing and the default partition holds nothing of them.
create function make_issuance_partitions(instant timestamptz, months integer) returns integer language plpgsql as $$
declare
    month timestamptz := date_trunc('month', instant at time zone 'UTC') at time zone 'UTC';
    next  timestamptz;
    name  text;
    made  integer := 0;
begin
    for i in 0 .. months loop
        next := (month at time zone 'UTC' + interval '1 month') at time zone 'UTC';
        name := 'issuances_' || to_char(month at time zone 'UTC', 'YYYY_MM');
        if to_regclass(name) is null
           and not exists (select from issuances_default where jti >= first_jti_of(month) and jti < first_jti_of(next)) then
            execute format('create table %I partition of issuances for values from (%L) to (%L)',
                           name, first_jti_of(month), first_jti_of(next));
            made := made + 1;
        end if;
        month := next;
    end loop;
    return made;
end $$;

create trigger issuances_append_only before update or delete on issuances
    for each statement execute function refuse_change();
create trigger scope_sets_append_only before update or delete on scope_sets
    for each statement execute function refuse_change();
