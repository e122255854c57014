//! Libraries that we did not write verify our tokens with our plain key set alone, and refuse what was tampered with.

mod documented;
pub(crate) mod library;
mod oauth;
pub(crate) mod packages;
mod schemathesis;
mod vectors;
