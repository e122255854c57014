//! Why a change is refused, or failed.

use crate::keystore::KeystoreError;
use crate::storage::StorageError;

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum FulfillmentError {
    /// The record is at another revision than the change was made on.
    #[error("the record has changed")]
    Changed,
    /// What is recorded does not allow it.
    #[error("{what}")]
    Conflict {
        what: String,
        /// The record that is in the way, where it is another one.
        existing: Option<String>,
    },
    /// More than whoever asks may give.
    #[error("{0}")]
    Forbidden(String),
    #[error("some values are wrong")]
    Invalid(Vec<WrongValue>),
    #[error("could not make or digest a secret")]
    Keystore(#[from] KeystoreError),
    #[error("there is no such {0}")]
    NotFound(&'static str),
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A value that cannot be, by what is recorded or sold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WrongValue {
    /// The member of the request.
    pub member: &'static str,
    pub code: &'static str,
    pub detail: String,
}

impl FulfillmentError {
    /// What is recorded does not allow it; no other record is in the way.
    pub(super) fn conflict(what: impl Into<String>) -> Self {
        Self::Conflict { what: what.into(), existing: None }
    }
}

/// Another record of this kind has the `external_ref`.
pub(super) fn taken(kind: &str, existing: impl ToString) -> FulfillmentError {
    FulfillmentError::Conflict {
        what: format!("Another {kind} has this external_ref."),
        existing: Some(existing.to_string()),
    }
}

/// A record of this kind has the `external_ref`, and says something else.
pub(super) fn taken_by_another(kind: &str, existing: impl ToString) -> FulfillmentError {
    FulfillmentError::Conflict {
        what: format!("A {kind} with this external_ref is recorded already, and it says something else."),
        existing: Some(existing.to_string()),
    }
}

/// Passes when nothing was found wrong.
pub(super) fn refuse_wrong(wrong: Vec<WrongValue>) -> Result<(), FulfillmentError> {
    if wrong.is_empty() { Ok(()) } else { Err(FulfillmentError::Invalid(wrong)) }
}

/// A name that the catalog does not know, with the nearest that it does.
pub(super) fn unknown_name<'a>(
    member: &'static str,
    name: &str,
    known: impl Iterator<Item = &'a str>,
) -> WrongValue {
    let nearest = crate::domain::catalog::check::nearest(name, known);
    let hint = nearest.map(|nearest| format!("; did you mean {nearest}?")).unwrap_or_default();
    WrongValue { member, code: "unknown", detail: format!("{name} is not in the catalog{hint}") }
}
