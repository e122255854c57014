//! Published key sets: whether the folder and the database say the same, byte for byte.

use std::io::ErrorKind;
use std::path::Path;

use sqlx::PgConnection;

use super::finding::{Finding, codes};
use crate::config::Settings;
use crate::rotation::published_files::PublishedFiles;
use crate::storage::{StorageError, key_sets};

pub(super) async fn examine(
    connection: &mut PgConnection,
    settings: &Settings,
) -> Result<Finding, StorageError> {
    let environment = settings.environment.as_str();
    let files = PublishedFiles::new(&settings.keys_dir, environment);
    let mut head = 0;
    let mut missing = Vec::new();
    for summary in key_sets::list(connection, environment).await? {
        let Some(stored) = key_sets::find(connection, environment, summary.version).await? else { continue };
        head = stored.version;
        for (path, content) in [(files.jwks(head), &stored.jwks), (files.manifest(head), &stored.manifest)] {
            match compare(&path, content) {
                Compared::Same => {}
                Compared::Missing => missing.push(path.display().to_string()),
                Compared::Unreadable(why) => {
                    return Ok(Finding::unknown(
                        codes::KEY_SETS,
                        format!("{} cannot be read: {why}", path.display()),
                    ));
                }
                Compared::Differs => {
                    return Ok(Finding::problem(
                        codes::KEY_SETS,
                        format!("{} differs from what the database recorded", path.display()),
                        "one of them was altered: compare with the repository in which the folder is committed",
                    ));
                }
            }
        }
    }
    if files.manifest(head + 1).exists() {
        return Ok(Finding::problem(
            codes::KEY_SETS,
            format!("{} is newer than anything that the database knows", files.manifest(head + 1).display()),
            "the database was restored from an old backup, or is another one: see docs/key-rotation.md on restoring",
        ));
    }
    Ok(match missing.as_slice() {
        [] => Finding::good(
            codes::KEY_SETS,
            format!("key sets 1 to {head} are published as they were recorded"),
        ),
        [first, ..] => Finding::warning(
            codes::KEY_SETS,
            format!("{} of the published files are missing, {first} first", missing.len()),
            "run `token-authority init` where `keys_dir` is: it writes what is recorded and not there",
        ),
    })
}

enum Compared {
    Differs,
    Missing,
    Same,
    Unreadable(std::io::Error),
}

fn compare(path: &Path, content: &[u8]) -> Compared {
    match std::fs::read(path) {
        Ok(found) if found == content => Compared::Same,
        Ok(_) => Compared::Differs,
        Err(error) if error.kind() == ErrorKind::NotFound => Compared::Missing,
        Err(error) => Compared::Unreadable(error),
    }
}
