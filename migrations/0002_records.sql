-- What was bought, by whom, and which installations use it.
--
-- Nothing here is ever deleted: revoked, released, canceled and ended records are
-- remembered. Every rule that the program keeps is kept here as well, so that a
-- mistake in the program, or a hand with psql, cannot break it.

create function refuse_change() returns trigger language plpgsql as $$
begin
    raise exception '% on % is refused: its rows are remembered for good', tg_op, tg_table_name
        using errcode = 'restrict_violation', constraint = tg_table_name || '_append_only';
end $$;

create table customers (
    id           uuid primary key,
    name         text not null,
    email        text,
    external_ref text,
    archived_at  timestamptz,
    revision     bigint not null default 1,
    created_at   timestamptz not null,
    updated_at   timestamptz not null,
    constraint customers_external_ref_key unique (external_ref),
    constraint customers_name_length check (char_length(name) between 1 and 255),
    constraint customers_email_length check (char_length(email) between 3 and 320),
    constraint customers_external_ref_length check (char_length(external_ref) between 1 and 255)
);

create table subscriptions (
    id               uuid primary key,
    customer_id      uuid not null references customers (id),
    license_type     text not null,
    starts_at        timestamptz not null,
    ends_at          timestamptz not null,
    -- The same term as the contract words it, where it was made in dates.
    starts_on        date,
    ends_on          date,
    time_zone        text not null,
    -- Ends that the term had before it was made longer (oldest first): a purchase
    -- that ran to one of them keeps the grace it had there.
    earlier_ends     timestamptz[] not null default '{}',
    seats            integer not null,
    trial            boolean not null,
    condition        text not null default 'active',
    condition_since  timestamptz not null,
    condition_reason text,
    external_ref     text,
    revision         bigint not null default 1,
    created_at       timestamptz not null,
    updated_at       timestamptz not null,
    constraint subscriptions_external_ref_key unique (external_ref),
    constraint subscriptions_term check (starts_at < ends_at),
    constraint subscriptions_seats check (seats >= 1),
    constraint subscriptions_condition check (condition in ('active', 'suspended', 'canceled')),
    constraint subscriptions_external_ref_length check (char_length(external_ref) between 1 and 255)
);
create index subscriptions_customer on subscriptions (customer_id, id);

-- The timeline. Written by the trigger below alone, so that it cannot disagree
-- with the subscription's own condition.
create table subscription_conditions (
    subscription_id uuid not null references subscriptions (id),
    sequence        integer not null,
    condition       text not null,
    since           timestamptz not null,
    reason          text,
    primary key (subscription_id, sequence),
    constraint subscription_conditions_condition check (condition in ('active', 'suspended', 'canceled'))
);

create function keep_subscription_timeline() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' then
        if old.condition = 'canceled' and new.condition <> 'canceled' then
            raise exception 'a canceled subscription stays canceled'
                using errcode = 'check_violation', constraint = 'subscriptions_canceled_is_final';
        end if;
        if new.condition = old.condition then
            return null;
        end if;
    end if;
    insert into subscription_conditions (subscription_id, sequence, condition, since, reason)
    select new.id, coalesce(max(sequence), 0) + 1, new.condition, new.condition_since, new.condition_reason
    from subscription_conditions where subscription_id = new.id;
    return null;
end $$;
create trigger subscriptions_timeline after insert or update on subscriptions
    for each row execute function keep_subscription_timeline();

create function remember_earlier_end() returns trigger language plpgsql as $$
begin
    if new.ends_at > old.ends_at and not old.ends_at = any (old.earlier_ends) then
        new.earlier_ends := old.earlier_ends || old.ends_at;
    end if;
    return new;
end $$;
create trigger subscriptions_earlier_ends before update on subscriptions
    for each row execute function remember_earlier_end();

