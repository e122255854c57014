//! `key-set`: what backend teams do with published key sets, without a database.

mod check_deploy;
mod embed;
mod policy;
mod service;
mod verify;

use clap::Subcommand;

use super::{CliError, GlobalArgs};

/// Verify key sets, embed them in a backend, and check a build before it is deployed.
#[derive(Debug, Subcommand)]
pub(crate) enum KeySetArgs {
    CheckDeploy(check_deploy::CheckDeployArgs),
    Embed(embed::EmbedArgs),
    Verify(verify::VerifyArgs),
}

impl KeySetArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        match self {
            Self::CheckDeploy(args) => args.run(global),
            Self::Embed(args) => args.run(global),
            Self::Verify(args) => args.run(global),
        }
    }
}
