//! One type per kind of identifier, so that none can stand in for another.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::{NoContext, Timestamp, Uuid};

/// A UUID of the given kind. Ours are version 7 (RFC 9562 §5.7): they sort by
/// the time at which they were made.
macro_rules! uuid_kinds {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
        #[serde(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// A fresh identifier whose time part is `now`.
            #[must_use]
            pub fn generate(now: DateTime<Utc>) -> Self {
                Self(uuid_v7(now))
            }

            /// The bare UUID, for SQL and other outer layers.
            #[must_use]
            pub fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl FromStr for $name {
            type Err = NotAUuid;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )*};
}

uuid_kinds! {
    /// One credential for the admin API.
    AdminTokenId
    /// One row of the audit.
    AuditEventId
    /// The organization that buys.
    CustomerId
    /// Records that another system sent in bulk.
    ImportId
    /// The identifier that an installation gave itself (`instance_id`, a token's `sub`).
    InstanceId
    /// The identifier that we gave an installation (`instance_uid`).
    InstanceUid
    /// One secret of an instance.
    InstanceCredentialId
    /// A token's `jti` (RFC 7519 §4.1.7), and its key in the ledger.
    Jti
    LicenseId
    PurchaseId
    /// The id that we give a request which brings none.
    RequestUuid
    SubscriptionId
    /// An endpoint that is told of events.
    WebhookId
}

/// A text that is no UUID as RFC 9562 §4 writes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("must be a UUID, such as 01a1f98f-638c-7e41-a2c1-a5602970731c")]
pub struct NotAUuid;

/// One spelling only: a record has one address.
fn parse(text: &str) -> Result<Uuid, NotAUuid> {
    if text.len() != uuid::fmt::Hyphenated::LENGTH {
        return Err(NotAUuid);
    }
    Uuid::try_parse(text).map_err(|_| NotAUuid)
}

/// A version 7 UUID at `now`; random in every other bit.
fn uuid_v7(now: DateTime<Utc>) -> Uuid {
    let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
    Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, now.timestamp_subsec_nanos()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_one_spelling() {
        let id: CustomerId = "01a1f98f-638c-7e41-a2c1-a5602970731c".parse().unwrap();
        assert_eq!(id.to_string(), "01a1f98f-638c-7e41-a2c1-a5602970731c");
        for text in [
            "",
            "01a1f98f638c7e41a2c1a5602970731c",
            "{01a1f98f-638c-7e41-a2c1-a5602970731c}",
            "urn:uuid:01a1f98f-638c-7e41-a2c1-a5602970731c",
            "01a1f98f-638c-7e41-a2c1-a5602970731x",
        ] {
            assert_eq!(text.parse::<CustomerId>(), Err(NotAUuid), "{text}");
        }
    }
}
