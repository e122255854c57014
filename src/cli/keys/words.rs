//! How times, spans and lists of keys are written for people and for programs.

use std::fmt::Display;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};

/// A day, for tables.
pub(super) fn day(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d").to_string()
}

/// An instant to the second, for sentences.
pub(super) fn moment(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// An instant, for programs.
pub(super) fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// How long something lasts that has a first day.
pub(super) fn days(span: TimeDelta) -> String {
    if span < TimeDelta::zero() { "ended".to_owned() } else { format!("{} days", span.num_days()) }
}

/// A, B and C.
pub(super) fn listed<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match items.as_slice() {
        [] => "none".to_owned(),
        [one] => one.clone(),
        [many @ .., last] => format!("{} and {last}", many.join(", ")),
    }
}
