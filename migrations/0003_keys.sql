-- Signing keys, key sets, and what is sealed.
--
-- The rules of a key's life are kept by the program, and kept again here: neither
-- a mistake nor a hand with psql can make two keys sign, bring a dead key back,
-- or edit what a root has signed.

-- One issuer and environment: what its key sets and its deny list add up to.
create table key_rings (
    environment           text primary key,
    issuer                text not null,
    -- The lowest key-set version with which a process of a backend may start.
    floor                 bigint not null default 0,
    deny_list_serial      bigint not null default 0,
    -- The longest life that any key set ever allowed a token.
    longest_token_seconds bigint not null default 0,
    created_at            timestamptz not null,
    constraint key_rings_environment_form check (environment ~ '^[a-z][a-z0-9-]{0,39}$'),
    constraint key_rings_numbers check (floor >= 0 and deny_list_serial >= 0 and longest_token_seconds >= 0)
);

-- The offline roots that sign key sets, version by version.
create table key_roots (
    environment text not null references key_rings (environment),
    version     bigint not null,
    -- The published file, byte for byte.
    file        bytea not null,
    -- What its signatures are over, and the digest by which backends trust it:
    -- signatures may be added to a root later, its name stays.
    payload     bytea not null,
    digest      bytea not null,
    recorded_at timestamptz not null,
    primary key (environment, version),
    constraint key_roots_digest check (digest = sha256(payload))
);

-- Whether a JWS (RFC 7515 §7.2) is over this payload.
create function is_signed_payload(jws bytea, payload bytea) returns boolean language sql stable strict as $$
    select convert_from(jws, 'UTF8')::jsonb ->> 'payload' = translate(encode(payload, 'base64'), '+/=' || chr(10), '-_')
$$;

create function keep_roots_in_order() returns trigger language plpgsql as $$
declare
    expected bigint;
begin
    perform 1 from key_rings where environment = new.environment for no key update;
    select coalesce(max(version), 0) + 1 into expected from key_roots where environment = new.environment;
    if new.version <> expected then
        raise exception 'the next root of % is %, not %', new.environment, expected, new.version
            using errcode = 'check_violation', constraint = 'key_roots_in_order';
    end if;
    if is_signed_payload(new.file, new.payload) is not true
       or convert_from(new.payload, 'UTF8')::jsonb ->> 'environment' is distinct from new.environment
       or (convert_from(new.payload, 'UTF8')::jsonb ->> 'version')::bigint is distinct from new.version then
        raise exception 'the file of root % says something else than its row', new.version
            using errcode = 'check_violation', constraint = 'key_roots_as_signed';
    end if;
    return new;
end $$;
create trigger key_roots_in_order before insert on key_roots
    for each row execute function keep_roots_in_order();

create table key_sets (
    environment    text not null references key_rings (environment),
    version        bigint not null,
    -- The published files, byte for byte.
    jwks           bytea not null,
    manifest       bytea not null,
    -- What the root signed: the manifest's payload, decoded.
    payload        bytea not null,
    jwks_digest    bytea not null,
    payload_digest bytea not null,
    -- The payload digest of the version before; null for version 1.
    prev           bytea,
    root_version   bigint not null,
    created_at     timestamptz not null,
    primary key (environment, version),
    foreign key (environment, root_version) references key_roots (environment, version),
    constraint key_sets_jwks_digest check (jwks_digest = sha256(jwks)),
    constraint key_sets_payload_digest check (payload_digest = sha256(payload)),
    constraint key_sets_prev check ((version = 1) = (prev is null))
);

-- Consecutive, chained, and saying the same in the file as in the columns.
create function keep_key_set_chain() returns trigger language plpgsql as $$
declare
    head key_sets%rowtype;
    said jsonb := convert_from(new.payload, 'UTF8')::jsonb;
