-- Two more filters of lists find their rows by an index: subscriptions whose term lies ahead, and the purchases of
-- one add-on among those of a subscription that has very many.
create index subscriptions_start on subscriptions (starts_at, id);
create index add_on_purchases_add_on on add_on_purchases (subscription_id, add_on, id);
