//! `catalog check`: everything that is wrong with a catalog's files, and how large its tokens can become.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Source, SourceArgs, contracts};
use crate::catalog_files::FileProblem;
use crate::cli::output::{print, print_json, print_table};
use crate::cli::{CliError, Format, GlobalArgs};
use crate::config::Settings;
use crate::domain::catalog::Catalog;
use crate::domain::catalog::contracts::ContractReport;
use crate::domain::catalog::token_size::{LONGEST_ISSUER, LargestToken, largest_tokens};

/// Tell everything that is wrong with a catalog at once, and predict its largest tokens.
///
/// Exits with 1 if anything is wrong, or if a token could become larger than the setting `max_token_bytes`.
#[derive(Args, Debug)]
pub(crate) struct CheckArgs {
    /// The catalog's folder.
    #[arg(value_name = "DIR", conflicts_with_all = ["catalog_dir", "example"])]
    dir: Option<PathBuf>,
    #[command(flatten)]
    source: SourceArgs,
    /// Compare with what backends enforce: their `contract.json`; may be given several times.
    #[arg(long = "contracts", value_name = "FILE", num_args = 1..)]
    contracts: Vec<PathBuf>,
    /// Compare with what the running builds of backends told this deployment that they enforce.
    #[arg(long, conflicts_with = "contracts")]
    running: bool,
}

impl CheckArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let settings = global.settings()?;
        let source = self.dir.map_or_else(|| self.source.source(&settings), Source::Folder);
        let catalog = match source.read() {
            Ok(catalog) => catalog,
            Err(error) => {
                if global.format == Format::Json {
                    print_json(&Invalid { valid: false, problems: &error.problems })?;
                }
                return Err(error.into());
            }
        };
        let contracts = match self.contracts.as_slice() {
            [] if self.running => Some(contracts::compare_running(&catalog, &settings)?),
            [] => None,
            files => Some(contracts::compare(&catalog, files)?),
        };
        let budget = Budget::new(&catalog, &settings);
        match global.format {
            Format::Json => print_json(&Checked::new(&catalog, &budget, contracts.as_ref()))?,
            Format::Table => {
                print_report(&catalog, &budget)?;
                if let Some(report) = &contracts {
                    contracts::print_report(report)?;
                }
            }
        }
        budget.refuse_overflow()?;
        contracts.as_ref().map_or(Ok(()), contracts::refuse_differences)
    }
}

/// Refuses a catalog that could make a token larger than the settings allow.
pub(in crate::cli) fn check_token_sizes(catalog: &Catalog, settings: &Settings) -> Result<(), CliError> {
    Budget::new(catalog, settings).refuse_overflow()
}

/// What tokens may weigh, and what they do.
struct Budget {
    issuer_bytes: usize,
    limit: usize,
    tokens: Vec<LargestToken>,
}

impl Budget {
    fn new(catalog: &Catalog, settings: &Settings) -> Self {
        let issuer_bytes = settings.issuer.as_ref().map_or(LONGEST_ISSUER, |issuer| issuer.as_str().len());
        let tokens = largest_tokens(catalog, issuer_bytes);
        Self { issuer_bytes, limit: settings.max_token_bytes.get(), tokens }
    }

    fn fits(&self) -> bool {
        self.tokens.iter().all(|token| token.bytes <= self.limit)
    }

    fn refuse_overflow(&self) -> Result<(), CliError> {
        if self.fits() {
            return Ok(());
        }
        let too_large: Vec<_> = self
            .tokens
            .iter()
            .filter(|token| token.bytes > self.limit)
            .map(|token| format!("{} ({} bytes)", host(token), token.bytes))
            .collect();
        Err(CliError::refused(format!(
            "tokens may have {} bytes, and could have more for {}: shorten names, host fewer unit primitives on \
             one backend, or raise max_token_bytes if every backend accepts it (token_too_large)",
            self.limit,
            too_large.join(", ")
        )))
    }
}

/// Whom a token is for, in words.
fn host(token: &LargestToken) -> &str {
    token.backend.as_ref().map_or("all backends (joint token)", |backend| backend.as_str())
}

#[derive(Serialize)]
struct Invalid<'a> {
    valid: bool,
    problems: &'a [FileProblem],
}

#[derive(Serialize)]
struct Checked<'a> {
    valid: bool,
    problems: [FileProblem; 0],
    digest: &'a str,
    unit_primitives: usize,
    backend_services: usize,
    add_ons: usize,
    license_types: usize,
    services: usize,
    max_token_bytes: usize,
    issuer_bytes: usize,
    largest_tokens: Vec<CheckedToken<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    contracts: Option<&'a ContractReport>,
}

#[derive(Serialize)]
struct CheckedToken<'a> {
    /// `null`: the joint token of the compatibility surface.
    backend: Option<&'a str>,
    bytes: usize,
    fits: bool,
    scopes: usize,
    license_type: Option<&'a str>,
    realm: &'static str,
}

impl<'a> Checked<'a> {
    fn new(catalog: &'a Catalog, budget: &'a Budget, contracts: Option<&'a ContractReport>) -> Self {
        let largest_tokens = budget.tokens.iter().map(|token| CheckedToken {
            backend: token.backend.as_ref().map(|backend| backend.as_str()),
            bytes: token.bytes,
            fits: token.bytes <= budget.limit,
            scopes: token.scopes,
            license_type: token.license_type.as_ref().map(|name| name.as_str()),
            realm: token.realm.as_str(),
        });
        Self {
            valid: budget.fits() && contracts.is_none_or(ContractReport::holds),
            problems: [],
            digest: catalog.digest().as_str(),
            unit_primitives: catalog.unit_primitives().len(),
            backend_services: catalog.backends().len(),
            add_ons: catalog.add_ons().len(),
            license_types: catalog.license_types().len(),
            services: catalog.services().len(),
            max_token_bytes: budget.limit,
            issuer_bytes: budget.issuer_bytes,
            largest_tokens: largest_tokens.collect(),
            contracts,
        }
    }
}

fn print_report(catalog: &Catalog, budget: &Budget) -> Result<(), CliError> {
    print(&format!(
        "{} unit primitives, {} backend services, {} add-ons, {} license types, {} services; every link resolves.\n\
         {}\n\n\
         The largest tokens, for an issuer of {} bytes; the limit is {} bytes:\n",
        catalog.unit_primitives().len(),
        catalog.backends().len(),
        catalog.add_ons().len(),
        catalog.license_types().len(),
        catalog.services().len(),
        catalog.digest(),
        budget.issuer_bytes,
        budget.limit,
    ))?;
    print_table(
        &["token for", "scopes", "bytes", "of the limit"],
        budget.tokens.iter().map(|token| {
            let share = token.bytes.saturating_mul(100).div_ceil(budget.limit);
            [host(token).to_owned(), token.scopes.to_string(), token.bytes.to_string(), format!("{share} %")]
        }),
    )
}