begin
    perform 1 from key_rings where environment = new.environment for no key update;
    select * into head from key_sets where environment = new.environment order by version desc limit 1;
    if new.version <> coalesce(head.version, 0) + 1 then
        raise exception 'the next key set of % is %, not %', new.environment, coalesce(head.version, 0) + 1, new.version
            using errcode = 'check_violation', constraint = 'key_sets_in_order';
    end if;
    if new.prev is distinct from head.payload_digest then
        raise exception 'key set % does not name the digest of the one before', new.version
            using errcode = 'check_violation', constraint = 'key_sets_chained';
    end if;
    if is_signed_payload(new.manifest, new.payload) is not true
       or said ->> 'environment' is distinct from new.environment
       or (said ->> 'version')::bigint is distinct from new.version
       or (said ->> 'root_version')::bigint is distinct from new.root_version
       or said ->> 'jwks_sha256' is distinct from 'sha256:' || encode(new.jwks_digest, 'hex')
       or said ->> 'prev' is distinct from 'sha256:' || encode(new.prev, 'hex') then
        raise exception 'the manifest of key set % says something else than its row', new.version
            using errcode = 'check_violation', constraint = 'key_sets_as_signed';
    end if;
    return new;
end $$;
create trigger key_sets_chained before insert on key_sets
    for each row execute function keep_key_set_chain();

create table signing_keys (
    -- The RFC 7638 thumbprint of the public half: a key has no other name.
    kid            text primary key,
    -- What the ledger calls it.
    number         smallint not null generated always as identity,
    environment    text not null references key_rings (environment),
    purpose        text not null,
    alg            text not null,
    state          text not null,
    public_jwk     jsonb not null,
    generated_at   timestamptz not null,
    -- The hard end, which verifiers enforce by themselves.
    not_after      timestamptz not null,
    published_in   bigint,
    published_at   timestamptz,
    -- Evidence counts for this key from here on.
    armed_at       timestamptz,
    activated_at   timestamptz,
    demoted_at     timestamptz,
    -- Entered its final state.
    ended_at       timestamptz,
    -- Its entry on the deny list; only ever stricter.
    denial         text,
    denied_after   timestamptz,
    -- The private half, sealed under a key that is not in this database. A key that
    -- does not sign any more has none.
    sealed         bytea,
    sealed_by      text,
    sealed_version integer,
    constraint signing_keys_number_key unique (number),
    foreign key (environment, published_in) references key_sets (environment, version),
    constraint signing_keys_kid_form check (kid ~ '^[A-Za-z0-9_-]{43}$'),
    constraint signing_keys_purpose check (purpose in ('access_tokens', 'audit_checkpoints', 'deny_list')),
    constraint signing_keys_alg check (alg in ('EdDSA', 'RS256')),
    constraint signing_keys_state check (
        state in ('generated', 'published', 'active', 'retiring', 'retired', 'revoked', 'abandoned')),
    constraint signing_keys_life check (
        not_after > generated_at and not_after - generated_at <= interval '400 days'),
    constraint signing_keys_public_only check (not public_jwk ?| array['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k']),
    constraint signing_keys_publication check (
        (published_in is null) = (published_at is null)
        and (state not in ('published', 'active', 'retiring', 'retired', 'revoked') or published_in is not null)
        and (state <> 'generated' or published_in is null)),
    constraint signing_keys_story check (
        (armed_at is null or published_in is not null)
        and (activated_at is null or published_in is not null)
        and (demoted_at is null or activated_at is not null)
        and (state not in ('active', 'retiring', 'retired') or activated_at is not null)
        and (demoted_at is null or state in ('retiring', 'retired', 'revoked'))
        and (state not in ('retiring', 'retired') or demoted_at is not null)
        and (state in ('retired', 'revoked', 'abandoned')) = (ended_at is not null)),
    constraint signing_keys_denial check (
        (denial is null or denial in ('issued_after', 'always'))
        and (denial is not distinct from 'issued_after') = (denied_after is not null)
        and (state not in ('generated', 'published', 'active') or denial is null)
        and (state <> 'retiring' or denial is not null)
        and (state not in ('retired', 'revoked') or denial is not distinct from 'always')
        and (state <> 'abandoned' or published_in is null or denial is not distinct from 'always')),
    constraint signing_keys_private_half check (
        (sealed is null) = (sealed_by is null) and (sealed is null) = (sealed_version is null)
        and (state in ('generated', 'published', 'active')) = (sealed is not null))
);
-- At most one key signs.
create unique index signing_keys_one_active on signing_keys (environment, purpose, alg) where state = 'active';

