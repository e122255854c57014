//! The database of a one-shot command: opened once, with a sentence for each way that it can fail.

use crate::config::Settings;
use crate::storage::{Database, Schema};

use super::CliError;

/// The database that the settings name, reachable and migrated.
///
/// Refuses a schema that this program cannot run on.
pub(crate) async fn open_migrated(settings: &Settings) -> Result<Database, CliError> {
    let database = open(settings).await?;
    let schema = database.schema().await.map_err(CliError::fault("could not read the schema"))?;
    check_usable(&schema)?;
    Ok(database)
}

/// The database that the settings name, reachable, whatever its schema.
pub(crate) async fn open(settings: &Settings) -> Result<Database, CliError> {
    let (url, connections) = (settings.database_url()?, settings.database_connections.get());
    let database = match settings.direct_database_url()? {
        None => Database::new(&url, connections)
            .map_err(|_| CliError::refused("`database_url` is not the URL of a PostgreSQL database"))?,
        Some(direct) => Database::behind_pooler(&url, &direct, connections).map_err(|_| {
            CliError::refused(
                "`database_url` or `direct_database_url` is not the URL of a PostgreSQL database",
            )
        })?,
    };
    // The pool tries again until its time is over and then only says so; one attempt says what is wrong.
    database.connect_for_batches().await.map_err(CliError::fault("could not connect to the database"))?;
    Ok(database)
}

/// Refuses a schema that this program cannot run on. One that a newer program only added to is none: so the old
/// program goes on while the new one takes its place.
pub(crate) fn check_usable(schema: &Schema) -> Result<(), CliError> {
    match schema {
        Schema::Ahead(_) | Schema::Current => Ok(()),
        Schema::Behind(versions) => Err(CliError::refused(format!(
            "the database lacks {}; run `token-authority migrate`",
            listed(versions)
        ))),
        Schema::Beyond { needs } => Err(CliError::refused(format!(
            "a newer program took away what this one needs: the database is for programs that know migration {needs}; \
             run such a one"
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
