-- Events are found by their subject's kind alone, or by its id alone, in the order of the pages.
create index events_subject_kind on events (subject_kind, sequence);
create index events_subject_id on events (subject_id, sequence);
drop index events_subject;