create function keep_key_life() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        if new.state <> 'generated' or new.armed_at is not null or new.denial is not null then
            raise exception 'a key begins its life as generated, not %', new.state
                using errcode = 'check_violation', constraint = 'signing_keys_begin';
        end if;
        return new;
    end if;

    if (new.kid, new.number, new.environment, new.purpose, new.alg, new.public_jwk, new.generated_at, new.not_after)
       is distinct from
       (old.kid, old.number, old.environment, old.purpose, old.alg, old.public_jwk, old.generated_at, old.not_after) then
        raise exception 'what key % was born with does not change', old.kid
            using errcode = 'check_violation', constraint = 'signing_keys_constant';
    end if;
    if old.state <> new.state and (old.state, new.state) not in (
            ('generated', 'published'), ('generated', 'abandoned'),
            ('published', 'active'), ('published', 'abandoned'), ('published', 'revoked'),
            ('active', 'retiring'), ('active', 'revoked'),
            ('retiring', 'retired'), ('retiring', 'revoked')) then
        raise exception 'key % is %; it cannot become %', old.kid, old.state, new.state
            using errcode = 'check_violation', constraint = 'signing_keys_edges';
    end if;
    if (old.published_in is not null and (new.published_in, new.published_at) is distinct from (old.published_in, old.published_at))
       or (old.armed_at is not null and new.armed_at is distinct from old.armed_at)
       or (old.activated_at is not null and new.activated_at is distinct from old.activated_at)
       or (old.demoted_at is not null and new.demoted_at is distinct from old.demoted_at)
       or (old.ended_at is not null and new.ended_at is distinct from old.ended_at) then
        raise exception 'what happened to key % stays as it happened', old.kid
            using errcode = 'check_violation', constraint = 'signing_keys_history';
    end if;
    if (old.denial = 'always' and new.denial is distinct from 'always')
       or (old.denial = 'issued_after'
           and (new.denial is null or new.denial = 'issued_after' and new.denied_after > old.denied_after)) then
        raise exception 'the denial of key % only grows stricter', old.kid
            using errcode = 'check_violation', constraint = 'signing_keys_denial_grows';
    end if;
    -- Sealing anew (another key-encryption key) counts the row version up.
    if new.sealed is distinct from old.sealed and new.sealed is not null
       and (old.sealed is null or new.sealed_version <> old.sealed_version + 1) then
        raise exception 'the private half of key % was replaced', old.kid
            using errcode = 'check_violation', constraint = 'signing_keys_sealing';
    end if;
    return new;
end $$;
create trigger signing_keys_life before insert or update on signing_keys
    for each row execute function keep_key_life();

-- A key is published by a key set that carries it.
create function keep_key_carried() returns trigger language plpgsql as $$
begin
    if not exists (
        select from key_sets s
        where s.environment = new.environment and s.version = new.published_in
          and convert_from(s.payload, 'UTF8')::jsonb -> 'keys' @> jsonb_build_array(jsonb_build_object('kid', new.kid))) then
        raise exception 'key set % does not carry key %', new.published_in, new.kid
            using errcode = 'check_violation', constraint = 'signing_keys_carried';
    end if;
    return new;
end $$;
create trigger signing_keys_carried before update on signing_keys
    for each row when (old.published_in is null and new.published_in is not null)
    execute function keep_key_carried();

