//! The command line: parses the arguments, hands over to one file per command family, and turns the outcome
//! into an exit code: 0 done, 1 refused or failed (the reason on stderr), 2 wrong usage.

mod admin_token;
mod audit;
mod catalog;
mod config;
mod confirm;
mod database;
mod dev;
mod doctor;
mod error;
mod health;
mod import;
mod init;
mod key_set;
mod keys;
mod keystore;
mod maintain;
mod migrate;
mod output;
mod recover;
mod rotation;
mod runtime;
mod serve;
mod service;
mod signals;
mod simulate;
mod test_cluster;
mod token;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub use error::CliError;
pub use output::Format;

use crate::config::Settings;

/// Runs the command that the process's arguments name.
///
/// Wrong usage, `--help` and `--version` are answered by the parser, which ends the process with 2 or 0.
#[must_use]
pub fn run() -> ExitCode {
    let Cli { command, global } = Cli::parse_from(keys::mark_kids(std::env::args_os()));
    match command.run(&global) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Decides what an installed instance may use, and mints short-lived tokens that backends verify offline.
#[derive(Debug, Parser)]
#[command(name = "token-authority", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    global: GlobalArgs,
}

/// What every command takes, before or after its name.
#[derive(Args, Clone, Debug)]
pub struct GlobalArgs {
    /// TOML file of settings; `TOKEN_AUTHORITY_…` variables win over it.
    #[arg(long, global = true, value_name = "FILE", env = "TOKEN_AUTHORITY_CONFIG")]
    pub config: Option<PathBuf>,
    /// A table for people, or one JSON document for programs.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    pub format: Format,
}

impl GlobalArgs {
    /// The settings of this deployment, from the file and the environment.
    pub(crate) fn settings(&self) -> Result<Settings, CliError> {
        Ok(Settings::load(self.config.as_deref())?)
    }
}

/// One variant per command family, each in a file of its own.
#[derive(Debug, Subcommand)]
enum Command {
    #[command(subcommand)]
    AdminToken(admin_token::AdminTokenArgs),
    #[command(subcommand)]
    Audit(audit::AuditArgs),
    #[command(subcommand)]
    Catalog(catalog::CatalogArgs),
    #[command(subcommand)]
    Config(config::ConfigArgs),
    Dev(dev::DevArgs),
    Doctor(doctor::DoctorArgs),
    Health(health::HealthArgs),
    Import(import::ImportArgs),
    Init(init::InitArgs),
    #[command(subcommand)]
    KeySet(key_set::KeySetArgs),
    #[command(subcommand)]
    Keys(keys::KeysArgs),
    Maintain(maintain::MaintainArgs),
    Migrate(migrate::MigrateArgs),
    Recover(recover::RecoverArgs),
    Serve(serve::ServeArgs),
    #[command(subcommand)]
    Simulate(simulate::SimulateArgs),
    #[command(hide = true)]
    TestCluster(test_cluster::TestClusterArgs),
    #[command(subcommand)]
    Token(token::TokenArgs),
}

impl Command {
    fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        match self {
            Self::AdminToken(args) => args.run(global),
            Self::Audit(args) => args.run(global),
            Self::Catalog(args) => args.run(global),
            Self::Config(args) => args.run(global),
            Self::Dev(args) => args.run(global),
            Self::Doctor(args) => args.run(global),
            Self::Health(args) => args.run(global),
            Self::Import(args) => args.run(global),
            Self::Init(args) => args.run(global),
            Self::KeySet(args) => args.run(global),
            Self::Keys(args) => args.run(global),
            Self::Maintain(args) => args.run(global),
            Self::Migrate(args) => args.run(global),
            Self::Recover(args) => args.run(global),
            Self::Serve(args) => args.run(global),
            Self::Simulate(args) => args.run(global),
            Self::TestCluster(args) => args.run(),
            Self::Token(args) => args.run(global),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        Cli::command().debug_assert();
    }
}
