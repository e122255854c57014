//! Terms as a contract words them: instants, or dates in a time zone.

use std::str::FromStr;

use chrono::{DateTime, Datelike, LocalResult, NaiveDate, NaiveTime, SubsecRound, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use super::WrongValue;
use crate::domain::subscription::Term;

/// One end of a term as it was written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Moment {
    /// The first instant of this day, where the contract holds. As an end it is exclusive: the term
    /// ends as that day begins.
    Date(NaiveDate),
    Instant(DateTime<Utc>),
}

/// A text that is neither a date nor an instant.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "must be an instant as in RFC 3339, such as 2026-11-20T14:00:00Z, or a date, such as 2026-11-20, from {} to {}",
    KEPT_YEARS.start(),
    KEPT_YEARS.end()
)]
pub struct NotAMoment;

impl FromStr for Moment {
    type Err = NotAMoment;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let moment = if text.len() == DATE_LENGTH {
            Self::Date(NaiveDate::parse_from_str(text, "%Y-%m-%d").map_err(|_| NotAMoment)?)
        } else {
            let at = DateTime::parse_from_rfc3339(text).map_err(|_| NotAMoment)?;
            // What PostgreSQL keeps.
            Self::Instant(at.to_utc().trunc_subsecs(6))
        };
        let year = match moment {
            Self::Date(date) => date.year(),
            Self::Instant(at) => at.year(),
        };
        if KEPT_YEARS.contains(&year) { Ok(moment) } else { Err(NotAMoment) }
    }
}

impl Moment {
    /// The instant that is meant in a time zone.
    #[must_use]
    pub fn instant(self, time_zone: Tz) -> DateTime<Utc> {
        match self {
            Self::Date(date) => first_instant(date, time_zone),
            Self::Instant(at) => at,
        }
    }

    /// The date, where one was written.
    #[must_use]
    pub fn date(self) -> Option<NaiveDate> {
        match self {
            Self::Date(date) => Some(date),
            Self::Instant(_) => None,
        }
    }
}

/// A term, and how it was worded.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WordedTerm {
    pub term: Term,
    pub starts_on: Option<NaiveDate>,
    pub ends_on: Option<NaiveDate>,
}

impl WordedTerm {
    /// The term from one moment to another.
    ///
    /// # Errors
    /// It would not start before it ends.
    pub fn new(starts_at: Moment, ends_at: Moment, time_zone: Tz) -> Result<Self, WrongValue> {
        let (start, end) = (starts_at.instant(time_zone), ends_at.instant(time_zone));
        let term = Term::new(start, end).ok_or_else(|| WrongValue {
            member: "ends_at",
            code: "out_of_range",
            detail: "must be later than starts_at; an end is exclusive".to_owned(),
        })?;
        Ok(Self { term, starts_on: starts_at.date(), ends_on: ends_at.date() })
    }

    /// Where the term starts, as it was worded.
    #[must_use]
    pub fn starts(&self) -> Moment {
        self.starts_on.map_or(Moment::Instant(self.term.starts_at()), Moment::Date)
    }

    /// Where the term ends, as it was worded.
    #[must_use]
    pub fn ends(&self) -> Moment {
        self.ends_on.map_or(Moment::Instant(self.term.ends_at()), Moment::Date)
    }
}

/// The first instant of a day: midnight, or the first minute that the day has where clocks are put
/// forward at midnight, or the earlier of two midnights where they are put back.
fn first_instant(date: NaiveDate, time_zone: Tz) -> DateTime<Utc> {
    let midnight = date.and_time(NaiveTime::MIN);
    for minutes in 0..=MINUTES_OF_THE_LONGEST_GAP {
        let Some(local) = midnight.checked_add_signed(TimeDelta::minutes(minutes)) else { break };
        match time_zone.from_local_datetime(&local) {
            LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => return at.to_utc(),
            LocalResult::None => {}
        }
    }
    midnight.and_utc()
}

/// Years that the database keeps and that four digits can write.
const KEPT_YEARS: std::ops::RangeInclusive<i32> = 1970..=9999;
const DATE_LENGTH: usize = "2026-11-20".len();
/// Samoa left out a whole day in 2011.
const MINUTES_OF_THE_LONGEST_GAP: i64 = 25 * 60;

#[cfg(test)]
mod tests {
    use super::*;

    fn first(date: &str, time_zone: &str) -> String {
        let moment: Moment = date.parse().unwrap();
        moment.instant(time_zone.parse().unwrap()).to_rfc3339()
    }

    #[test]
    fn a_date_is_the_first_instant_of_its_day_where_the_contract_holds() {
        assert_eq!(first("2026-11-20", "UTC"), "2026-11-20T00:00:00+00:00");
        assert_eq!(first("2026-11-20", "Europe/Berlin"), "2026-11-19T23:00:00+00:00");
        assert_eq!(first("2026-07-01", "America/Los_Angeles"), "2026-07-01T07:00:00+00:00");
        assert_eq!(first("2027-01-01", "Pacific/Kiritimati"), "2026-12-31T10:00:00+00:00");
    }

    #[test]
    fn a_day_without_midnight_begins_when_it_begins() {
        // Clocks went from 00:00 to 01:00.
        assert_eq!(first("2018-11-04", "America/Sao_Paulo"), "2018-11-04T03:00:00+00:00");
        // A day that never was: the next one begins.
        assert_eq!(first("2011-12-30", "Pacific/Apia"), first("2011-12-31", "Pacific/Apia"));
    }

    #[test]
    fn of_two_midnights_the_first_counts() {
        // Clocks went from 01:00 back to 00:00.
        assert_eq!(first("2026-11-01", "America/Havana"), "2026-11-01T04:00:00+00:00");
    }

    #[test]
    fn an_instant_is_kept_to_the_microsecond() {
        let moment: Moment = "2026-11-20T15:00:00.1234567+01:00".parse().unwrap();
        assert_eq!(moment.instant(Tz::UTC).to_rfc3339(), "2026-11-20T14:00:00.123456+00:00");
        assert_eq!(moment.date(), None);
    }

    #[test]
    fn what_is_no_moment_is_refused() {
        let long = "9".repeat(10_000);
        for text in [
            "",
            "tomorrow",
            "2026-02-30",
            "2026-1-1",
            "26-01-01",
            "2026-11-20T14:00:00",
            "0000-01-01",
            "1969-12-31",
            &long,
        ] {
            assert_eq!(text.parse::<Moment>(), Err(NotAMoment), "{text}");
        }
    }

    #[test]
    fn a_term_keeps_the_words_of_its_contract() {
        let term = |starts: &str, ends: &str| {
            WordedTerm::new(starts.parse().unwrap(), ends.parse().unwrap(), Tz::Europe__Berlin)
        };
        let worded = term("2026-01-01", "2027-01-01T00:00:00Z").unwrap();
        assert_eq!(worded.starts(), "2026-01-01".parse().unwrap());
        assert_eq!(worded.ends(), "2027-01-01T00:00:00Z".parse().unwrap());
        assert_eq!(term("2026-01-01", "2026-01-01").unwrap_err().member, "ends_at");
    }
}
