//! `docs/configuration.md` is made from the fields; this proves that it is fresh.

use std::path::Path;

use super::{FIELDS, PREFIX};

#[test]
fn the_configuration_page_shows_every_setting_as_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let fresh = page();
    if std::fs::read_to_string(&path).unwrap_or_default() != fresh {
        std::fs::write(&path, fresh).unwrap();
        panic!("docs/configuration.md was stale and has been rewritten; commit it");
    }
}

fn page() -> String {
    let mut page = format!(
        "# Configuration\n\n\
         <!-- Made from src/config/fields.rs by a test; change it there. -->\n\n\
         Settings come from a TOML file, named by `--config FILE` or `TOKEN_AUTHORITY_CONFIG`, and from \
         variables. A variable is `{PREFIX}` and the setting's name in capitals; it wins over the file, and \
         an empty one counts as not set. Unknown names are refused in both, and everything that is wrong is \
         told at once. `token-authority config show` prints what holds, with secrets redacted.\n\n\
         A *duration* is a whole number with a unit (`1500ms`, `90s`, `5m`, `8h`, `14d`), or whole seconds. \
         A *list* is separated by commas, or an array in the file. Relative paths start at the working \
         directory.\n\n\
         `serve` needs `database_url` or `database_url_file`, `kek_file`, `catalog_dir` and `issuer`; \
         everything else has a default that serves.\n"
    );
    for field in FIELDS {
        let default = match field.default {
            Some("") => "none".to_owned(),
            Some(default) => format!("`{default}`"),
            None => "not set".to_owned(),
        };
        page.push_str(&format!(
            "\n## `{}`\n\n{}\n\n- variable: `{}`\n- value: {}\n- default: {default}\n",
            field.name,
            field.summary(),
            field.variable(),
            field.unit,
        ));
    }
    page
}
