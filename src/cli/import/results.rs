//! What became of each line: written down as it is told, and counted.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::cli::CliError;

/// The file of one attempt, under a name of its own until it is complete; each attempt is told everything again.
#[derive(Debug)]
pub(super) struct Results {
    file: BufWriter<File>,
    /// Where it is to be.
    path: PathBuf,
    partial: PathBuf,
    tally: Tally,
}

/// How many lines came to what.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Where the service tells of the import; none for a trial.
    pub(super) location: Option<String>,
    pub(super) created: u64,
    pub(super) unchanged: u64,
    pub(super) refused: u64,
    /// Dealt with when the same file was sent before.
    pub(super) replayed: u64,
    pub(super) first_refused: Vec<Refused>,
}

/// A line that was refused.
#[derive(Debug)]
pub(super) struct Refused {
    line: u64,
    record_type: String,
    external_ref: String,
    why: String,
}

/// A line of the answer, as far as it is counted.
#[derive(Deserialize)]
struct Told {
    line: u64,
    outcome: String,
    r#type: Option<String>,
    external_ref: Option<String>,
    #[serde(default)]
    replayed: bool,
    problem: Option<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    detail: String,
    #[serde(default)]
    errors: Vec<Wrong>,
}

#[derive(Deserialize)]
struct Wrong {
    pointer: String,
    detail: String,
}

impl Results {
    /// Begins the file anew. It will hold activation codes: only its owner may read it, and one that is complete
    /// is never overwritten.
    pub(super) fn create(path: &Path) -> Result<Self, CliError> {
        if path.exists() {
            let sentence = format!(
                "{} exists, and may hold activation codes; move it away, or name another file with --results",
                path.display()
            );
            return Err(CliError::refused(sentence));
        }
        let partial = path.with_added_extension("partial");
        let doing = || CliError::fault(format!("could not write {}", partial.display()));
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial);
        let file = file.map_err(doing())?;
        // One of another time may be readable for others.
        file.set_permissions(std::fs::Permissions::from_mode(0o600)).map_err(doing())?;
        Ok(Self { file: BufWriter::new(file), path: path.to_owned(), partial, tally: Tally::default() })
    }

    pub(super) fn tally(&self) -> &Tally {
        &self.tally
    }

    pub(super) fn set_location(&mut self, location: Option<&str>) {
        self.tally.location = location.map(str::to_owned);
    }

    /// Writes one line of the answer down.
    pub(super) fn note(&mut self, line: &[u8]) -> Result<(), CliError> {
        let told: Told = serde_json::from_slice(line)
            .map_err(|_| CliError::refused("what the service answers is not what became of a line"))?;
        let doing = CliError::fault(format!("could not write {}", self.partial.display()));
        self.file.write_all(line).and_then(|()| self.file.write_all(b"\n")).map_err(doing)?;
        self.tally.count(told);
        Ok(())
    }

    /// Everything is on the disk when this returns.
    pub(super) fn finish(mut self) -> Result<Tally, CliError> {
        let doing = CliError::fault(format!("could not write {}", self.path.display()));
        self.file
            .flush()
            .and_then(|()| self.file.get_ref().sync_all())
            .and_then(|()| std::fs::rename(&self.partial, &self.path))
            .map_err(doing)?;
        Ok(self.tally)
    }
}

impl Tally {
    /// How many were told.
    pub(super) fn lines(&self) -> u64 {
        self.created + self.unchanged + self.refused
    }

    fn count(&mut self, told: Told) {
        self.replayed += u64::from(told.replayed);
        match told.outcome.as_str() {
            "created" => self.created += 1,
            "unchanged" => self.unchanged += 1,
            _ => {
                self.refused += 1;
                if self.first_refused.len() < MOST_SHOWN {
                    self.first_refused.push(told.into());
                }
            }
        }
    }
}

impl Refused {
    /// As a row of a table.
    pub(super) fn row(&self) -> [String; 4] {
        [self.line.to_string(), self.record_type.clone(), self.external_ref.clone(), self.why.clone()]
    }
}

impl From<Told> for Refused {
    fn from(told: Told) -> Self {
        let why = told.problem.map_or_else(String::new, |problem| match problem.errors.as_slice() {
            [] => problem.detail,
            errors => {
                let each = errors.iter().map(|wrong| format!("{} {}", wrong.pointer, wrong.detail));
                each.collect::<Vec<_>>().join("; ")
            }
        });
        Self {
            line: told.line,
            record_type: told.r#type.unwrap_or_default(),
            external_ref: told.external_ref.unwrap_or_default(),
            why,
        }
    }
}

/// The file has them all.
const MOST_SHOWN: usize = 20;
