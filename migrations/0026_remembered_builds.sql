-- A build that was checked counted as evidence, and the clock's mark keeps a clock that fell back from minting:
-- neither is forgotten.
create trigger checked_builds_remembered before delete on checked_builds
    for each statement execute function refuse_change();
create trigger checked_builds_not_truncated before truncate on checked_builds
    for each statement execute function refuse_change();
create trigger clock_marks_remembered before delete on clock_marks
    for each statement execute function refuse_change();
create trigger clock_marks_not_truncated before truncate on clock_marks
    for each statement execute function refuse_change();
