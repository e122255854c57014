//! The right to activate instances under a subscription.
