//! `maintain`: what keeps the tables small, now instead of when a replica comes to it.

use clap::Args;

use super::database::open_migrated;
use super::output::{print, print_json, print_table};
use super::rotation::actor;
use super::runtime::block_on;
use super::{CliError, Format, GlobalArgs};
use crate::clock::Clock;
use crate::maintenance::{self, Maintained};

/// Make the ledger's months ahead of time, forget those past the setting `ledger_retention_days`, and tidy up.
///
/// A running service does the same by itself, every ten minutes. Safe at any time.
#[derive(Args, Debug)]
pub(crate) struct MaintainArgs {}

impl MaintainArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let settings = global.settings()?;
        let done = block_on(async {
            let database = open_migrated(&settings).await?;
            maintenance::run(&database, &Clock::system(), settings.ledger_retention_days, &actor())
                .await
                .map_err(CliError::fault("could not maintain the tables"))
        })?;
        match global.format {
            Format::Json => print_json(&done)?,
            Format::Table => report(&done)?,
        }
        if done.is_postponed {
            return Err(CliError::refused(
                "not every month of the ledger could be made or forgotten: somebody holds it for long; run it again",
            ));
        }
        Ok(())
    }
}

fn report(done: &Maintained) -> Result<(), CliError> {
    print(&format!(
        "{} months of the ledger made ahead, {} forgotten; {} answers for retries, {} used assertions and {} results of \
         imports were no longer needed.",
        done.partitions_made,
        done.forgotten.len(),
        done.idempotency_keys,
        done.assertion_uses,
        done.import_results,
    ))?;
    if done.forgotten.is_empty() {
        return Ok(());
    }
    print_table(
        &["forgotten", "tokens, about", "MiB"],
        done.forgotten.iter().map(|month| {
            [month.name.clone(), month.about_tokens.to_string(), (month.bytes >> 20).to_string()]
        }),
    )
}
