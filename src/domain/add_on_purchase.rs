//! An add-on bought with a quantity and a term of its own.
