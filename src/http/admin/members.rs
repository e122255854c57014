//! Reads the members of admin requests: which are needed, which may be null, what their texts may be.

use std::str::FromStr;

use chrono::{DateTime, SubsecRound, Utc};
use chrono_tz::Tz;
use serde::Deserialize;

use crate::fulfillment::Patch;
use crate::http::error::ApiError;
use crate::http::parameters::{self, Invalid};

impl ReasonBody {
    /// The reason.
    ///
    /// # Errors
    /// 422 where it is missing or no reason.
    pub(super) fn parse(self) -> Result<String, ApiError> {
        let mut invalid = Invalid::default();
        invalid.reason(self.reason).ok_or_else(|| invalid.refuse())
    }
}

impl OptionalReasonBody {
    /// The reason, where there is one.
    ///
    /// # Errors
    /// 422 where it is no reason.
    pub(super) fn parse(self) -> Result<Option<String>, ApiError> {
        self.reason.map(|reason| ReasonBody { reason: Some(reason) }.parse()).transpose()
    }
}

impl Invalid {
    /// A member that must be there.
    pub(super) fn present<T>(&mut self, pointer: &str, member: Option<T>) -> Option<T> {
        if member.is_none() {
            self.add(pointer, "missing", "is required");
        }
        member
    }

    /// A member of a patch that has no null: `None` leaves it as it is.
    pub(super) fn not_null<T>(&mut self, pointer: &str, member: Patch<T>) -> Option<T> {
        match member {
            Patch::Keep => None,
            Patch::Remove => {
                self.add(pointer, "wrong_type", "must not be null");
                None
            }
            Patch::Replace(value) => Some(value),
        }
    }

    /// A name, or the word under which another system knows the record.
    pub(super) fn name(&mut self, pointer: &str, name: String) -> Option<String> {
        self.text(pointer, name, MOST_IN_A_NAME)
    }

    /// The same in a patch.
    pub(super) fn name_patch(&mut self, pointer: &str, member: Patch<String>) -> Patch<String> {
        self.patched(member, |invalid, text| invalid.name(pointer, text))
    }

    /// An address for mail. Whether it takes mail shows when it is used.
    pub(super) fn email(&mut self, pointer: &str, email: String) -> Option<String> {
        let email = self.text(pointer, email, MOST_IN_AN_EMAIL)?;
        let parts = email.rsplit_once('@').filter(|(local, domain)| !local.is_empty() && !domain.is_empty());
        if parts.is_none() || email.contains(char::is_whitespace) {
            self.add(pointer, "invalid", "must be an address such as billing@example.com");
            return None;
        }
        Some(email)
    }

    /// The same in a patch.
    pub(super) fn email_patch(&mut self, pointer: &str, member: Patch<String>) -> Patch<String> {
        self.patched(member, |invalid, text| invalid.email(pointer, text))
    }

    /// An instant, to the microsecond.
    pub(super) fn instant(&mut self, pointer: &str, text: &str) -> Option<DateTime<Utc>> {
        let at = parameters::instant(pointer, text).ok();
        if at.is_none() {
            self.add(pointer, "invalid", "must be an instant as in RFC 3339, such as 2026-11-20T14:00:00Z");
        }
        at.map(|at| at.trunc_subsecs(6))
    }

    /// An IANA time zone.
    pub(super) fn time_zone(&mut self, pointer: &str, name: &str) -> Option<Tz> {
        let zone = name.parse().ok();
        if zone.is_none() {
            self.add(pointer, "invalid", "must be a time zone of the IANA database, such as Europe/Berlin");
        }
        zone
    }

    /// The reason of a change, which is kept for good.
    pub(super) fn reason(&mut self, member: Option<String>) -> Option<String> {
        let reason = self.present("/reason", member)?;
        self.text("/reason", reason, MOST_IN_A_REASON)
    }

    /// A count of something that is sold.
    pub(super) fn count(&mut self, pointer: &str, count: i64) -> Option<i32> {
        self.number(pointer, count, 1, i64::from(i32::MAX))
    }

    /// A value that must be there, named by its text.
    pub(super) fn parse_present<T>(&mut self, pointer: &str, member: Option<&str>) -> Option<T>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        let text = self.present(pointer, member)?;
        self.parse(pointer, text)
    }

    /// A value of a patch that has no null, named by its text.
    pub(super) fn parse_patch<T>(&mut self, pointer: &str, member: Patch<String>) -> Option<T>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        let text = self.not_null(pointer, member)?;
        self.parse(pointer, &text)
    }

    fn patched(
        &mut self,
        member: Patch<String>,
        check: impl FnOnce(&mut Self, String) -> Option<String>,
    ) -> Patch<String> {
        match member {
            // What is wrong was noted: the patch goes nowhere.
            Patch::Replace(text) => check(self, text).map_or(Patch::Keep, Patch::Replace),
            other => other,
        }
    }
}

/// The body of a change that says why.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReasonBody {
    /// Kept for good, and told to whoever asks why.
    #[schema(value_type = String)]
    reason: Option<String>,
}

/// The body of a change that may say why.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OptionalReasonBody {
    #[serde(default)]
    reason: Option<String>,
}

/// The body of a change that says nothing: empty, or an empty object.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EmptyBody {}

const MOST_IN_A_NAME: usize = 255;
const MOST_IN_AN_EMAIL: usize = 320;
const MOST_IN_A_REASON: usize = 1000;
