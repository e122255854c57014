//! What tests start from: see each module.

pub(crate) mod database;
pub(crate) mod durable;
pub(crate) mod keys;
