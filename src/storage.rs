//! All SQL: one file per table or small family of tables.
