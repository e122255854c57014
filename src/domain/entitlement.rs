//! Decides which unit primitives an instance may use, and says why.
