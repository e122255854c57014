//! What every handler shares: clock, storage, catalog, keystore, limits.
