-- Records that another system sends in bulk, and what became of each of its lines.
create table imports (
    id              uuid primary key,
    -- The admin token that sends it.
    caller          text not null,
    -- Names the import when it is sent again; forgotten when its results are.
    idempotency_key text,
    -- Counts how often it was sent: only the last sender goes on with it.
    attempt         integer not null default 1,
    state           text not null default 'running',
    bytes_expected  bigint,
    bytes_read      bigint not null default 0,
    -- The last line that was dealt with, and what became of all up to it.
    last_line       bigint not null default 0,
    created         bigint not null default 0,
    unchanged       bigint not null default 0,
    refused         bigint not null default 0,
    created_at      timestamptz not null,
    updated_at      timestamptz not null,
    finished_at     timestamptz,
    results_end_at  timestamptz not null,
    constraint imports_state check (state in ('running', 'interrupted', 'finished')),
    constraint imports_finished check ((state = 'finished') = (finished_at is not null)),
    constraint imports_key_length check (char_length(idempotency_key) between 1 and 255),
    constraint imports_counts check (created >= 0 and unchanged >= 0 and refused >= 0 and attempt >= 1)
);
create unique index imports_idempotency_key on imports (caller, idempotency_key) where idempotency_key is not null;
create index imports_state on imports (state, id);
create index imports_results_end on imports (results_end_at);

create table import_results (
    import_id     uuid not null references imports (id),
    line          bigint not null,
    -- In which attempt the line was dealt with.
    attempt       integer not null,
    -- Of the line: another one under the same number is another request.
    digest        bytea not null,
    outcome       text not null,
    result        jsonb not null,
    -- An activation code that was made, for whoever sends the import again.
    sealed_secret bytea,
    primary key (import_id, line),
    constraint import_results_digest_length check (octet_length(digest) = 32),
    constraint import_results_outcome check (outcome in ('created', 'unchanged', 'refused'))
);
create index import_results_outcome on import_results (import_id, outcome, line);

create trigger imports_remembered before delete on imports
    for each statement execute function refuse_change();
create trigger imports_not_truncated before truncate on imports
    for each statement execute function refuse_change();
