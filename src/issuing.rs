//! The story of a sync, in batches.
