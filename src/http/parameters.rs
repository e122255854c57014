//! Collects what is wrong with a request, so that all of it is told at once, and parses what is often sent.

use std::str::FromStr;

use chrono::{DateTime, Utc};

use super::error::{ApiError, InvalidValue};

/// The wrong values of one request.
#[derive(Debug, Default)]
pub(crate) struct Invalid(Vec<InvalidValue>);

impl Invalid {
    /// Notes one wrong value.
    pub(crate) fn add(&mut self, pointer: &str, code: &'static str, detail: impl Into<String>) {
        self.0.push(InvalidValue { pointer: pointer.to_owned(), code, detail: detail.into() });
    }

    /// The value that a text names, or a note of what is wrong with it.
    pub(crate) fn parse<T>(&mut self, pointer: &str, text: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        text.parse().map_err(|error: T::Err| self.add(pointer, "invalid", error.to_string())).ok()
    }

    /// A text of a bounded number of characters, with something to see in it and no control characters.
    pub(crate) fn text(&mut self, pointer: &str, text: String, most: usize) -> Option<String> {
        let length = text.chars().count();
        if text.trim().is_empty() {
            self.add(pointer, "blank", "must not be blank");
        } else if length > most {
            self.add(pointer, "too_long", format!("may have {most} characters at the most, not {length}"));
        } else if text.chars().any(char::is_control) {
            self.add(pointer, "invalid", "must not contain control characters");
        } else {
            return Some(text);
        }
        None
    }

    /// A whole number within bounds.
    pub(crate) fn number(&mut self, pointer: &str, number: i64, least: i64, most: i64) -> Option<i32> {
        if (least..=most).contains(&number) {
            return i32::try_from(number).ok();
        }
        self.add(pointer, "out_of_range", format!("must be between {least} and {most}"));
        None
    }

    /// A cursor of the feed of events: the number of one, in decimal digits.
    pub(crate) fn cursor(&mut self, pointer: &str, text: &str) -> Option<u64> {
        let is_number = text.len() <= MOST_DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
        let cursor = text.parse().ok().filter(|_| is_number);
        if cursor.is_none() {
            let detail = "must be a cursor of the feed: its `next_cursor`, or the `sequence` of an event";
            self.add(pointer, "invalid", detail);
        }
        cursor
    }

    /// Passes when nothing was noted.
    ///
    /// # Errors
    /// 422 with everything that was.
    pub(crate) fn done(self) -> Result<(), ApiError> {
        if self.0.is_empty() { Ok(()) } else { Err(ApiError::invalid(self.0)) }
    }

    /// 422 with everything that was noted.
    pub(crate) fn refuse(self) -> ApiError {
        ApiError::invalid(self.0)
    }
}

/// An instant as RFC 3339 writes it.
///
/// # Errors
/// 422 at `pointer`.
pub(crate) fn instant(pointer: &str, text: &str) -> Result<DateTime<Utc>, ApiError> {
    let parsed = DateTime::parse_from_rfc3339(text).map(|at| at.to_utc());
    parsed.ok().filter(|at| KEPT_YEARS.contains(&chrono::Datelike::year(at))).ok_or_else(|| {
        let mut invalid = Invalid::default();
        invalid.add(pointer, "invalid", "must be an instant as in RFC 3339, such as 2026-11-20T14:00:00Z");
        invalid.refuse()
    })
}

/// Of the number of an event: far more than are ever given.
const MOST_DIGITS: usize = 18;

/// Years that the database keeps and that a four-digit year can write.
pub(crate) const KEPT_YEARS: std::ops::RangeInclusive<i32> = 1970..=9999;