-- The floor never falls and never passes the newest root-signed set.
create function keep_ring_growing() returns trigger language plpgsql as $$
begin
    if (new.environment, new.issuer) is distinct from (old.environment, old.issuer)
       or new.floor < old.floor or new.deny_list_serial < old.deny_list_serial
       or new.longest_token_seconds < old.longest_token_seconds then
        raise exception 'the numbers of ring % only grow', old.environment
            using errcode = 'check_violation', constraint = 'key_rings_grow';
    end if;
    if new.floor > old.floor
       and not exists (select from key_sets where environment = new.environment and version = new.floor) then
        raise exception 'the floor of % cannot pass its newest key set', old.environment
            using errcode = 'check_violation', constraint = 'key_rings_floor';
    end if;
    return new;
end $$;
create trigger key_rings_grow before update on key_rings
    for each row execute function keep_ring_growing();
create function begin_ring_empty() returns trigger language plpgsql as $$
begin
    if new.floor <> 0 or new.deny_list_serial <> 0 or new.longest_token_seconds <> 0 then
        raise exception 'ring % begins empty', new.environment
            using errcode = 'check_violation', constraint = 'key_rings_begin';
    end if;
    return new;
end $$;
create trigger key_rings_begin before insert on key_rings
    for each row execute function begin_ring_empty();

-- Each change of a key's state has exactly one audit row, in the same transaction.
-- No key enters a state twice, so one row per key and action is all there can be;
-- that there is one is checked when the transaction commits.
create unique index audit_events_key_changes on audit_events (subject_id, action)
    where subject_kind = 'signing_key'
      and action in ('key.generated', 'key.published', 'key.activated', 'key.demoted',
                     'key.retired', 'key.revoked', 'key.abandoned');

create function keep_keys_audited() returns trigger language plpgsql as $$
declare
    expected text := case new.state
        when 'active' then 'key.activated'
        when 'retiring' then 'key.demoted'
        else 'key.' || new.state end;
begin
    if not exists (
        select from audit_events
        where subject_kind = 'signing_key' and subject_id = new.kid and action = expected) then
        raise exception 'key % became % without an audit row', new.kid, new.state
            using errcode = 'check_violation', constraint = 'signing_keys_audited';
    end if;
    return null;
end $$;
create constraint trigger signing_keys_audited after insert or update of state on signing_keys
    deferrable initially deferred for each row execute function keep_keys_audited();

-- Secrets of the service itself, sealed like private halves.
create table sealed_secrets (
    environment    text not null,
    name           text not null,
    -- A secret is replaced by its next version; what the older one opened keeps working.
    version        integer not null,
    sealed         bytea not null,
    sealed_by      text not null,
    -- Counts the sealings of this row: sealing anew under another key-encryption
    -- key changes no secret.
    sealed_version integer not null default 1,
    created_at     timestamptz not null,
    primary key (environment, name, version)
);

create function keep_sealed_secret() returns trigger language plpgsql as $$
begin
    if (new.environment, new.name, new.version, new.created_at)
       is distinct from (old.environment, old.name, old.version, old.created_at)
       or new.sealed_version <> old.sealed_version + 1 then
        raise exception 'secret % (version %) was replaced', old.name, old.version
            using errcode = 'check_violation', constraint = 'sealed_secrets_sealing';
    end if;
    return new;
end $$;
create trigger sealed_secrets_sealing before update on sealed_secrets
    for each row execute function keep_sealed_secret();

do $$
declare
    remembered text;
begin
    foreach remembered in array array['key_rings', 'signing_keys', 'sealed_secrets'] loop
        execute format('create trigger %I before delete on %I for each statement execute function refuse_change()',
                       remembered || '_remembered', remembered);
        execute format('create trigger %I before truncate on %I for each statement execute function refuse_change()',
                       remembered || '_not_truncated', remembered);
    end loop;
    foreach remembered in array array['key_roots', 'key_sets'] loop
        execute format('create trigger %I before update or delete on %I for each statement execute function refuse_change()',
                       remembered || '_append_only', remembered);
        execute format('create trigger %I before truncate on %I for each statement execute function refuse_change()',
                       remembered || '_not_truncated', remembered);
    end loop;
end $$;
