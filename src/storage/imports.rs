//! Imports: how far each has come, and what became of each of its lines.

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, QueryBuilder, Row};
use uuid::Uuid;

use super::{StorageError, changed_one, decode};
use crate::domain::ids::ImportId;
use crate::domain::import::{ImportState, LineOutcome};

/// One import, and how far it has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ImportRow {
    pub id: ImportId,
    /// Counts how often it was sent.
    pub attempt: i32,
    pub state: ImportState,
    pub bytes_expected: Option<i64>,
    pub bytes_read: i64,
    /// The number of the last line that was dealt with.
    pub last_line: i64,
    pub created: i64,
    pub unchanged: i64,
    pub refused: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
    /// Until when its results can be read, and its key names it.
    pub results_end_at: DateTime<Utc>,
}

/// Who sends an import, and how it is named when it is sent again.
#[derive(Clone, Copy, Debug)]
pub struct ImportKey<'a> {
    pub caller: &'a str,
    pub idempotency_key: Option<&'a str>,
}

/// What became of one line.
#[derive(Clone, Debug)]
pub struct ResultRow {
    pub line: i64,
    /// In which attempt.
    pub attempt: i32,
    /// SHA-256 of the line.
    pub digest: [u8; 32],
    pub outcome: LineOutcome,
    /// As it is told, less any secret.
    pub result: serde_json::Value,
    pub sealed_secret: Option<Vec<u8>>,
}

/// How many more lines and bytes an import has dealt with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Advance {
    pub last_line: i64,
    pub bytes_read: i64,
    pub created: i64,
    pub unchanged: i64,
    pub refused: i64,
}

/// Begins an import, or goes on with the one that this key names: then its counts begin anew, and whoever
/// sent it before can go on with it no longer.
///
/// # Errors
/// The database cannot be written.
pub async fn begin(
    connection: &mut PgConnection,
    id: ImportId,
    key: ImportKey<'_>,
    bytes_expected: Option<i64>,
    now: DateTime<Utc>,
    results_end_at: DateTime<Utc>,
) -> Result<ImportRow, StorageError> {
    // A key is forgotten with the results.
    sqlx::query(
        "update imports set idempotency_key = null where caller = $1 and idempotency_key = $2 and results_end_at <= $3",
    )
    .bind(key.caller)
    .bind(key.idempotency_key)
    .bind(now)
    .execute(&mut *connection)
    .await?;
    let row = sqlx::query(concat!(
        "insert into imports (id, caller, idempotency_key, bytes_expected, created_at, updated_at, results_end_at) \
         values ($1, $2, $3, $4, $5, $5, $6) \
         on conflict (caller, idempotency_key) where idempotency_key is not null do update \
             set attempt = imports.attempt + 1, state = 'running', finished_at = null, bytes_expected = $4, \
                 bytes_read = 0, last_line = 0, created = 0, unchanged = 0, refused = 0, updated_at = $5 \
         returning ",
        columns!()
    ))
    .bind(id.as_uuid())
    .bind(key.caller)
    .bind(key.idempotency_key)
    .bind(bytes_expected)
    .bind(now)
    .bind(results_end_at)
    .fetch_one(connection)
    .await?;
    import(&row)
}

/// The import of this id.
///
/// # Errors
/// The database cannot be read.
pub async fn find(connection: &mut PgConnection, id: ImportId) -> Result<Option<ImportRow>, StorageError> {
    let row = sqlx::query(concat!("select ", columns!(), " from imports where id = $1"))
        .bind(id.as_uuid())
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(import).transpose()
}

/// At most `limit` imports after `after`, in the order of their ids.
///
/// # Errors
/// The database cannot be read.
pub async fn list(
    connection: &mut PgConnection,
    state: Option<ImportState>,
    after: Option<ImportId>,
    limit: i64,
) -> Result<Vec<ImportRow>, StorageError> {
    let mut query = QueryBuilder::new(concat!("select ", columns!(), " from imports where id > "));
    query.push_bind(after.map_or(Uuid::nil(), ImportId::as_uuid));
    if let Some(state) = state {
        query.push(" and state = ").push_bind(state.as_str());
    }
    query.push(" order by id limit ").push_bind(limit);
    let rows = query.build().fetch_all(connection).await?;
    rows.iter().map(import).collect()
}

/// Holds the import until the transaction ends. `false` if it has been sent again since: then this attempt is over.
///
/// # Errors
/// The database cannot be reached.
pub async fn hold(connection: &mut PgConnection, id: ImportId, attempt: i32) -> Result<bool, StorageError> {
    let held: Option<i32> = sqlx::query_scalar("select attempt from imports where id = $1 for no key update")
        .bind(id.as_uuid())
        .fetch_optional(connection)
        .await?;
    Ok(held == Some(attempt))
}

/// Notes how much further a held import has come.
///
/// # Errors
/// The database cannot be written.
pub async fn advance(
    connection: &mut PgConnection,
    id: ImportId,
    advance: Advance,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    let done = sqlx::query(
        "update imports set last_line = $2, bytes_read = $3, created = created + $4, unchanged = unchanged + $5, \
                refused = refused + $6, updated_at = $7 \
         where id = $1",
    )
    .bind(id.as_uuid())
    .bind(advance.last_line)
    .bind(advance.bytes_read)
    .bind(advance.created)
    .bind(advance.unchanged)
    .bind(advance.refused)
    .bind(now)
    .execute(connection)
    .await?;
    changed_one(&done)
}

