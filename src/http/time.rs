//! Times on the wire: RFC 3339 in UTC with `Z`.

use chrono::{DateTime, SecondsFormat, Timelike, Utc};
use serde::{Serialize, Serializer};

/// An instant as it is written on the wire: with fractions only where it has some.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, utoipa::ToSchema)]
#[schema(value_type = String, format = DateTime)]
pub(crate) struct WireTime(pub(crate) DateTime<Utc>);

impl Serialize for WireTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let format = if self.0.nanosecond() == 0 { SecondsFormat::Secs } else { SecondsFormat::Micros };
        serializer.serialize_str(&self.0.to_rfc3339_opts(format, true))
    }
}

impl From<DateTime<Utc>> for WireTime {
    fn from(at: DateTime<Utc>) -> Self {
        Self(at)
    }
}
