-- How far the line of one-time values of each instance has come: by it two installations that
-- use one identity are told apart from one whose answer was lost. Only instances that take part
-- have a row. It is no record of what was bought, and changes with every sync.
create table sync_lines (
    instance_uid uuid primary key references instances (uid),
    -- The newest value that came back; null where a line starts anew, as an administrator decided.
    seen         bytea,
    seen_at      timestamptz not null,
    constraint sync_lines_seen_length check (octet_length(seen) = 16)
);

create trigger sync_lines_remembered before delete on sync_lines
    for each statement execute function refuse_change();
create trigger sync_lines_not_truncated before truncate on sync_lines
    for each statement execute function refuse_change();
