//! Libraries that we did not write verify our tokens with our plain key set alone, and refuse what was tampered with.
#![expect(clippy::unwrap_used, reason = "a test ends where its expectation does")]

mod library;
mod vectors;
