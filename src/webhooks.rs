//! Tells events over HTTP, by the Standard Webhooks specification: each event once, in their order, per endpoint.
//!
//! An endpoint has one position in the feed. Whoever delivers holds a lease on it, so that two replicas
//! never do; an event that fails is tried again until it arrives, and nothing overtakes it.

pub mod address_policy;
pub mod courier;
pub mod delivery;
pub mod message;
pub mod retries;

pub use address_policy::AddressPolicy;
pub use courier::Courier;
