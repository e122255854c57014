//! What a token will say, decided before it is recorded and signed.
//!
//! A plan can be had only from a decision, and signing consumes it: no scope
//! without cause, and no token outlives what it grants or the key that proves it.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

use super::catalog::{BackendName, Catalog};
use super::entitlement::{Cause, Decision, Situation, Verdict};
use super::ids::{InstanceId, InstanceUid, Jti};

/// One token for one backend, not yet recorded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenPlan {
    backend: usize,
    /// Indexes into the catalog's unit primitives; ascending, which is by name.
    scopes: Vec<usize>,
    seats: Option<u64>,
    issued_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    /// Whether it ends with what it grants, before its lifetime would be over.
    ends_with_grant: bool,
    /// The earliest end of a scope in it, however far ahead.
    grant_ends_at: Option<DateTime<Utc>>,
}

/// The bounds on how long a token may live.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    /// From issuing to expiry, unless something ends earlier.
    pub of_tokens: TimeDelta,
    /// No token may live at or after this instant: the signing key's end less the leeway.
    pub of_key: DateTime<Utc>,
}

impl TokenPlan {
    /// The tokens that a decision grants, sorted by backend: one for each backend
    /// that hosts a granted primitive, two where some of its scopes end before the
    /// others within the lifetime. `backends` narrows to the named ones.
    ///
    /// `at` is the instant of the decision; tokens are dated to its second.
    #[must_use]
    pub fn from_decision(
        catalog: &Catalog,
        situation: &Situation,
        decision: &Decision,
        backends: Option<&[BackendName]>,
        lifetime: Lifetime,
        at: DateTime<Utc>,
    ) -> Vec<Self> {
        let issued_at = at.trunc_subsecs(0);
        let latest = whole_second(issued_at + lifetime.of_tokens).min(whole_second(lifetime.of_key));
        let mut plans = Vec::new();
        for (index, backend) in catalog.backends().iter().enumerate() {
            let asked_for = backends.is_none_or(|names| names.contains(&backend.name));
            if !asked_for || situation.instance.disabled_backends.contains(&backend.name) {
                continue;
            }
            let mut granted = granted_by(catalog, decision, index, latest);
            // What ends within this second is over; it must not take others along.
            granted.retain(|(_, end)| *end > issued_at);
            let Some(last_end) = granted.iter().map(|(_, end)| *end).max() else { continue };
            let (lasting, ending): (Vec<_>, Vec<_>) =
                granted.into_iter().partition(|(_, end)| *end == last_end);
            for scopes in [lasting, ending] {
                let Some(end) = scopes.iter().map(|(_, end)| *end).min() else { continue };
                let scopes: Vec<_> = scopes.into_iter().map(|(scope, _)| scope).collect();
                let ends = scopes.iter().filter_map(|scope| decision.entitlements[*scope].granted_until);
                let grant_ends_at = ends.min();
                plans.push(Self {
                    backend: index,
                    seats: seats(catalog, decision, &scopes),
                    scopes,
                    issued_at,
                    expires_at: end,
                    ends_with_grant: end < latest,
                    grant_ends_at,
                });
            }
        }
        plans
    }

    /// The backend's index in the catalog.
    #[must_use]
    pub fn backend(&self) -> usize {
        self.backend
    }

    /// The granted unit primitives, as indexes into the catalog; ascending.
    #[must_use]
    pub fn scopes(&self) -> &[usize] {
        &self.scopes
    }

    /// The largest summed quantity among the add-ons that grant something here.
    #[must_use]
    pub fn seats(&self) -> Option<u64> {
        self.seats
    }

    /// `iat`: a whole second.
    #[must_use]
    pub fn issued_at(&self) -> DateTime<Utc> {
        self.issued_at
    }

    /// `exp`: a whole second.
    #[must_use]
    pub fn expires_at(&self) -> DateTime<Utc> {
        self.expires_at
    }

    /// Whether it expires because its grant ends, so that no sync could have kept it alive.
    #[must_use]
    pub fn ends_with_grant(&self) -> bool {
        self.ends_with_grant
    }

    /// The earliest end of a scope in it, however far ahead; `None` if none ends by itself.
    #[must_use]
    pub fn grant_ends_at(&self) -> Option<DateTime<Utc>> {
        self.grant_ends_at
    }

    /// The same token as the ledger dates it: for a retry, which gets it again.
    #[must_use]
    pub fn as_recorded(
        mut self,
        issued_at: DateTime<Utc>,
        expires_at: DateTime<Utc>,
        ends_with_grant: bool,
    ) -> Self {
        (self.issued_at, self.expires_at, self.ends_with_grant) = (issued_at, expires_at, ends_with_grant);
        self
    }

