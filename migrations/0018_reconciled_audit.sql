-- How far an audit that was exported outside has been taken over by a recovery, or was given up.
alter table key_rings
    add column reconciled_to bigint not null default 0,
    add constraint key_rings_reconciled_to check (reconciled_to >= 0);
