//! Versions as instances report them.
