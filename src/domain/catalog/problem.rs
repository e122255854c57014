//! What can be wrong with the records of a catalog, and where.

use std::fmt;

use super::records::RecordKind;

/// What is wrong. The words are stable, and listed in `docs/catalog.md`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum ProblemCode {
    /// An alias is the name of a unit primitive, or an alias of another.
    AmbiguousAlias,
    /// The basic unit primitive is not among its service's.
    BasicNotInService,
    /// Two backends have one audience: a token for one would pass at the other.
    DuplicateAudience,
    /// A list names something twice.
    DuplicateItem,
    /// Two records of one kind have one name.
    DuplicateName,
    /// A list that must name something is empty.
    EmptyList,
    /// An audience is not 1 to 255 visible ASCII characters.
    InvalidAudience,
    /// A text is empty, too long, or holds control characters.
    InvalidText,
    /// A catalog, or a list in it, has more entries than the bound.
    TooMany,
    /// A link names nothing in the catalog.
    UnknownLink,
}

impl ProblemCode {
    /// Every code, in the order of their words.
    pub const ALL: &'static [Self] = &[
        Self::AmbiguousAlias,
        Self::BasicNotInService,
        Self::DuplicateAudience,
        Self::DuplicateItem,
        Self::DuplicateName,
        Self::EmptyList,
        Self::InvalidAudience,
        Self::InvalidText,
        Self::TooMany,
        Self::UnknownLink,
    ];

    /// The stable word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AmbiguousAlias => "ambiguous_alias",
            Self::BasicNotInService => "basic_not_in_service",
            Self::DuplicateAudience => "duplicate_audience",
            Self::DuplicateItem => "duplicate_item",
            Self::DuplicateName => "duplicate_name",
            Self::EmptyList => "empty_list",
            Self::InvalidAudience => "invalid_audience",
            Self::InvalidText => "invalid_text",
            Self::TooMany => "too_many",
            Self::UnknownLink => "unknown_link",
        }
    }
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Where a problem is.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Site {
    pub kind: RecordKind,
    /// The record's name.
    pub record: String,
    /// The field as the files spell it.
    pub field: &'static str,
    /// The item of a list, counted from zero.
    pub item: Option<usize>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    pub site: Site,
    pub code: ProblemCode,
    /// A sentence for people.
    pub detail: String,
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}, {}", self.kind.folder(), self.record, self.field)?;
        self.item.map_or(Ok(()), |item| write!(f, "[{item}]"))
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.site, self.detail, self.code)
    }
}

/// Everything that is wrong with a catalog's records; never empty.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the catalog has {} problems, the first: {}", .0.len(), .0.first().map_or_else(String::new, Problem::to_string))]
pub struct InvalidCatalog(pub Vec<Problem>);
