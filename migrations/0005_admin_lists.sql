-- Each filter of the admin API's lists finds its rows by an index, in the order of
-- the pages. What is rare is indexed alone.
create index customers_archived on customers (id) where archived_at is not null;
create index subscriptions_license_type on subscriptions (license_type, id);
create index subscriptions_condition on subscriptions (condition, id);
create index subscriptions_end on subscriptions (ends_at, id);
create index licenses_revoked on licenses (id) where revoked_at is not null;
create index instances_instance_id on instances (instance_id, uid);
create index instances_state on instances (state, uid);
create index instances_contested on instances (uid) where identity_contested_at is not null;
