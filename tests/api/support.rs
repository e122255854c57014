//! What tests start from: see each module.

pub(crate) mod app;
pub(crate) mod certificates;
pub(crate) mod cutter;
pub(crate) mod database;
pub(crate) mod debian;
pub(crate) mod durable;
pub(crate) mod fleet;
pub(crate) mod follower;
pub(crate) mod installation;
pub(crate) mod keys;
pub(crate) mod load;
pub(crate) mod moving_address;
pub(crate) mod postgres_proxy;
pub(crate) mod program;
pub(crate) mod receiver;
pub(crate) mod rotation;