    /// The claims as JSON, ready to be signed. Consumes the plan.
    ///
    /// Written by hand, since it is on the path of every sync: the same bytes as the
    /// verifier's `Claims` serialized, which a test compares.
    #[must_use]
    pub fn into_payload(self, catalog: &Catalog, bearer: &Bearer<'_>, jti: Jti) -> Vec<u8> {
        let primitives = catalog.unit_primitives();
        let mut json = PayloadWriter(Vec::with_capacity(384 + self.scopes.len() * 28));
        json.raw("{\"iss\":").text(bearer.issuer);
        json.raw(",\"sub\":\"").uuid(bearer.instance_id.as_uuid()).raw("\"");
        json.raw(",\"aud\":[").text(&catalog.backends()[self.backend].audience).raw("]");
        json.raw(",\"iat\":").number(self.issued_at.timestamp());
        json.raw(",\"nbf\":").number((self.issued_at - NOT_BEFORE_ALLOWANCE).timestamp());
        json.raw(",\"exp\":").number(self.expires_at.timestamp());
        json.raw(",\"jti\":\"").uuid(jti.as_uuid()).raw("\",\"scopes\":[");
        for (index, scope) in self.scopes.iter().enumerate() {
            // Names are lower-case words: nothing in them needs escaping.
            json.raw(if index == 0 { "\"" } else { ",\"" }).raw(primitives[*scope].name.as_ref()).raw("\"");
        }
        json.raw("],\"gitlab_realm\":").text(bearer.realm);
        json.raw(",\"gitlab_instance_uid\":\"").uuid(bearer.instance_uid.as_uuid()).raw("\"");
        if let Some(seats) = self.seats {
            json.raw(",\"duo_seat_count\":\"").number(seats).raw("\"");
        }
        json.raw("}");
        json.0
    }
}

/// Whom a token is for, and who says so.
#[derive(Clone, Copy, Debug)]
pub struct Bearer<'a> {
    pub issuer: &'a str,
    pub instance_id: InstanceId,
    pub instance_uid: InstanceUid,
    /// The realm as the claim spells it.
    pub realm: &'a str,
}

/// Writes the payload member by member.
struct PayloadWriter(Vec<u8>);

impl PayloadWriter {
    fn raw(&mut self, text: &str) -> &mut Self {
        self.0.extend_from_slice(text.as_bytes());
        self
    }

    /// A JSON string, escaped where it must be.
    fn text(&mut self, text: &str) -> &mut Self {
        let plain = text.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b'"' && byte != b'\\');
        if plain {
            self.raw("\"").raw(text).raw("\"")
        } else {
            let quoted = serde_json::Value::from(text).to_string();
            self.raw(&quoted)
        }
    }

    fn uuid(&mut self, uuid: uuid::Uuid) -> &mut Self {
        let mut buffer = uuid::Uuid::encode_buffer();
        let text: &str = uuid.hyphenated().encode_lower(&mut buffer);
        self.raw(text)
    }

    fn number(&mut self, number: impl std::fmt::Display) -> &mut Self {
        // Writing to a vector cannot fail.
        let _ = std::io::Write::write_fmt(&mut self.0, format_args!("{number}"));
        self
    }
}

/// `nbf` lies this far before `iat`, for verifiers whose clock runs behind.
pub const NOT_BEFORE_ALLOWANCE: TimeDelta = TimeDelta::seconds(5);

/// What a backend hosts of the grants, each with its end: never after `latest`.
fn granted_by(
    catalog: &Catalog,
    decision: &Decision,
    backend: usize,
    latest: DateTime<Utc>,
) -> Vec<(usize, DateTime<Utc>)> {
    decision
        .entitlements
        .iter()
        .filter(|entitlement| {
            entitlement.verdict.is_granted()
                && catalog.unit_primitives()[entitlement.unit_primitive].backend_indexes.contains(&backend)
        })
        .map(|entitlement| {
            let end = entitlement.granted_until.map_or(latest, |end| whole_second(end).min(latest));
            (entitlement.unit_primitive, end)
        })
        .collect()
}

/// Of the add-ons that grant one of these scopes, the most seats held.
fn seats(catalog: &Catalog, decision: &Decision, scopes: &[usize]) -> Option<u64> {
    scopes
        .iter()
        .filter(|scope| {
            let verdict = decision.entitlements[**scope].verdict;
            matches!(verdict, Verdict::Granted { cause: Cause::AddOn(_), .. })
        })
        .flat_map(|scope| &catalog.unit_primitives()[*scope].add_on_indexes)
        .map(|add_on| decision.seats[*add_on])
        .max()
}

/// The last whole second at or before `at`: claims have no fractions (RFC 7519 §2 allows
/// them, verifiers often do not).
fn whole_second(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(0)
}
