//! The example catalog, compiled in, so that `dev` works from anywhere.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::folder::SourceFile;
use super::{InvalidCatalogFiles, assemble};
use crate::domain::catalog::{Catalog, RecordKind};

mod files;

pub use files::EXAMPLE_FILES;

/// The example catalog, from the files in this program.
///
/// A test proves that it has no problems.
pub fn example() -> Result<Catalog, InvalidCatalogFiles> {
    let files = EXAMPLE_FILES.iter().filter_map(|(path, text)| source_file(path, text)).collect();
    assemble(Path::new("catalog"), files, Vec::new())
}

/// Writes the example's files into this folder, which need not exist, for people to read and change.
/// Files of the same names are replaced.
pub fn write_example(dir: &Path) -> io::Result<()> {
    for (path, text) in EXAMPLE_FILES {
        let path = dir.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, text)?;
    }
    Ok(())
}

fn source_file(path: &str, text: &str) -> Option<SourceFile> {
    let (folder, name) = path.split_once('/')?;
    Some(SourceFile {
        kind: RecordKind::ALL.into_iter().find(|kind| kind.folder() == folder)?,
        stem: name.strip_suffix(".yml")?.to_owned(),
        path: PathBuf::from("catalog").join(path),
        text: Ok(text.to_owned()),
    })
}

/// The example's files, one of them with another text.
#[cfg(test)]
pub(super) fn with_file(changed: &str, changed_text: &str) -> Vec<SourceFile> {
    let text_of = |path, text| if path == changed { changed_text } else { text };
    EXAMPLE_FILES.iter().filter_map(|(path, text)| source_file(path, text_of(*path, text))).collect()
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// Rewrites `files.rs` if it is not what the folder `catalog` asks for.
    #[test]
    fn every_file_of_the_example_is_compiled_in() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut expected = String::from(
            "//! Made from the folder `catalog` by this module's test, which fails and rewrites it when it is stale.\n\n\
             /// Path within a catalog's folder, and text, of every file of the example; sorted.\n\
             #[rustfmt::skip]\n\
             pub const EXAMPLE_FILES: &[(&str, &str)] = &[\n",
        );
        for kind in RecordKind::ALL {
            let folder = kind.folder();
            let mut names: Vec<_> = fs::read_dir(root.join("catalog").join(folder))
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort_unstable();
            for name in names {
                writeln!(
                    expected,
                    "    (\"{folder}/{name}\", include_str!(\"../../../catalog/{folder}/{name}\")),"
                )
                .unwrap();
            }
        }
        expected.push_str("];\n");
        let path = root.join("src/catalog_files/example/files.rs");
        if fs::read_to_string(&path).unwrap_or_default() != expected {
            fs::write(&path, expected).unwrap();
            panic!("src/catalog_files/example/files.rs was stale and is rewritten: run the tests again");
        }
    }

    #[test]
    fn the_written_example_is_the_compiled_one() {
        let dir = tempfile::tempdir().unwrap();
        write_example(dir.path()).unwrap();
        assert_eq!(super::super::read(dir.path()).unwrap().digest(), example().unwrap().digest());
    }
}
