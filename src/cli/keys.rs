//! `keys`: the life of signing keys, one file per step. Every verb names its kids.

mod compromise;
mod generate;
mod kid_argument;
mod lifecycle;
mod list;
mod plan;
mod publish;
mod root;
mod site;
mod status;
mod words;

use clap::Subcommand;

use self::compromise::CompromiseArgs;
use self::generate::GenerateArgs;
pub(super) use self::kid_argument::mark_kids;
use self::lifecycle::{AbandonArgs, ActivateArgs, ArmArgs};
use self::publish::{PublishArgs, RetireArgs};
use self::root::RootArgs;
use super::{CliError, GlobalArgs};

/// Make, publish, prove, rotate and end signing keys. Private halves are never shown.
#[derive(Debug, Subcommand)]
pub(crate) enum KeysArgs {
    Abandon(AbandonArgs),
    Activate(ActivateArgs),
    Arm(ArmArgs),
    Compromise(CompromiseArgs),
    Generate(GenerateArgs),
    /// Every key that ever was, with its state.
    List,
    /// What lies ahead of each key: when it is safe at the earliest, and who blocks it.
    Plan,
    Publish(PublishArgs),
    Retire(RetireArgs),
    #[command(subcommand)]
    Root(RootArgs),
    /// Which keys sign and could follow, which backend holds which key, and how fast a revocation works.
    Status,
}

impl KeysArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        match self {
            Self::Abandon(args) => args.run(global),
            Self::Activate(args) => args.run(global),
            Self::Arm(args) => args.run(global),
            Self::Compromise(args) => args.run(global),
            Self::Generate(args) => args.run(global),
            Self::List => list::run(global),
            Self::Plan => plan::run(global),
            Self::Publish(args) => args.run(global),
            Self::Retire(args) => args.run(global),
            Self::Root(args) => args.run(global),
            Self::Status => status::run(global),
        }
    }
}

const READING: &str = "could not read the keys";
