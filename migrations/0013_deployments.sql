-- What runs of each backend, what it has proved, and the signed deny lists.

-- One running process of a backend, as it last reported itself.
create table deployments (
    backend           text not null references backends (name),
    process_id        text not null,
    standing          text not null default 'running',
    -- Why an administrator said that it is gone.
    forgotten_because text,
    build             text not null,
    key_set_version   bigint not null,
    -- Of the plain set; whatever was reported, also one that was never published.
    key_set_digest    bytea not null,
    is_published      boolean not null,
    verifier          text not null,
    algorithms        text[] not null,
    -- Null: it reads no deny list.
    deny_list_serial  bigint,
    first_seen_at     timestamptz not null,
    last_seen_at      timestamptz not null,
    -- It accepted a forged probe: no verdict counts until it runs another build.
    disproved_at      timestamptz,
    -- The probes of the last beats, whose verdicts it still may report.
    probes            jsonb not null default '[]',
    primary key (backend, process_id),
    constraint deployments_process_id_form check (process_id ~ '^[A-Za-z0-9._-]{1,128}$'),
    constraint deployments_standing check (standing in ('forgotten', 'running', 'signed_off')),
    constraint deployments_forgotten check ((standing = 'forgotten') = (forgotten_because is not null)),
    constraint deployments_digest check (octet_length(key_set_digest) = 32),
    constraint deployments_numbers check (key_set_version >= 0 and deny_list_serial >= 0),
    constraint deployments_times check (first_seen_at <= last_seen_at)
);
create index deployments_running on deployments (last_seen_at) where standing = 'running';

-- That a process believes a key: it accepted every true probe of it and no forged one.
create table deployment_proofs (
    backend         text not null,
    process_id      text not null,
    kid             text not null,
    -- Without a break since the first.
    first_proved_at timestamptz not null,
    last_proved_at  timestamptz not null,
    primary key (backend, process_id, kid),
    foreign key (backend, process_id) references deployments (backend, process_id) on delete cascade,
    constraint deployment_proofs_kid_form check (kid ~ '^[A-Za-z0-9_-]{43}$'),
    constraint deployment_proofs_times check (first_proved_at <= last_proved_at)
);

-- A build that a deployment pipeline has checked: it speaks for a backend that is scaled to zero.
create table checked_builds (
    backend         text not null references backends (name),
    build           text not null,
    environment     text not null,
    key_set_version bigint not null,
    checked_at      timestamptz not null,
    primary key (backend, build, key_set_version),
    foreign key (environment, key_set_version) references key_sets (environment, version)
);

-- The signed deny lists, one for each serial. One that did not change is signed anew every hour.
create table deny_lists (
    environment text not null references key_rings (environment),
    serial      bigint not null,
    created_at  timestamptz not null,
    -- The compact JWS (RFC 7515 §7.1), as it is handed out.
    jws         text not null,
    primary key (environment, serial),
    constraint deny_lists_serial check (serial >= 0)
);

create function keep_deny_list() returns trigger language plpgsql as $$
begin
    if (new.environment, new.serial) is distinct from (old.environment, old.serial) or new.created_at < old.created_at
       or exists (select from deny_lists where environment = new.environment and serial > new.serial) then
        raise exception 'deny list % of % was replaced', old.serial, old.environment
            using errcode = 'check_violation', constraint = 'deny_lists_kept';
    end if;
    return new;
end $$;
create trigger deny_lists_kept before update on deny_lists
    for each row execute function keep_deny_list();
create trigger deny_lists_remembered before delete on deny_lists
    for each statement execute function refuse_change();
create trigger deny_lists_not_truncated before truncate on deny_lists
    for each statement execute function refuse_change();
