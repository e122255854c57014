//! A customer's term, plan and seats, with its timeline of conditions.
