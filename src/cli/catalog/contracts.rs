//! What backends declare that they enforce, from the files in their repositories, compared with the catalog.

use std::collections::BTreeSet;
use std::path::PathBuf;

use token_authority_verifier::build::Contract;

use crate::cli::CliError;
use crate::cli::output::{print, print_table};
use crate::domain::catalog::Catalog;
use crate::domain::catalog::contracts::{ContractReport, Contracts};

/// Reads the contracts, and compares them with the catalog. Two of one backend, as of two versions that both run, are
/// taken together: what both enforce.
pub(super) fn compare(catalog: &Catalog, files: &[PathBuf]) -> Result<ContractReport, CliError> {
    let mut contracts = Contracts::new();
    for file in files {
        let json =
            std::fs::read(file).map_err(CliError::fault(format!("could not read {}", file.display())))?;
        let contract = Contract::parse(&json, file).map_err(|error| CliError::refused(error.to_string()))?;
        let enforced: BTreeSet<String> = contract.unit_primitives.into_iter().collect();
        match contracts.get_mut(&contract.backend) {
            Some(known) => known.retain(|name| enforced.contains(name)),
            None => {
                contracts.insert(contract.backend, enforced);
            }
        }
    }
    Ok(ContractReport::new(catalog, &contracts))
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
