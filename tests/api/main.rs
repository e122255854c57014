//! The service as outsiders see it, on a real PostgreSQL: each test has a database of its own.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed, and may say so"
)]

mod access;
mod activation;
mod admin;
mod algorithms;
mod audit;
mod background;
mod backups;
mod catalog_changes;
mod catalogs;
mod clock;
mod clones;
mod contracts;
mod databases;
mod deployment;
mod deployments;
mod dev;
mod doctor;
mod examples;
mod explanations;
mod failover;
mod fleet;
mod foreign;
mod hard_shell;
mod import_command;
mod key_birth;
mod key_commands;
mod key_machine;
mod key_schema;
mod key_set_commands;
mod key_sets;
mod key_watch;
mod laws;
mod least_privilege;
mod maintenance;
mod monitoring;
mod oauth;
mod older_instances;
mod openapi;
mod pooler;
mod recovery;
mod root_ceremony;
mod rotation;
mod runbooks;
mod sealed_halves;
mod support;
mod sync;
mod sync_facts;
mod threat_model;
mod torture;
mod traces;
mod upgrades;
