//! The licensing side: records what a customer bought, decides what an instance
//! may use, and mints short-lived tokens that backends verify offline.
//!
//! Arrows point down only; siblings do not use each other, except that use cases
//! use `storage` and `keystore`.
//!
//! ```text
//!              http                     cli
//!     (app: what handlers share)    dev serve keys …
//!               │                        │
//!   activation issuing fulfillment rotation audit webhooks maintenance   use cases (root_ceremony: offline)
//!       └────────┬────────────┘          │
//!             storage     keystore   embedded_postgres
//!              (SQL)   (sealed halves)
//!                └────┬─────┘
//!                  domain                         pure
//!                     │
//!           token-authority-verifier              claims, key set, verify
//! ```

pub mod activation;
pub mod app;
pub mod audit;
pub mod catalog_files;
pub mod cli;
pub mod clock;
pub mod config;
pub mod domain;
pub mod embedded_postgres;
pub mod fulfillment;
pub mod http;
pub mod issuing;
pub mod keystore;
pub mod maintenance;
pub mod root_ceremony;
pub mod rotation;
pub mod storage;
pub mod telemetry;
pub mod untrusted;
pub mod webhooks;
