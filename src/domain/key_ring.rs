//! The life of signing keys as one pure step.
