//! Secrets that we hand out: prefix, 256 random bits, checksum.
