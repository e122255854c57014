//! What backends declare that they enforce, in the files of their repositories or as running builds, compared with the
//! catalog.

use std::path::PathBuf;

use token_authority_verifier::build::Contract;

use crate::cli::CliError;
use crate::cli::database::open_migrated;
use crate::cli::output::{print, print_table};
use crate::cli::runtime::block_on;
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::catalog::Catalog;
use crate::domain::catalog::contracts::{ContractReport, Contracts};
use crate::domain::key_ring::FORGET_AFTER;
use crate::storage::contracts;

/// Reads the contracts, and compares them with the catalog. Two of one backend are of two versions that both run.
pub(super) fn compare(catalog: &Catalog, files: &[PathBuf]) -> Result<ContractReport, CliError> {
    let mut contracts = Contracts::default();
    for file in files {
        let json =
            std::fs::read(file).map_err(CliError::fault(format!("could not read {}", file.display())))?;
        let contract = Contract::parse(&json, file).map_err(|error| CliError::refused(error.to_string()))?;
        contracts.add(&contract.backend, contract.unit_primitives.into_iter().collect());
    }
    Ok(ContractReport::new(catalog, &contracts))
}

/// The same with what the running builds have told the deployment.
pub(super) fn compare_running(catalog: &Catalog, settings: &Settings) -> Result<ContractReport, CliError> {
    let builds = block_on(async {
        let database = open_migrated(settings).await?;
        let doing = || CliError::fault("could not read what backends told");
        let mut tx = database.begin().await.map_err(doing())?;
        let heard_since = Clock::system().now() - FORGET_AFTER;
        let environment = settings.environment.as_str();
        contracts::list(&mut tx, environment, heard_since).await.map_err(doing())
    })?;
    Ok(ContractReport::new(catalog, &contracts::of(&builds)))
}

pub(super) fn print_report(report: &ContractReport) -> Result<(), CliError> {
    if !report.undeclared.is_empty() {
        let names: Vec<_> = report.undeclared.iter().map(ToString::to_string).collect();
        print(&format!("\nWithout a contract: {}.", names.join(", ")))?;
    }
    if report.holds() {
        return print(
            "\nWhat the contracts enforce is for sale, and what is sold on their backends is enforced.",
        );
    }
    print("")?;
    let nowhere = report.enforced_nowhere.iter().map(|entry| {
        let backends: Vec<_> = entry.backends.iter().map(ToString::to_string).collect();
        let why = if backends.is_empty() { "no backend hosts it" } else { "sold, and enforced nowhere" };
        [entry.unit_primitive.to_string(), backends.join(", "), why.to_owned()]
    });
    let in_vain = report.not_sellable.iter().map(|entry| {
        let instead = entry.instead.as_ref().map(|name| format!(": {name}")).unwrap_or_default();
        let why = format!("enforced, and in no token: {}{instead}", entry.reason.sentence());
        [entry.unit_primitive.clone(), entry.backend.clone(), why]
    });
    print_table(&["unit primitive", "backend", "difference"], nowhere.chain(in_vain))
}

pub(super) fn refuse_differences(report: &ContractReport) -> Result<(), CliError> {
    if report.holds() {
        return Ok(());
    }
    Err(CliError::refused(format!(
        "what is sold and what is enforced differ: {} sold and enforced nowhere, {} enforced and in no token",
        report.enforced_nowhere.len(),
        report.not_sellable.len()
    )))
}
