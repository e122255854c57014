//! The row that the database keeps of each instance's facts (`sync_facts`), as it writes them.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, Utc};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use uuid::Uuid;

use super::{CredentialFacts, InstanceFacts, LastSync, PreviousKey, Situation, term};
use crate::domain::add_on_purchase::PurchaseStanding;
use crate::domain::catalog::{AddOnName, BackendName, LicenseTypeName, UnitPrimitiveName};
use crate::domain::ids::InstanceUid;
use crate::domain::instance::{Deployment, InstanceStanding, InstanceState};
use crate::domain::license::{LicenseKind, LicenseStanding};
use crate::domain::subscription::{Condition, SubscriptionStanding};
use crate::domain::version::Version;
use crate::storage::StorageError;

/// What `computed_sync_facts` writes: the members that it writes, and no other.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FactsRow {
    number: i64,
    instance_id: Uuid,
    hostname: String,
    public_key: Option<Bytes>,
    previous_public_key: Option<Bytes>,
    previous_key_dies_at: Option<DateTime<Utc>>,
    reported_usage: Option<serde_json::Value>,
    is_contested: bool,
    state: Word<InstanceState>,
    version: Word<Version>,
    deployment: Word<Deployment>,
    disabled_unit_primitives: BTreeSet<Word<UnitPrimitiveName>>,
    disabled_backends: BTreeSet<Word<BackendName>>,
    license_kind: Word<LicenseKind>,
    revoked_at: Option<DateTime<Utc>>,
    subscription_id: Uuid,
    license_type: Word<LicenseTypeName>,
    starts_at: DateTime<Utc>,
    ends_at: DateTime<Utc>,
    earlier_ends: Vec<DateTime<Utc>>,
    trial: bool,
    condition: Word<Condition>,
    credentials: Vec<CredentialRow>,
    purchases: Vec<PurchaseRow>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialRow {
    id: Uuid,
    digest: Bytes,
    by_rotation: bool,
    sequence: i64,
    first_used_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
    dies_at: Option<DateTime<Utc>>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct PurchaseRow {
    add_on: Word<AddOnName>,
    quantity: u32,
    starts_at: DateTime<Utc>,
    ends_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
}

impl FactsRow {
    pub(super) fn parse(text: &str) -> Result<Self, StorageError> {
        serde_json::from_str(text).map_err(StorageError::corrupt)
    }

    pub(super) fn into_facts(
        self,
        uid: InstanceUid,
        last_sync: Option<LastSync>,
    ) -> Result<InstanceFacts, StorageError> {
        Ok(InstanceFacts {
            uid,
            number: self.number,
            instance_id: self.instance_id.into(),
            subscription_id: self.subscription_id.into(),
            hostname: self.hostname,
            public_key: self.public_key.map(|Bytes(bytes)| bytes),
            previous_key: self
                .previous_public_key
                .map(|Bytes(public_key)| PreviousKey { public_key, dies_at: self.previous_key_dies_at }),
            reported_usage: self.reported_usage,
            is_contested: self.is_contested,
            credentials: self.credentials.into_iter().map(CredentialRow::into_facts).collect(),
            situation: Situation {
                license: LicenseStanding { kind: self.license_kind.0, revoked_at: self.revoked_at },
                subscription: SubscriptionStanding {
                    license_type: self.license_type.0,
                    term: term(self.starts_at, self.ends_at)?,
                    earlier_ends: self.earlier_ends,
                    trial: self.trial,
                    condition: self.condition.0,
                },
                instance: InstanceStanding {
                    state: self.state.0,
                    version: self.version.0,
                    realm: self.deployment.0.realm(),
                    disabled_unit_primitives: words(self.disabled_unit_primitives),
                    disabled_backends: words(self.disabled_backends),
                },
                purchases: self
                    .purchases
                    .into_iter()
                    .map(PurchaseRow::into_standing)
                    .collect::<Result<_, _>>()?,
            },
            last_sync,
        })
    }
}

impl CredentialRow {
    fn into_facts(self) -> CredentialFacts {
        CredentialFacts {
            id: self.id.into(),
            digest: self.digest.0,
            by_rotation: self.by_rotation,
            sequence: self.sequence,
            first_used_at: self.first_used_at,
            last_used_at: self.last_used_at,
            dies_at: self.dies_at,
        }
    }
}

impl PurchaseRow {
    fn into_standing(self) -> Result<PurchaseStanding, StorageError> {
        Ok(PurchaseStanding {
            add_on: self.add_on.0,
            quantity: self.quantity,
            term: term(self.starts_at, self.ends_at)?,
            ended_at: self.ended_at,
        })
    }
}

/// A word that the schema allows, read without a copy of its text.
#[derive(Eq, Ord, PartialEq, PartialOrd)]
struct Word<T>(T);

impl<'de, T: FromStr<Err: Display>> Deserialize<'de> for Word<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text("a word of the schema", |text: &str| {
            text.parse().map(Self).map_err(|error: T::Err| error.to_string())
        }))
    }
}

/// Bytes in Base64.
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text("bytes in Base64", |text: &str| {
            STANDARD.decode(text).map(Self).map_err(|error| error.to_string())
        }))
    }
}

/// Reads a string with a function; the first part says what was expected.
struct Text<F>(&'static str, F);

impl<T, F: FnOnce(&str) -> Result<T, String>> Visitor<'_> for Text<F> {
    type Value = T;

    fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.1)(text).map_err(E::custom)
    }
}

fn words<T: Ord>(words: BTreeSet<Word<T>>) -> BTreeSet<T> {
    words.into_iter().map(|Word(word)| word).collect()
}
