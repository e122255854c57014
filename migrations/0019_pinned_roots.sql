-- A root that follows one whose keys are lost: nobody who vouches for it is left, so that whoever embeds has to be told
-- of it anew. Says why.
alter table key_roots add column pinned_because text;