/// Ends an attempt, unless a later one has begun.
///
/// # Errors
/// The database cannot be written.
pub async fn end(
    connection: &mut PgConnection,
    id: ImportId,
    attempt: i32,
    state: ImportState,
    now: DateTime<Utc>,
) -> Result<(), StorageError> {
    sqlx::query(
        "update imports set state = $3, finished_at = case $3 when 'finished' then $4 end, updated_at = $4 \
         where id = $1 and attempt = $2",
    )
    .bind(id.as_uuid())
    .bind(attempt)
    .bind(state.as_str())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Writes what became of these lines, over what a former attempt said of them.
///
/// # Errors
/// The database cannot be written.
pub async fn upsert_results(
    connection: &mut PgConnection,
    id: ImportId,
    rows: &[ResultRow],
) -> Result<(), StorageError> {
    fn column<T>(rows: &[ResultRow], value: impl Fn(&ResultRow) -> T) -> Vec<T> {
        rows.iter().map(value).collect()
    }
    sqlx::query(
        "insert into import_results (import_id, line, attempt, digest, outcome, result, sealed_secret) \
         select $1, * from unnest($2::bigint[], $3::integer[], $4::bytea[], $5::text[], $6::jsonb[], $7::bytea[]) \
         on conflict (import_id, line) do update \
             set attempt = excluded.attempt, digest = excluded.digest, outcome = excluded.outcome, \
                 result = excluded.result, sealed_secret = excluded.sealed_secret",
    )
    .bind(id.as_uuid())
    .bind(column(rows, |row| row.line))
    .bind(column(rows, |row| row.attempt))
    .bind(column(rows, |row| row.digest.to_vec()))
    .bind(column(rows, |row| row.outcome.as_str()))
    .bind(column(rows, |row| row.result.clone()))
    .bind(column(rows, |row| row.sealed_secret.clone()))
    .execute(connection)
    .await?;
    Ok(())
}

/// Which results of an import a list is about.
#[derive(Clone, Copy, Debug)]
pub struct ResultFilter {
    pub after: i64,
    /// Inclusive.
    pub up_to: i64,
    pub outcome: Option<LineOutcome>,
}

/// At most `limit` results of an import, in the order of its lines.
///
/// # Errors
/// The database cannot be read.
pub async fn list_results(
    connection: &mut PgConnection,
    id: ImportId,
    filter: ResultFilter,
    limit: i64,
) -> Result<Vec<ResultRow>, StorageError> {
    let mut query = QueryBuilder::new(
        "select line, attempt, digest, outcome, result, sealed_secret from import_results where import_id = ",
    );
    query.push_bind(id.as_uuid());
    query.push(" and line > ").push_bind(filter.after);
    query.push(" and line <= ").push_bind(filter.up_to);
    if let Some(outcome) = filter.outcome {
        query.push(" and outcome = ").push_bind(outcome.as_str());
    }
    query.push(" order by line limit ").push_bind(limit);
    let rows = query.build().fetch_all(connection).await?;
    rows.iter().map(result).collect()
}

/// Forgets results whose time is over. Returns how many lines of how many imports at the most: `most_lines`.
///
/// # Errors
/// The database cannot be written.
pub async fn delete_expired_results(
    connection: &mut PgConnection,
    now: DateTime<Utc>,
    most_lines: i64,
) -> Result<u64, StorageError> {
    let done = sqlx::query(
        "delete from import_results where (import_id, line) in ( \
             select r.import_id, r.line from imports i join import_results r on r.import_id = i.id \
             where i.results_end_at <= $1 limit $2)",
    )
    .bind(now)
    .bind(most_lines)
    .execute(connection)
    .await?;
    Ok(done.rows_affected())
}

fn import(row: &PgRow) -> Result<ImportRow, StorageError> {
    Ok(ImportRow {
        id: row.try_get::<Uuid, _>("id")?.into(),
        attempt: row.try_get("attempt")?,
        state: decode(row.try_get("state")?)?,
        bytes_expected: row.try_get("bytes_expected")?,
        bytes_read: row.try_get("bytes_read")?,
        last_line: row.try_get("last_line")?,
        created: row.try_get("created")?,
        unchanged: row.try_get("unchanged")?,
        refused: row.try_get("refused")?,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
        finished_at: row.try_get("finished_at")?,
        results_end_at: row.try_get("results_end_at")?,
    })
}

fn result(row: &PgRow) -> Result<ResultRow, StorageError> {
    let digest: Vec<u8> = row.try_get("digest")?;
    Ok(ResultRow {
        line: row.try_get("line")?,
        attempt: row.try_get("attempt")?,
        digest: digest.try_into().map_err(|_| StorageError::corrupt("a digest of another length"))?,
        outcome: decode(row.try_get("outcome")?)?,
        result: row.try_get("result")?,
        sealed_secret: row.try_get("sealed_secret")?,
    })
}

macro_rules! columns {
    () => {
        "id, attempt, state, bytes_expected, bytes_read, last_line, created, unchanged, refused, created_at, updated_at, \
         finished_at, results_end_at"
    };
}
use columns;
