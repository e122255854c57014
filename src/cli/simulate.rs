//! `simulate`: plays the instances of a deployment against it, and tells what they saw.

mod fleet;
mod installation;
mod tally;

use std::time::Duration;

use clap::{Args, Subcommand};
use url::Url;

use self::fleet::Fleet;
use super::output::{print_json, print_table};
use super::runtime::block_on;
use super::{CliError, Format, GlobalArgs};

/// Play what calls a service, to see how it bears it.
#[derive(Debug, Subcommand)]
pub(crate) enum SimulateArgs {
    Fleet(FleetArgs),
}

/// Activate instances, sync each at a minute of its own with retries, lost answers and restarts, and tell the worst
/// gap without a valid token.
///
/// Time is as fast as the service makes it: start it with a short `sync_interval` and `token_lifetime` of the usual
/// ratio (say `2s` and `16s` for `1h` and `8h`), and an hour of a fleet passes in two seconds.
#[derive(Args, Clone, Debug)]
pub(crate) struct FleetArgs {
    /// The service, such as `http://127.0.0.1:8080`.
    #[arg(long)]
    url: Url,
    /// The code of a license that allows so many instances of one kind.
    #[arg(long, env = "ACTIVATION_CODE", hide_env_values = true)]
    activation_code: String,
    /// How many instances.
    #[arg(long, default_value_t = 200)]
    instances: usize,
    /// How many sync intervals the simulation lasts.
    #[arg(long, default_value_t = 24)]
    intervals: u32,
    /// Of a thousand answers, how many are lost on their way to the instance.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u16).range(0..=1000))]
    lost_per_mille: u16,
    /// Of a thousand syncs, after how many the instance restarts, with what it had stored.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..=1000))]
    restarts_per_mille: u16,
    /// What the same number makes lost and restarted, it makes again.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

impl SimulateArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        match self {
            Self::Fleet(args) => args.run(global),
        }
    }
}

impl FleetArgs {
    fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let tally = block_on(Fleet::new(self)?.live())?;
        match global.format {
            Format::Json => print_json(&tally),
            Format::Table => print_table(&["what", "how much"], tally.rows()),
        }
    }
}

/// How long an instance waits for an answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);
