//! The catalog: whether its files can be read whole, and whether its tokens stay small enough.

use super::finding::{Finding, codes};
use crate::catalog_files;
use crate::cli::catalog::check_token_sizes;
use crate::config::Settings;

pub(super) fn examine(settings: &Settings) -> Finding {
    let folder = match settings.catalog_dir() {
        Ok(folder) => folder,
        Err(error) => {
            return Finding::problem(
                codes::CATALOG,
                error.to_string(),
                "set `catalog_dir`: `serve` needs it",
            );
        }
    };
    let checked = catalog_files::read(folder).map_err(|error| error.to_string()).and_then(|catalog| {
        match check_token_sizes(&catalog, settings) {
            Ok(()) => Ok(catalog),
            Err(error) => Err(error.report()),
        }
    });
    match checked {
        Ok(catalog) => Finding::good(
            codes::CATALOG,
            format!(
                "{} unit primitives in {} ({})",
                catalog.unit_primitives().len(),
                folder.display(),
                catalog.digest()
            ),
        ),
        Err(says) => Finding::problem(
            codes::CATALOG,
            says,
            "mend the files; `token-authority catalog check` tells the same until nothing is wrong",
        ),
    }
}
