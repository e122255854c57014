//! A real PostgreSQL server of our own, for development and tests.
