//! Makes the database of a server of our own; anywhere else an administrator does that.

use secrecy::{ExposeSecret, SecretString};
use sqlx::Postgres;
use sqlx::migrate::MigrateDatabase;

use super::StorageError;

/// Makes the database that the URL names, unless it is there. Returns whether it was made.
///
/// # Errors
/// The server cannot be reached, or does not allow it.
pub async fn create_if_missing(url: &SecretString) -> Result<bool, StorageError> {
    let url = url.expose_secret();
    let missing = !Postgres::database_exists(url).await?;
    if missing {
        Postgres::create_database(url).await?;
    }
    Ok(missing)
}
