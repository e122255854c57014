//! The HTTP surface: the route table, one file per endpoint family, one table of errors.
