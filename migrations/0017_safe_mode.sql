-- A database that is behind what was signed or exported outside of it is an old copy of
-- itself: it would bring revoked keys back to life. Until it has been told what it forgot,
-- it mints nothing and changes no key.

alter table key_rings
    add column safe_mode_since  timestamptz,
    -- What it is behind.
    add column safe_mode_reason text,
    -- What an earlier copy of this database issued before this instant may be missing from the ledger.
    add column recovered_at     timestamptz,
    add constraint key_rings_safe_mode check ((safe_mode_since is null) = (safe_mode_reason is null));

create function keep_safe_mode() returns trigger language plpgsql as $$
begin
    if exists (select from key_rings where environment = new.environment and safe_mode_since is not null) then
        raise exception 'the ring of % is in safe mode', new.environment
            using errcode = 'check_violation', constraint = 'key_rings_in_safe_mode';
    end if;
    return new;
end $$;
create trigger signing_keys_safe_mode before insert or update on signing_keys
    for each row execute function keep_safe_mode();
create trigger key_sets_safe_mode before insert on key_sets
    for each row execute function keep_safe_mode();
create trigger key_roots_safe_mode before insert on key_roots
    for each row execute function keep_safe_mode();

-- The latest instant at which the clocks of this database and of a replica agreed. A clock that
-- shows less has jumped back: tokens and changes would be dated before what is already there.
create table clock_marks (
    environment text primary key references key_rings (environment),
    high_water  timestamptz not null
);
create function keep_clock_mark() returns trigger language plpgsql as $$
begin
    if new.environment <> old.environment or new.high_water < old.high_water then
        raise exception 'the high-water mark of the clock never falls'
            using errcode = 'check_violation', constraint = 'clock_marks_grow';
    end if;
    return new;
end $$;
create trigger clock_marks_grow before update on clock_marks
    for each row execute function keep_clock_mark();
