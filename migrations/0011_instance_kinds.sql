-- Instances of a kind are listed by an index of their own: few are staging or development.
create index instances_kind on instances (kind, uid);
