//! A registered verifier of tokens.

use super::words::words;

words! {
    /// Where a backend has its keys from.
    KeyTrust {
        /// From the key set that it fetches while it runs.
        Discovery => "discovery",
        /// From the key set that was compiled into it.
        Embedded => "embedded",
    }
}
