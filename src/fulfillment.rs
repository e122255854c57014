//! Records and amends what was bought, and measures the effect.
