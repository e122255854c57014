//! Verifies tokens offline.
