//! The HTTP surface: the route table, one file per endpoint family, one table of errors.

pub(crate) mod admin;
mod authentication;
mod backend_caller;
mod body;
mod caching;
mod catalog;
mod connections;
mod deny_list;
mod deployments;
mod entitlements;
mod error;
pub(crate) mod graphql;
mod header_size;
mod health;
mod idempotency;
mod instances;
mod key_sets;
mod legacy_caller;
mod oauth;
mod openapi;
mod parameters;
mod problems;
mod request_id;
mod routes;
mod seat_links;
mod security_headers;
mod server;
mod sync;
mod time;

pub use connections::{Certificate, CertificateError};
pub use server::{Running, serve};
