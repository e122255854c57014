-- Every list reads little more than it shows, whichever filter is asked for and however deep the page.

-- The audit is read by time, latest first.
create index events_actor_time on events (actor, at, sequence);
create index events_action_time on events (action, at, sequence);
create index events_subject_kind_time on events (subject_kind, at, sequence);
drop index events_actor;

-- Processes are listed byte by byte, whatever the language of the database.
create index deployments_in_order on deployments (backend, process_id collate "C");
