//! All SQL: one file per table or small family of tables.
//!
//! Free functions on `&mut PgConnection`: `find_` answers an `Option`, `list_`, `insert_`
//! and `update_` say what they do. The caller owns the transaction.

pub mod assertion_uses;
pub mod catalogs;
pub mod facts;
pub mod fences;
pub mod instance_credentials;
pub mod instances;
pub mod issuances;

mod database;
mod error;

use std::str::FromStr;

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
