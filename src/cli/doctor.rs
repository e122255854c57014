//! `doctor`: looks at a whole deployment, and says what is wrong and what to do about it.

mod bundle;
mod catalog;
mod database;
mod finding;
mod issuer;
mod key_sets;
mod keys;
mod machine;

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use self::bundle::Bundle;
use self::finding::{Finding, Level, codes};
use super::output::{print, print_json, print_table};
use super::runtime::block_on;
use super::{CliError, Format, GlobalArgs};
use crate::clock::Clock;
use crate::config::Settings;
use crate::keystore::sealing::LocalKek;
use crate::storage::server_state::ServerState;
use crate::storage::{Database, StorageError, signing_keys};

/// Find what is wrong with this deployment, and say the remedy.
///
/// Changes nothing. Exits with 1 if anything is a problem.
#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Also write everything that was looked at, without any secret, to a new file: for whoever helps you.
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// Let warnings count as problems.
    #[arg(long)]
    strict: bool,
}

impl DoctorArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let examined = match global.settings() {
            Ok(settings) => block_on(async { Ok(Examined::all(settings).await) })?,
            Err(error) => Examined::without_settings(&error),
        };
        if let Some(path) = &self.bundle {
            Bundle::new(&examined).write(path)?;
        }
        match global.format {
            Format::Json => print_json(&examined.report())?,
            Format::Table => examined.print()?,
        }
        examined.verdict(self.strict)
    }
}

/// Everything that was looked at.
struct Examined {
    findings: Vec<Finding>,
    settings: Option<Settings>,
    server: Option<ServerState>,
}

#[derive(Serialize)]
struct Report<'a> {
    healthy: bool,
    findings: &'a [Finding],
}

impl Examined {
    fn without_settings(error: &CliError) -> Self {
        let remedy = "`token-authority config list` shows every setting";
        let findings = vec![Finding::problem(codes::SETTINGS, error.report(), remedy)];
        Self { findings, settings: None, server: None }
    }

    async fn all(settings: Settings) -> Self {
        let (kek_finding, kek) = keys::key_encryption_key(&settings);
        let mut findings = vec![of_settings(&settings)];
        findings.extend(machine::examine(&settings));
        findings.push(catalog::examine(&settings));
        findings.push(kek_finding);
        let (in_database, server, published) = in_database(&settings, kek).await;
        findings.extend(in_database);
        findings.push(issuer::examine(&settings, published.as_ref()).await);
        Self { findings, settings: Some(settings), server }
    }

    fn worst(&self) -> Level {
        self.findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Good)
    }

    fn report(&self) -> Report<'_> {
        Report { healthy: self.worst() < Level::Problem, findings: &self.findings }
    }

    fn print(&self) -> Result<(), CliError> {
        print_table(
            &["", "what", "how it stands"],
            self.findings.iter().map(|finding| {
                [finding.level.word().to_owned(), finding.code.to_owned(), finding.says.clone()]
            }),
        )?;
        for finding in &self.findings {
            if let Some(remedy) = &finding.remedy {
                print(&format!("\n{}: {remedy}.", finding.code))?;
            }
        }
        Ok(())
    }

    fn verdict(&self, strict: bool) -> Result<(), CliError> {
        let bound = if strict { Level::Warning } else { Level::Problem };
        let wrong: Vec<_> = self
            .findings
            .iter()
            .filter(|finding| finding.level >= bound)
            .map(|finding| finding.code)
            .collect();
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(CliError::refused(format!("not all is well: {}", wrong.join(", "))))
        }
    }
}

fn of_settings(settings: &Settings) -> Finding {
    match settings.check_complete_for_serving() {
        Ok(()) => Finding::good(
            codes::SETTINGS,
            format!("every setting that `serve` needs is there (environment `{}`)", settings.environment),
        ),
        Err(error) => Finding::problem(codes::SETTINGS, error.to_string(), "set what is missing"),
    }
}

/// What only the database can tell; its server's state, and the kids that clients must see.
async fn in_database(
    settings: &Settings,
    kek: Option<LocalKek>,
) -> (Vec<Finding>, Option<ServerState>, Option<BTreeSet<String>>) {
    let database = match super::database::open(settings).await {
        Ok(database) => database,
        Err(error) => {
            let remedy = "start it, or mend `database_url`: host, port, user, password, sslmode";
            let unreachable = Finding::problem(codes::DATABASE, error.report(), remedy);
            let unknown = |code| Finding::unknown(code, "the database cannot be reached");
            let rest = [codes::MIGRATIONS, codes::ACTIVE_KEYS, codes::PRIVATE_HALVES, codes::KEY_SETS];
            return (std::iter::once(unreachable).chain(rest.map(unknown)).collect(), None, None);
        }
    };
    let now = Clock::system().now();
    let direct = database::direct_connection(&database).await;
    let mut findings = vec![Finding::good(codes::DATABASE, "the database answers"), direct];
    let (of_server, server) = database::examine(settings, &database, now).await;
    findings.extend(of_server);
    if server.is_none() {
        let unknown = |code| Finding::unknown(code, "the database cannot be read");
        findings.extend([codes::ACTIVE_KEYS, codes::PRIVATE_HALVES, codes::KEY_SETS].map(unknown));
        return (findings, None, None);
    }
    match of_keys(settings, &database, kek).await {
        Ok((of_keys, published)) => {
            findings.extend(of_keys);
            (findings, server, Some(published))
        }
        Err(error) => {
            let remedy = "give the role of `database_url` the right to read its tables";
            findings.push(Finding::problem(
                codes::ACTIVE_KEYS,
                format!("the keys cannot be read: {error}"),
                remedy,
            ));
            (findings, server, None)
        }
    }
}

async fn of_keys(
    settings: &Settings,
    database: &Database,
    kek: Option<LocalKek>,
) -> Result<(Vec<Finding>, BTreeSet<String>), StorageError> {
    let environment = settings.environment.as_str();
    let now = Clock::system().now();
    let mut tx = database.begin().await?;
    let mut findings = keys::examine(&mut tx, environment, kek, now).await?;
    findings.push(key_sets::examine(&mut tx, settings).await?);
    let published = signing_keys::list_published_kids(&mut tx, environment).await?;
    Ok((findings, published.into_iter().collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn examined(levels: &[(&'static str, Level)]) -> Examined {
        let finding = |&(code, level)| Finding { code, level, says: "so it is".into(), remedy: None };
        Examined { findings: levels.iter().map(finding).collect(), settings: None, server: None }
    }

    #[test]
    fn only_problems_fail_unless_warnings_are_told_to() {
        let well = examined(&[(codes::DATABASE, Level::Good), (codes::KEY_SETS, Level::Unknown)]);
        assert!(well.verdict(true).is_ok() && well.report().healthy);
        let warned = examined(&[(codes::DATABASE, Level::Good), (codes::ROLE, Level::Warning)]);
        assert!(warned.verdict(false).is_ok() && warned.report().healthy);
        assert_eq!(warned.verdict(true).unwrap_err().to_string(), "not all is well: role");
        let broken = examined(&[(codes::DATABASE, Level::Problem), (codes::ROLE, Level::Warning)]);
        assert_eq!(broken.verdict(false).unwrap_err().to_string(), "not all is well: database");
        assert!(!broken.report().healthy);
    }

    #[test]
    fn each_code_is_explained_in_the_documentation() {
        let page = include_str!("../../docs/operations.md");
        for code in codes::ALL {
            assert!(page.contains(&format!("| `{code}` |")), "docs/operations.md does not explain `{code}`");
        }
    }
}
