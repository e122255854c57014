-- The ledger forgets whole months, and says what it forgot.

-- Drops the monthly partitions that end by `before`, and tells of each when it began and
-- ended, about how many tokens it held and how large it was. Never one that may hold a
-- token that lives: those live for three days at the most, and a week is kept whoever asks.
create function drop_issuance_partitions(before timestamptz)
returns table (name text, since timestamptz, until timestamptz, about_tokens bigint, bytes bigint) language plpgsql as $$
begin
    if before > clock_timestamp() - interval '7 days' then
        raise exception 'the ledger keeps the last seven days'
            using errcode = 'restrict_violation', constraint = 'issuances_last_week_is_kept';
    end if;
    for name, since, until, about_tokens, bytes in
        select c.relname, m.month, (m.month at time zone 'UTC' + interval '1 month') at time zone 'UTC',
               greatest(c.reltuples, 0)::bigint, pg_total_relation_size(c.oid)
        from pg_inherits i join pg_class c on c.oid = i.inhrelid,
             lateral (select to_timestamp(substring(c.relname from 'issuances_(\d{4}_\d{2})') || ' +00', 'YYYY_MM TZH') as month) m
        where i.inhparent = 'issuances'::regclass and c.relname ~ '^issuances_\d{4}_\d{2}$'
        order by c.relname
    loop
        if until <= before then
            execute format('drop table %I', name);
            return next;
        end if;
    end loop;
end $$;