create table add_on_purchases (
    id              uuid primary key,
    subscription_id uuid not null references subscriptions (id),
    add_on          text not null,
    quantity        integer not null,
    starts_at       timestamptz not null,
    ends_at         timestamptz not null,
    starts_on       date,
    ends_on         date,
    -- Set when the purchase was ended before its term, and final.
    ended_at        timestamptz,
    external_ref    text,
    revision        bigint not null default 1,
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    constraint add_on_purchases_external_ref_key unique (external_ref),
    constraint add_on_purchases_term check (starts_at < ends_at),
    constraint add_on_purchases_quantity check (quantity >= 1),
    constraint add_on_purchases_external_ref_length check (char_length(external_ref) between 1 and 255)
);
create index add_on_purchases_subscription on add_on_purchases (subscription_id, id);

create table licenses (
    id                     uuid primary key,
    subscription_id        uuid not null references subscriptions (id),
    kind                   text not null,
    max_instances          integer not null,
    legacy_bearer          boolean not null default false,
    -- Keyed digest; the code itself is shown once and kept nowhere.
    activation_code_digest bytea not null,
    external_ref           text,
    revoked_at             timestamptz,
    revoked_reason         text,
    revision               bigint not null default 1,
    created_at             timestamptz not null,
    updated_at             timestamptz not null,
    constraint licenses_activation_code_key unique (activation_code_digest),
    constraint licenses_external_ref_key unique (external_ref),
    constraint licenses_activation_code_length check (octet_length(activation_code_digest) = 32),
    constraint licenses_kind check (kind in ('online', 'offline', 'legacy')),
    constraint licenses_max_instances check (max_instances >= 1),
    constraint licenses_revoked_reason check ((revoked_at is null) = (revoked_reason is null))
);
create index licenses_subscription on licenses (subscription_id, id);

create table instances (
    uid                      uuid primary key,
    -- What the ledger calls it: half the width of the uid.
    number                   bigint not null generated always as identity,
    license_id               uuid not null references licenses (id),
    instance_id              uuid not null,
    hostname                 text not null,
    version                  text not null,
    deployment               text not null,
    kind                     text not null,
    state                    text not null default 'active',
    state_since              timestamptz not null,
    state_reason             text,
    -- A released instance keeps its place until its last token has expired.
    place_held_until         timestamptz,
    -- Raw Ed25519 point; such an instance has no secret.
    public_key               bytea,
    reactivation_allowed     boolean not null default false,
    identity_contested_at    timestamptz,
    disabled_unit_primitives text[] not null default '{}',
    disabled_backends        text[] not null default '{}',
    reported_usage           jsonb,
    revision                 bigint not null default 1,
    created_at               timestamptz not null,
    updated_at               timestamptz not null,
    constraint instances_number_key unique (number),
    constraint instances_license_instance_key unique (license_id, instance_id),
    constraint instances_deployment check (deployment in ('self_managed', 'dedicated')),
    constraint instances_kind check (kind in ('production', 'staging', 'development')),
    constraint instances_state check (state in ('active', 'blocked', 'released')),
    constraint instances_hostname_length check (char_length(hostname) between 1 and 255),
    constraint instances_version_length check (char_length(version) between 1 and 64),
    constraint instances_public_key_length check (octet_length(public_key) = 32)
);
-- One installation cannot be active under two licenses.
create unique index instances_held_instance_id_key on instances (instance_id) where state <> 'released';
create index instances_license on instances (license_id, uid);

-- The cap of a license, per kind of instance: those that hold a place now.
create function keep_instance_cap() returns trigger language plpgsql as $$
declare
    cap   integer;
    held  integer;
begin
    if new.state = 'released' or (tg_op = 'UPDATE' and old.state <> 'released' and old.kind = new.kind) then
        return new;
    end if;
    select max_instances into cap from licenses where id = new.license_id for no key update;
    select count(*) into held from instances
        where license_id = new.license_id and kind = new.kind and uid <> new.uid
          and (state <> 'released' or place_held_until > new.updated_at);
    if held >= cap then
        raise exception 'license % has no place left for a % instance', new.license_id, new.kind
            using errcode = 'check_violation', constraint = 'instances_cap';
    end if;
    return new;
