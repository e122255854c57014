-- How far a webhook has been told is not forgotten: without its place it would be told everything again.
create trigger webhook_positions_remembered before delete on webhook_positions
    for each statement execute function refuse_change();
create trigger webhook_positions_not_truncated before truncate on webhook_positions
    for each statement execute function refuse_change();
