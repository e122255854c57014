//! Which migrations were applied, and what a program must know to run on the outcome.

use sqlx::PgConnection;

use super::StorageError;

/// The versions that were applied, in their order; none where nobody has migrated yet.
///
/// # Errors
/// The database cannot be read.
pub(super) async fn list_applied(connection: &mut PgConnection) -> Result<Vec<i64>, StorageError> {
    let is_migrated: bool = sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null")
        .fetch_one(&mut *connection)
        .await?;
    if !is_migrated {
        return Ok(Vec::new());
    }
    Ok(sqlx::query_scalar("select version from _sqlx_migrations where success order by version")
        .fetch_all(connection)
        .await?)
}

/// The migration that a program must know; `None` where the schema is older than this rule.
///
/// # Errors
/// The database cannot be read.
pub(super) async fn find(connection: &mut PgConnection) -> Result<Option<i64>, StorageError> {
    let has_floor: bool = sqlx::query_scalar("select to_regclass('schema_floor') is not null")
        .fetch_one(&mut *connection)
        .await?;
    if !has_floor {
        return Ok(None);
    }
    Ok(sqlx::query_scalar("select version from schema_floor").fetch_one(connection).await?)
}