end $$;
create trigger instances_cap before insert or update of state, kind on instances
    for each row execute function keep_instance_cap();

create table instance_credentials (
    id            uuid primary key,
    -- Which came first, where two are of one instant.
    sequence      bigint not null generated always as identity,
    instance_uid  uuid not null references instances (uid),
    digest        bytea not null,
    -- How it came about: a contest can arise only between activations.
    origin        text not null,
    created_at    timestamptz not null,
    first_used_at timestamptz,
    last_used_at  timestamptz,
    -- From this instant on it opens nothing.
    dies_at       timestamptz,
    constraint instance_credentials_digest_key unique (digest),
    constraint instance_credentials_digest_length check (octet_length(digest) = 32),
    constraint instance_credentials_origin check (origin in ('activation', 'rotation'))
);
create index instance_credentials_instance on instance_credentials (instance_uid, sequence);

-- Two live secrets at most. `created_at` of the newest is the time of the change.
create function keep_two_credentials() returns trigger language plpgsql as $$
begin
    perform 1 from instances where uid = new.instance_uid for no key update;
    if (select count(*) from instance_credentials
        where instance_uid = new.instance_uid and (dies_at is null or dies_at > new.created_at)) >= 2 then
        raise exception 'instance % has two live secrets already', new.instance_uid
            using errcode = 'check_violation', constraint = 'instance_credentials_two_live';
    end if;
    return new;
end $$;
create trigger instance_credentials_two_live before insert on instance_credentials
    for each row execute function keep_two_credentials();

-- Client assertions and proofs that were accepted (RFC 7523 §3: `jti` once).
create table assertion_uses (
    instance_uid uuid not null references instances (uid),
    jti_digest   bytea not null,
    -- Of the assertion and of the request it came with: an identical retry passes.
    request      bytea not null,
    expires_at   timestamptz not null,
    primary key (instance_uid, jti_digest)
);
create index assertion_uses_expiry on assertion_uses (expires_at);

create table admin_tokens (
    id           uuid primary key,
    name         text not null,
    digest       bytea not null,
    scopes       text[] not null,
    expires_at   timestamptz,
    last_used_at timestamptz,
    revoked_at   timestamptz,
    created_at   timestamptz not null,
    constraint admin_tokens_digest_key unique (digest),
    constraint admin_tokens_digest_length check (octet_length(digest) = 32),
    constraint admin_tokens_name_length check (char_length(name) between 1 and 255),
    constraint admin_tokens_scopes check (
        cardinality(scopes) >= 1
        and scopes <@ array['fulfillment:read', 'fulfillment:write', 'licenses:revoke', 'instances:write',
                            'backends:write', 'audit:read', 'admin_tokens:write'])
);

create table backends (
    name         text primary key,
    alg          text not null,
    trust        text not null,
    min_live     integer not null,
    -- Keyed digest of its `tab_…`; none until one was made.
    token_digest bytea,
    revision     bigint not null default 1,
    created_at   timestamptz not null,
    updated_at   timestamptz not null,
    constraint backends_token_digest_key unique (token_digest),
    constraint backends_alg check (alg in ('EdDSA', 'RS256')),
    constraint backends_trust check (trust in ('embedded', 'discovery')),
    constraint backends_min_live check (min_live >= 0)
);

-- What a record was, at each of its revisions: the past can be explained as it
-- was recorded then.
create table record_revisions (
    kind        text not null,
    id          uuid not null,
    revision    bigint not null,
    recorded_at timestamptz not null,
    record      jsonb not null,
    primary key (kind, id, revision)
);
create index record_revisions_time on record_revisions (kind, id, recorded_at);

