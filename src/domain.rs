//! The rules, pure: no clock, no I/O, no randomness.

pub mod add_on_purchase;
pub mod admin_scope;
pub mod audit_chain;
pub mod backend;
pub mod catalog;
pub mod credential;
pub mod entitlement;
pub mod ids;
pub mod import;
pub mod instance;
pub mod key_ring;
pub mod license;
pub mod probes;
pub mod public_address;
pub mod sealed;
pub mod subscription;
pub mod sync_line;
pub mod sync_rhythm;
pub mod sync_schedule;
pub mod token_plan;
pub mod version;
pub mod webhook;
pub mod words;
