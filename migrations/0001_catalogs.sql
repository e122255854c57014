-- Every version of the catalog that ever decided something, under its digest, so
-- that the past can be explained as it was decided then.

create table catalogs (
    digest          text primary key,
    -- What the ledger writes instead of the digest, once per token.
    number          smallint not null generated always as identity,
    -- The catalog as JSON with sorted members and no blanks: the text that was hashed.
    content         text not null,
    first_loaded_at timestamptz not null,
    constraint catalogs_number_key unique (number),
    constraint catalogs_digest check (digest = 'sha256:' || encode(sha256(convert_to(content, 'UTF8')), 'hex'))
);

-- Which version decided since when. The latest row holds until the next one; while
-- replicas are replaced one by one, the one that started last is named.
create table catalog_activations (
    id           bigint primary key generated always as identity,
    digest       text not null references catalogs (digest),
    activated_at timestamptz not null
);
create index catalog_activations_time on catalog_activations (activated_at, id);

create function refuse_catalog_change() returns trigger language plpgsql as $$
begin
    raise exception '% on % is refused: what once decided is remembered for good', tg_op, tg_table_name
        using errcode = 'restrict_violation', constraint = tg_table_name || '_append_only';
end $$;
create trigger catalogs_append_only before update or delete or truncate on catalogs
    for each statement execute function refuse_catalog_change();
create trigger catalog_activations_append_only before update or delete or truncate on catalog_activations
    for each statement execute function refuse_catalog_change();