create function keep_revision() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' then
        if new.revision <> old.revision + 1 then
            raise exception '% %: revision % does not follow %', tg_table_name, to_jsonb(new) ->> tg_argv[0],
                new.revision, old.revision
                using errcode = 'check_violation', constraint = tg_table_name || '_revision';
        end if;
    end if;
    insert into record_revisions (kind, id, revision, recorded_at, record)
    values (tg_table_name, (to_jsonb(new) ->> tg_argv[0])::uuid, new.revision, new.updated_at,
            to_jsonb(new) - array['activation_code_digest', 'public_key', 'token_digest', 'reported_usage']);
    return null;
end $$;
create trigger customers_revision after insert or update on customers
    for each row execute function keep_revision('id');
create trigger subscriptions_revision after insert or update on subscriptions
    for each row execute function keep_revision('id');
create trigger add_on_purchases_revision after insert or update on add_on_purchases
    for each row execute function keep_revision('id');
create trigger licenses_revision after insert or update on licenses
    for each row execute function keep_revision('id');
create trigger instances_revision after insert or update on instances
    for each row execute function keep_revision('uid');

-- Who changed what, when. One row for each change, in the change's own transaction.
create table audit_events (
    id           uuid primary key,
    at           timestamptz not null,
    actor        text not null,
    action       text not null,
    subject_kind text not null,
    subject_id   text not null,
    reason       text,
    before       jsonb,
    after        jsonb,
    request_id   text
);
create index audit_events_subject on audit_events (subject_kind, subject_id, id);

-- Answers that a retry gets again (see the API's pages on idempotency).
create table idempotency_keys (
    caller      text not null,
    method      text not null,
    path        text not null,
    key         text not null,
    -- SHA-256 of the request: another body with the same key is refused.
    fingerprint bytea not null,
    status      smallint,
    etag        text,
    location    text,
    -- Sealed: it may hold a secret that was shown once.
    sealed_body bytea,
    created_at  timestamptz not null,
    expires_at  timestamptz not null,
    primary key (caller, method, path, key),
    constraint idempotency_keys_length check (char_length(key) between 1 and 255)
);
create index idempotency_keys_expiry on idempotency_keys (expires_at);

do $$
declare
    remembered text;
begin
    foreach remembered in array array['customers', 'subscriptions', 'add_on_purchases', 'licenses', 'instances',
                                      'admin_tokens', 'backends'] loop
        execute format('create trigger %I before delete on %I for each statement execute function refuse_change()',
                       remembered || '_remembered', remembered);
        execute format('create trigger %I before truncate on %I for each statement execute function refuse_change()',
                       remembered || '_not_truncated', remembered);
    end loop;
    foreach remembered in array array['subscription_conditions', 'record_revisions', 'audit_events'] loop
        execute format('create trigger %I before update or delete on %I for each statement execute function refuse_change()',
                       remembered || '_append_only', remembered);
        execute format('create trigger %I before truncate on %I for each statement execute function refuse_change()',
                       remembered || '_not_truncated', remembered);
    end loop;
end $$;

-- Final states stay final.
create function keep_license_revoked() returns trigger language plpgsql as $$
begin
    if old.revoked_at is not null and new.revoked_at is distinct from old.revoked_at then
        raise exception 'a revoked license stays revoked'
            using errcode = 'check_violation', constraint = 'licenses_revoked_is_final';
    end if;
    return new;
end $$;
create trigger licenses_revoked_is_final before update on licenses
    for each row execute function keep_license_revoked();

create function keep_purchase_ended() returns trigger language plpgsql as $$
begin
    if old.ended_at is not null and new.ended_at is distinct from old.ended_at then
        raise exception 'an ended purchase stays ended'
            using errcode = 'check_violation', constraint = 'add_on_purchases_ended_is_final';
    end if;
    return new;
end $$;
create trigger add_on_purchases_ended_is_final before update on add_on_purchases
    for each row execute function keep_purchase_ended();
