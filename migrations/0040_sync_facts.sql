-- What a sync needs to know of its instance, in one row: a sync that joined the five tables that it comes
-- from looked up five indexes, and that was most of what it cost the database.
--
-- Nobody can write something else into it than what the records say: whatever is written, the trigger puts
-- what `computed_sync_facts` computes in its place. It follows each change of a record in the change's own
-- transaction, so that a revocation is still effective at the next read.

-- The mint fence: nothing is minted or changed while triggers come to five tables, so that no transaction that
-- holds one of them waits for another in a ring.
select pg_advisory_xact_lock(7629665, 0);

create view computed_sync_facts as
select i.uid as instance_uid, i.number, json_build_object(
    'number', i.number,
    'instance_id', i.instance_id,
    'hostname', i.hostname,
    'public_key', encode(i.public_key, 'base64'),
    'previous_public_key', encode(i.previous_public_key, 'base64'),
    'previous_key_dies_at', i.previous_key_dies_at,
    'reported_usage', i.reported_usage,
    'is_contested', i.identity_contested_at is not null,
    'state', i.state,
    'version', i.version,
    'deployment', i.deployment,
    'disabled_unit_primitives', i.disabled_unit_primitives,
    'disabled_backends', i.disabled_backends,
    'license_kind', l.kind,
    'revoked_at', l.revoked_at,
    'subscription_id', l.subscription_id,
    'license_type', s.license_type,
    'starts_at', s.starts_at,
    'ends_at', s.ends_at,
    'earlier_ends', s.earlier_ends,
    'trial', s.trial,
    'condition', s.condition,
    -- Secrets that were dead when the newest one was made stay dead: they are left out.
    'credentials', coalesce((
        select json_agg(json_build_object(
            'id', c.id, 'digest', encode(c.digest, 'base64'), 'by_rotation', c.origin = 'rotation',
            'sequence', c.sequence, 'first_used_at', c.first_used_at, 'last_used_at', c.last_used_at,
            'dies_at', c.dies_at) order by c.sequence)
        from instance_credentials c
        where c.instance_uid = i.uid and (c.dies_at is null or c.dies_at > (
            select max(created_at) from instance_credentials where instance_uid = i.uid))), '[]'),
    'purchases', coalesce((
        select json_agg(json_build_object(
            'add_on', p.add_on, 'quantity', p.quantity, 'starts_at', p.starts_at, 'ends_at', p.ends_at,
            'ended_at', p.ended_at) order by p.id)
        from add_on_purchases p
        where p.subscription_id = s.id and (p.ended_at is null or p.ended_at > p.starts_at)), '[]'))::text as facts
from instances i
join licenses l on l.id = i.license_id
join subscriptions s on s.id = l.subscription_id;

create table sync_facts (
    instance_uid uuid primary key references instances (uid),
    -- What the ledger calls the instance.
    number       bigint not null,
    facts        text not null
) with (fillfactor = 70);

-- Times are written in UTC, whoever writes, so that equal facts are equal texts.
create function compute_sync_facts() returns trigger language plpgsql set timezone to 'UTC' as $$
begin
    -- Not the snapshot of the statement that fired this, but one that follows the wait for the row: what
    -- another transaction changed meanwhile is in it.
    select number, facts into strict new.number, new.facts
    from computed_sync_facts where instance_uid = new.instance_uid;
    return new;
end $$;
create trigger sync_facts_computed before insert or update on sync_facts
    for each row execute function compute_sync_facts();

create trigger sync_facts_remembered before delete on sync_facts
    for each statement execute function refuse_change();
create trigger sync_facts_not_truncated before truncate on sync_facts
    for each statement execute function refuse_change();

-- Rows are locked in one order, so that two changes never wait for each other in a ring.
create function refresh_sync_facts(uids uuid[]) returns void language plpgsql as $$
begin
    if cardinality(uids) > 0 then
        perform from sync_facts where instance_uid = any (uids) order by instance_uid for no key update;
        update sync_facts set facts = '' where instance_uid = any (uids);
    end if;
end $$;

-- An instance that is recorded while its license, subscription or purchases change waits for the change,
-- or the change for it: neither sees the other's row before.
create function make_sync_facts() returns trigger language plpgsql as $$
begin
    perform from subscriptions s
        where s.id in (select l.subscription_id from licenses l join changed c on c.license_id = l.id)
        order by s.id for share;
    perform from licenses l where l.id in (select license_id from changed) order by l.id for share;
    insert into sync_facts (instance_uid, number, facts) select uid, 0, '' from changed;
    return null;
end $$;
create trigger instances_sync_facts_made after insert on instances
    referencing new table as changed for each statement execute function make_sync_facts();

create function follow_instances() returns trigger language plpgsql as $$
begin
    perform refresh_sync_facts(array(select uid from changed));
    return null;
end $$;
create trigger instances_sync_facts after update on instances
    referencing new table as changed for each statement execute function follow_instances();

create function follow_licenses() returns trigger language plpgsql as $$
begin
    perform refresh_sync_facts(array(select i.uid from instances i join changed c on c.id = i.license_id));
    return null;
end $$;
create trigger licenses_sync_facts after update on licenses
    referencing new table as changed for each statement execute function follow_licenses();

create function follow_subscriptions() returns trigger language plpgsql as $$
begin
    perform refresh_sync_facts(array(
        select i.uid from instances i join licenses l on l.id = i.license_id join changed c on c.id = l.subscription_id));
    return null;
end $$;
create trigger subscriptions_sync_facts after update on subscriptions
    referencing new table as changed for each statement execute function follow_subscriptions();

create function follow_add_on_purchases() returns trigger language plpgsql as $$
begin
    perform from subscriptions where id in (select subscription_id from changed) order by id for no key update;
    perform refresh_sync_facts(array(
        select i.uid from instances i join licenses l on l.id = i.license_id
        where l.subscription_id in (select subscription_id from changed)));
    return null;
end $$;
create trigger add_on_purchases_sync_facts_made after insert on add_on_purchases
    referencing new table as changed for each statement execute function follow_add_on_purchases();
create trigger add_on_purchases_sync_facts after update on add_on_purchases
    referencing new table as changed for each statement execute function follow_add_on_purchases();

create function follow_instance_credentials() returns trigger language plpgsql as $$
begin
    perform refresh_sync_facts(array(select distinct instance_uid from changed));
    return null;
end $$;
create trigger instance_credentials_sync_facts_made after insert on instance_credentials
    referencing new table as changed for each statement execute function follow_instance_credentials();
create trigger instance_credentials_sync_facts after update on instance_credentials
    referencing new table as changed for each statement execute function follow_instance_credentials();

insert into sync_facts (instance_uid, number, facts) select uid, 0, '' from instances order by uid;
