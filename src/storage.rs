//! All SQL: one file per table or small family of tables.
//!
//! Free functions on `&mut PgConnection`: `find_` answers an `Option`, `list_`, `insert_`
//! and `update_` say what they do. The caller owns the transaction.

pub mod activations;
pub mod add_on_purchases;
pub mod admin_tokens;
pub mod assertion_uses;
pub mod audit_events;
pub mod backends;
pub mod background_leases;
pub mod catalogs;
pub mod checked_builds;
pub mod contracts;
pub mod customers;
pub mod deny_lists;
pub mod deployments;
pub mod events;
pub mod facts;
pub mod fences;
pub mod fleet;
pub mod idempotency_keys;
pub mod imports;
pub mod instance_credentials;
pub mod instance_reports;
pub mod instance_states;
pub mod instances;
pub mod issuances;
pub mod issued_tokens;
pub mod key_rings;
pub mod key_sets;
pub mod licenses;
pub mod lost_revocations;
pub mod privileges;
pub mod safe_mode;
pub mod sealed_secrets;
pub mod server_state;
pub mod signing_keys;
pub mod subscriptions;
pub mod sync_histories;
pub mod sync_lines;
pub mod webhook_positions;
pub mod webhooks;

mod creation;
mod database;
mod error;
mod schema_floor;

use std::str::FromStr;

use sqlx::postgres::PgQueryResult;

pub use creation::create_if_missing;
pub use database::{Database, Schema};
pub use error::StorageError;

/// Reads a word that the schema allows into its type.
fn decode<T>(word: &str) -> Result<T, StorageError>
where
    T: FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    word.parse().map_err(|error: T::Err| StorageError::corrupt(error))
}

/// An update that found its row as it was read. Another outcome means that the row
/// changed under its lock, which cannot be.
fn changed_one(done: &PgQueryResult) -> Result<(), StorageError> {
    match done.rows_affected() {
        1 => Ok(()),
        _ => Err(StorageError::corrupt("a record changed between its read and its update")),
    }
}
