//! What is sold: unit primitives, backends, add-ons, license types, services.
