//! What can be wrong with a catalog's files, told by file, line, column and field.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// Where something stands in a file; both numbers start at one, columns count characters.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// One thing that is wrong with a catalog's files.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct FileProblem {
    /// The file or folder, as it can be opened from where the program runs.
    pub path: PathBuf,
    /// Counted from one; `None` where the whole file is meant.
    pub line: Option<usize>,
    /// Counted from one, in characters.
    pub column: Option<usize>,
    /// The field, and the item of a list counted from zero: `add_ons[1]`.
    pub field: Option<String>,
    /// Stable; listed in `docs/catalog.md`.
    pub code: &'static str,
    /// A sentence for people.
    pub detail: String,
}

impl fmt::Display for FileProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let (Some(line), Some(column)) = (self.line, self.column) {
            write!(f, ":{line}:{column}")?;
        }
        if let Some(field) = &self.field {
            write!(f, ": {field}")?;
        }
        write!(f, ": {} ({})", self.detail, self.code)
    }
}

/// Everything that is wrong with a catalog's files, sorted by file and line; never empty. Prints one line each.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub struct InvalidCatalogFiles {
    pub problems: Vec<FileProblem>,
}

impl fmt::Display for InvalidCatalogFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => f.write_str("the catalog has 1 problem:")?,
            count => write!(f, "the catalog has {count} problems:")?,
        }
        for problem in &self.problems {
            write!(f, "\n{problem}")?;
        }
        Ok(())
    }
}

/// The codes of what is wrong with files; what is wrong with the records in them has the codes of
/// [`crate::domain::catalog::ProblemCode`].
pub mod codes {
    /// One field is there twice.
    pub const DUPLICATE_FIELD: &str = "duplicate_field";
    /// There are no unit primitives at all.
    pub const EMPTY_CATALOG: &str = "empty_catalog";
    /// A mistake in this program.
    pub const INTERNAL: &str = "internal";
    /// A text is no link.
    pub const INVALID_LINK: &str = "invalid_link";
    /// A text is no name.
    pub const INVALID_NAME: &str = "invalid_name";
    /// A text names no realm.
    pub const INVALID_REALM: &str = "invalid_realm";
    /// A text is no instant.
    pub const INVALID_TIME: &str = "invalid_time";
    /// A text is no version.
    pub const INVALID_VERSION: &str = "invalid_version";
    /// A field that must be there is not.
    pub const MISSING_FIELD: &str = "missing_field";
    /// The record's name is not the file's.
    pub const NAME_NOT_FILE: &str = "name_not_file";
    /// The file is not UTF-8.
    pub const NOT_UTF8: &str = "not_utf8";
    /// The file is not YAML.
    pub const SYNTAX: &str = "syntax";
    /// The file is larger than the bound.
    pub const TOO_LARGE: &str = "too_large";
    /// There are more files in a folder than the bound.
    pub const TOO_MANY_FILES: &str = "too_many_files";
    /// Something that does not belong in this folder.
    pub const UNEXPECTED_ENTRY: &str = "unexpected_entry";
    /// No such field.
    pub const UNKNOWN_FIELD: &str = "unknown_field";
    /// The file or folder cannot be read.
    pub const UNREADABLE: &str = "unreadable";
    /// Anchors, aliases, tags and several documents in a file are YAML, but not welcome here.
    pub const UNSUPPORTED_YAML: &str = "unsupported_yaml";
    /// A list where a text must be, or the like.
    pub const WRONG_TYPE: &str = "wrong_type";

    /// Every code, in the order of their words.
    pub const ALL: &[&str] = &[
        DUPLICATE_FIELD,
        EMPTY_CATALOG,
        INTERNAL,
        INVALID_LINK,
        INVALID_NAME,
        INVALID_REALM,
        INVALID_TIME,
        INVALID_VERSION,
        MISSING_FIELD,
        NAME_NOT_FILE,
        NOT_UTF8,
        SYNTAX,
        TOO_LARGE,
        TOO_MANY_FILES,
        UNEXPECTED_ENTRY,
        UNKNOWN_FIELD,
        UNREADABLE,
        UNSUPPORTED_YAML,
        WRONG_TYPE,
    ];
}
