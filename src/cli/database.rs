//! The database of a one-shot command: opened once, with a sentence for each way that it can fail.

use crate::config::Settings;
use crate::storage::{Database, Schema};

use super::CliError;

/// The database that the settings name, reachable and migrated.
///
/// Refuses when the schema is not the one that this program expects.
pub(crate) async fn open_migrated(settings: &Settings) -> Result<Database, CliError> {
    let database = open(settings).await?;
    let schema = database.schema().await.map_err(CliError::fault("could not read the schema"))?;
    check_current(&schema)?;
    Ok(database)
}

/// The database that the settings name, reachable, whatever its schema.
pub(crate) async fn open(settings: &Settings) -> Result<Database, CliError> {
    let database = Database::new(&settings.database_url()?, settings.database_connections.get())
        .map_err(|_| CliError::refused("`database_url` is not the URL of a PostgreSQL database"))?;
    // The pool tries again until its time is over and then only says so; one attempt says what is wrong.
    database.connect_for_batches().await.map_err(CliError::fault("could not connect to the database"))?;
    Ok(database)
}

/// Refuses a schema that this program does not expect.
pub(crate) fn check_current(schema: &Schema) -> Result<(), CliError> {
    match schema {
        Schema::Current => Ok(()),
        Schema::Behind(versions) => Err(CliError::refused(format!(
            "the database lacks {}; run `token-authority migrate`",
            listed(versions)
        ))),
        Schema::Ahead(versions) => Err(CliError::refused(format!(
            "the database was migrated by a newer program ({}); run that one",
            listed(versions)
        ))),
    }
}

/// "migration 3", "migrations 1, 2 and 3".
pub(super) fn listed(versions: &[i64]) -> String {
    match versions {
        [one] => format!("migration {one}"),
        [many @ .., last] => {
            let many: Vec<String> = many.iter().map(ToString::to_string).collect();
            format!("migrations {} and {last}", many.join(", "))
        }
        [] => "no migration".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_read_as_a_sentence() {
        assert_eq!(listed(&[3]), "migration 3");
        assert_eq!(listed(&[1, 2, 3]), "migrations 1, 2 and 3");
    }
}
