//! The life of signing keys: what the pure key ring decides, made durable.

pub mod published_files;
