-- What several replicas agree on: who does the work that one does for all, and which
-- programs can run on this schema while one release follows another.

-- One row, renewed by its holder every few seconds. A holder that dies is followed when
-- its time is over, one that stops gives the rest of it back.
create table background_leases (
    work        text primary key,
    holder      uuid not null,
    -- Host and process, for people.
    holder_name text not null,
    since       timestamptz not null,
    until       timestamptz not null
);

create trigger background_leases_remembered before delete on background_leases
    for each statement execute function refuse_change();
create trigger background_leases_not_truncated before truncate on background_leases
    for each statement execute function refuse_change();

-- The migration that a program must know to run here. Migrations that only add leave it
-- alone, so that the program before them goes on. One that takes something away raises it
-- to the first migration whose program no longer needed that.
create table schema_floor (
    only_row boolean primary key default true,
    version  bigint not null,
    constraint schema_floor_only_row check (only_row)
);
insert into schema_floor (version) values (36);

create function keep_schema_floor() returns trigger language plpgsql as $$
begin
    if new.version < old.version then
        raise exception 'the floor of the schema never falls'
            using errcode = 'restrict_violation', constraint = 'schema_floor_never_falls';
    end if;
    return new;
end $$;
create trigger schema_floor_never_falls before update on schema_floor
    for each row execute function keep_schema_floor();
create trigger schema_floor_remembered before delete on schema_floor
    for each statement execute function refuse_change();
create trigger schema_floor_not_truncated before truncate on schema_floor
    for each statement execute function refuse_change();
