//! What stops a bench: one error type, since nobody but a person reads it.

use std::fmt;

/// A sentence, or the error of another part.
pub(crate) struct Fault(String);

pub(crate) type Outcome<T> = Result<T, Fault>;

impl Fault {
    pub(crate) fn new(says: impl Into<String>) -> Self {
        Self(says.into())
    }
}

impl<E: std::error::Error> From<E> for Fault {
    fn from(error: E) -> Self {
        let mut says = error.to_string();
        let mut next = error.source();
        while let Some(source) = next {
            says.push_str(": ");
            says.push_str(&source.to_string());
            next = source.source();
        }
        Self(says)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
