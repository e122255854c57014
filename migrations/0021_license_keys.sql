-- License keys of older instances, and what instances reported over time.

-- A license key alone opens what a secret opens together with the instance's uid.
alter table instance_credentials
    add column kind text not null default 'secret',
    -- What an older installation calls itself beside its instance_id.
    add column unique_instance_id text,
    add constraint instance_credentials_kind check (kind in ('secret', 'license_key')),
    add constraint instance_credentials_unique_instance_id
        check (unique_instance_id is null or (kind = 'license_key' and char_length(unique_instance_id) between 1 and 255));

-- Only where the license was made for it, whoever inserts.
create function keep_license_keys_allowed() returns trigger language plpgsql as $$
begin
    if not (select l.legacy_bearer from instances i join licenses l on l.id = i.license_id where i.uid = new.instance_uid) then
        raise exception 'the license of instance % allows no license key', new.instance_uid
            using errcode = 'check_violation', constraint = 'instance_credentials_legacy_bearer';
    end if;
    return new;
end $$;
create trigger instance_credentials_legacy_bearer before insert on instance_credentials
    for each row when (new.kind = 'license_key') execute function keep_license_keys_allowed();

-- Each version, host name and use that an instance reported, when it was news. Written by
-- the trigger alone, whichever way the report came.
create table instance_reports (
    instance_uid uuid not null references instances (uid),
    sequence     bigint not null generated always as identity,
    reported_at  timestamptz not null,
    version      text not null,
    hostname     text not null,
    usage        jsonb,
    primary key (instance_uid, sequence)
);

create function keep_instance_report() returns trigger language plpgsql as $$
begin
    insert into instance_reports (instance_uid, reported_at, version, hostname, usage)
    values (new.uid, new.updated_at, new.version, new.hostname, new.reported_usage);
    return null;
end $$;
create trigger instances_first_report after insert on instances
    for each row execute function keep_instance_report();
create trigger instances_report after update on instances
    for each row when ((old.version, old.hostname, old.reported_usage)
                       is distinct from (new.version, new.hostname, new.reported_usage))
    execute function keep_instance_report();

-- What the instances that are there have reported last.
insert into instance_reports (instance_uid, reported_at, version, hostname, usage)
select uid, updated_at, version, hostname, reported_usage from instances;

create trigger instance_reports_append_only before update or delete on instance_reports
    for each statement execute function refuse_change();
create trigger instance_reports_not_truncated before truncate on instance_reports
    for each statement execute function refuse_change();
