//! Reads the catalog's YAML files into a domain catalog, with every problem told by file, line and field.
