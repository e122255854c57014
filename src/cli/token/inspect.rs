//! `token inspect`: decodes a token, and says that this proves nothing.

use chrono::{DateTime, Utc};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use token_authority_verifier::Unverified;

use super::{read_token, visible};
use crate::cli::output::{Format, print_json, print_table};
use crate::cli::{CliError, GlobalArgs};

/// Show what a token says, without verifying anything.
#[derive(Args, Debug)]
pub(crate) struct InspectArgs {
    /// The token, or `-` to read it from the standard input.
    #[arg(value_name = "TOKEN|-")]
    token: String,
}

impl InspectArgs {
    pub(crate) fn run(self, global: &GlobalArgs, now: DateTime<Utc>) -> Result<(), CliError> {
        let inspection = Inspection::of(&read_token(self.token)?)?;
        match global.format {
            Format::Json => print_json(&inspection),
            Format::Table => print_table(&["of", "member", "says"], inspection.rows(now)),
        }
    }
}

/// What a token says. Anyone can have written it.
#[derive(Debug, Serialize)]
struct Inspection {
    /// Always false: an answer that leaves this command must not pass for a verdict.
    verified: bool,
    header: Value,
    claims: Value,
}

impl Inspection {
    fn of(token: &str) -> Result<Self, CliError> {
        let decoded = Unverified::decode(token)
            .map_err(|refusal| CliError::refused(format!("{}: {refusal}", refusal.code())))?;
        // A payload that is no JSON is shown as the text that it is.
        let json = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
        Ok(Self { verified: false, header: json(decoded.header()), claims: json(decoded.payload()) })
    }

    fn rows(&self, now: DateTime<Utc>) -> Vec<[String; 3]> {
        let mut rows = vec![
            ["", "verified", "no: nothing was checked, anyone can have written this"].map(str::to_owned),
        ];
        rows.extend(members("header", &self.header, now));
        rows.extend(members("claims", &self.claims, now));
        rows
    }
}

fn members(part: &str, value: &Value, now: DateTime<Utc>) -> Vec<[String; 3]> {
    match value {
        Value::Object(members) => members
            .iter()
            .map(|(name, value)| [part.to_owned(), visible(name), said(name, value, now)])
            .collect(),
        other => vec![[part.to_owned(), String::new(), said("", other, now)]],
    }
}

/// A member's value for people: times as dates, strings without quotes, lists by commas.
pub(super) fn said(name: &str, value: &Value, now: DateTime<Utc>) -> String {
    match value {
        Value::String(text) => visible(text),
        Value::Number(seconds) if matches!(name, "exp" | "iat" | "nbf") => {
            let at = seconds.as_i64().and_then(|seconds| DateTime::from_timestamp(seconds, 0));
            at.map_or_else(|| seconds.to_string(), |at| format!("{seconds}  {}", dated(at, now)))
        }
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let texts = items.iter().filter_map(Value::as_str).map(visible);
            texts.collect::<Vec<_>>().join(", ")
        }
        other => visible(&other.to_string()),
    }
}

/// An instant, and how far it is from now.
fn dated(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let distance = (at - now).abs();
    let span = match (distance.num_days(), distance.num_hours(), distance.num_minutes()) {
        (0, 0, 0) => format!("{} s", distance.num_seconds()),
        (0, 0, minutes) => format!("{minutes} min"),
        (0, hours, minutes) => format!("{hours} h {} min", minutes % 60),
        (days, hours, _) => format!("{days} d {} h", hours % 24),
    };
    let instant = at.format("%Y-%m-%dT%H:%M:%SZ");
    if at < now { format!("{instant} ({span} ago)") } else { format!("{instant} (in {span})") }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use serde_json::json;

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    #[test]
    fn times_are_shown_as_dates_with_their_distance() {
        let now = at(1_798_761_600);
        assert_eq!(
            said("exp", &json!(1_798_790_340), now),
            "1798790340  2027-01-01T07:59:00Z (in 7 h 59 min)"
        );
        assert_eq!(dated(now - TimeDelta::seconds(5), now), "2026-12-31T23:59:55Z (5 s ago)");
        assert_eq!(dated(now - TimeDelta::minutes(61 * 24), now), "2026-12-30T23:36:00Z (1 d 0 h ago)");
        assert_eq!(said("exp", &json!(i64::MAX), now), i64::MAX.to_string());
        assert_eq!(said("seats", &json!(5), now), "5");
    }

    #[test]
    fn an_inspection_always_says_that_nothing_was_verified() {
        let inspection = Inspection::of("e30.e30.AA").unwrap();
        assert_eq!(
            serde_json::to_value(&inspection).unwrap(),
            json!({"verified": false, "header": {}, "claims": {}})
        );
        assert!(inspection.rows(at(0))[0][2].starts_with("no"));
    }

    #[test]
    fn a_payload_that_is_no_json_is_shown_as_text() {
        let inspection = Inspection::of("e30.AQ.").unwrap();
        assert_eq!(inspection.rows(at(0))[1][2], r"\u{1}");
    }

    #[test]
    fn what_is_no_token_is_refused_with_its_code() {
        let refusal = Inspection::of("taa_not_a_token").unwrap_err();
        assert!(refusal.to_string().starts_with("malformed: "), "{refusal}");
    }
}
