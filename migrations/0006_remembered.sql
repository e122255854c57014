-- What is remembered stays so by whichever way it is reached: the ledger's partitions
-- like the ledger itself, secrets that were replaced, and the revocation of an
-- administrator's token like that of a license.

-- Of each row, since a statement on a partition does not fire what stands on the table
-- above it. Partitions that are made later have it from there.
create trigger issuances_rows_append_only before update or delete on issuances
    for each row execute function refuse_change();

create trigger scope_sets_not_truncated before truncate on scope_sets
    for each statement execute function refuse_change();
create trigger issuances_not_truncated before truncate on issuances
    for each statement execute function refuse_change();

-- A month is forgotten as a whole, by dropping its partition; never by emptying it.
create function refuse_truncation_of_partitions() returns integer language plpgsql as $$
declare
    partition regclass;
    guarded   integer := 0;
begin
    for partition in
        select inhrelid::regclass from pg_inherits
        where inhparent = 'issuances'::regclass
          and not exists (select from pg_trigger where tgrelid = inhrelid and tgname = 'issuances_not_truncated')
    loop
        execute format('create trigger issuances_not_truncated before truncate on %s for each statement execute function refuse_change()',
                       partition);
        guarded := guarded + 1;
    end loop;
    return guarded;
end $$;

create or replace function make_issuance_partitions(instant timestamptz, months integer) returns integer language plpgsql as $$
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
    if made > 0 then
        perform refuse_truncation_of_partitions();
    end if;
    return made;
end $$;

select refuse_truncation_of_partitions();

-- A secret that was replaced opens nothing, and is known to have been one.
create trigger instance_credentials_remembered before delete on instance_credentials
    for each statement execute function refuse_change();
create trigger instance_credentials_not_truncated before truncate on instance_credentials
    for each statement execute function refuse_change();

create function keep_admin_token_revoked() returns trigger language plpgsql as $$
begin
    if old.revoked_at is not null and new.revoked_at is distinct from old.revoked_at then
        raise exception 'a revoked token stays revoked'
            using errcode = 'check_violation', constraint = 'admin_tokens_revoked_is_final';
    end if;
    return new;
end $$;
create trigger admin_tokens_revoked_is_final before update on admin_tokens
    for each row execute function keep_admin_token_revoked();
