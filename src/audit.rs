//! The audit as evidence: signs how far it goes, exports it, and finds what was done to it.

pub mod checkpoint;
pub mod export;
pub mod verification;
