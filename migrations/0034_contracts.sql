-- What running processes and checked builds say that they enforce: the unit primitives of their contract.
-- Null: nothing was told, as by every version before.

alter table deployments add column enforces text[];
alter table deployments add constraint deployments_enforces check (cardinality(enforces) <= 4096);

alter table checked_builds add column enforces text[];
alter table checked_builds add constraint checked_builds_enforces check (cardinality(enforces) <= 4096);
