//! What the role of a running service may do in the database, and no more: it adds to the audit, the ledger and the
//! feed of events and can change none of them, and of keys and key sets it reads.
//!
//! Triggers refuse the same to everyone; but the owner of a table can take its triggers away. A service that does not
//! own its tables cannot.

use sqlx::{AssertSqlSafe, PgConnection, Row};

use super::StorageError;

/// What it may do beside reading. A table that is not here is read only.
pub const OF_SERVICE: &[(&str, &str)] = &[
    ("add_on_purchases", "insert, update"),
    ("admin_tokens", "insert, update"),
    ("assertion_uses", "insert, delete"),
    ("audit_events", "insert"),
    ("background_leases", "insert, update"),
    ("backends", "insert, update"),
    // Locked while the newest is looked for; its own triggers refuse changes.
    ("catalog_activations", "insert, update"),
    ("catalogs", "insert"),
    ("checked_builds", "insert, update"),
    ("clock_marks", "insert, update"),
    ("customers", "insert, update"),
    ("deny_lists", "insert, update"),
    ("deployment_proofs", "insert, update, delete"),
    ("deployments", "insert, update, delete"),
    ("events", "insert"),
    ("idempotency_keys", "insert, update, delete"),
    ("import_results", "insert, update, delete"),
    ("imports", "insert, update"),
    ("instance_credentials", "insert, update"),
    ("instance_reports", "insert"),
    ("instances", "insert, update"),
    ("issuances", "insert"),
    // Safe mode is entered by whoever notices; only an operator leaves it. And it locks the ring by this.
    ("key_rings", "update (safe_mode_since, safe_mode_reason)"),
    ("licenses", "insert, update"),
    ("record_revisions", "insert"),
    ("scope_sets", "insert"),
    ("subscription_conditions", "insert"),
    ("subscriptions", "insert, update"),
    ("sync_facts", "insert, update"),
    ("sync_lines", "insert, update"),
    ("webhook_positions", "insert, update"),
    ("webhooks", "insert, update"),
];

/// What needs the owner of the tables, and is done in the owner's name: each of these does one thing that takes
/// nothing away.
pub const IN_THE_OWNERS_NAME: &[&str] = &["make_issuance_partitions"];

/// Why a role is none for a service.
#[derive(Debug, thiserror::Error)]
pub enum RoleError {
    #[error(
        "the role {0} is a member of the role that owns the tables: it could take away whatever holds it back"
    )]
    Owner(String),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("the role {0} is a superuser, whom nothing holds back")]
    Superuser(String),
    #[error("there is no role {0}: make it first, with `create role … login`")]
    Unknown(String),
}

impl From<sqlx::Error> for RoleError {
    fn from(error: sqlx::Error) -> Self {
        Self::Storage(error.into())
    }
}

/// Gives `role` exactly what a service needs, and takes everything else away from it. Run it again after each
/// migration.
///
/// # Errors
/// The role is unknown or cannot be held back; the caller does not own the tables, or the database cannot be reached.
pub async fn grant_to_service(connection: &mut PgConnection, role: &str) -> Result<(), RoleError> {
    let found = sqlx::query(
        "select rolsuper, pg_has_role(oid, (select relowner from pg_class where oid = 'issuances'::regclass), 'member') \
                as is_owner, quote_ident(rolname) as name \
         from pg_roles where rolname = $1",
    )
    .bind(role)
    .fetch_optional(&mut *connection)
    .await?;
    let found = found.ok_or_else(|| RoleError::Unknown(role.to_owned()))?;
    if found.try_get("rolsuper")? {
        return Err(RoleError::Superuser(role.to_owned()));
    }
    if found.try_get("is_owner")? {
        return Err(RoleError::Owner(role.to_owned()));
    }
    let name: String = found.try_get("name")?;
    let mut statements = vec![
        format!("revoke all on all tables in schema public from {name}"),
        format!("revoke all on schema public from {name}"),
        "revoke create on schema public from public".to_owned(),
        format!("grant usage on schema public to {name}"),
        format!("grant select on all tables in schema public to {name}"),
    ];
    let grants = OF_SERVICE.iter().map(|(table, what)| format!("grant {what} on {table} to {name}"));
    statements.extend(grants);
    for function in IN_THE_OWNERS_NAME {
        let signature: String = sqlx::query_scalar("select $1::regproc::regprocedure::text")
            .bind(function)
            .fetch_one(&mut *connection)
            .await?;
        statements.extend([
            // Nothing that the caller makes can stand for what the function means; nobody else makes anything in public.
            format!("alter function {signature} security definer set search_path = public, pg_temp"),
            format!("revoke all on function {signature} from public"),
            format!("grant execute on function {signature} to {name}"),
        ]);
    }
    sqlx::raw_sql(AssertSqlSafe(statements.join("; "))).execute(connection).await?;
    Ok(())
}
