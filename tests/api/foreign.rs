//! Libraries that we did not write verify our tokens with our plain key set alone, and refuse what was tampered with.

mod deny_lists;
mod documented;
pub(crate) mod library;
mod oauth;
pub(crate) mod packages;
pub(crate) mod question;
mod ruby;
mod schemathesis;
mod strangers;
mod vectors;
