//! Private halves: sealed at rest, prepared once for signing.
