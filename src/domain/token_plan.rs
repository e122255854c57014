//! What a token will say, decided before it is recorded and signed.
//!
//! A plan can be had only from what a decision grants, and signing consumes it: no scope
//! without cause, and no token outlives what it grants or the key that proves it.

use std::collections::BTreeMap;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

use super::catalog::{BackendName, Catalog, UnitPrimitive, UnitPrimitiveName};
use super::entitlement::{Cause, Decision, Situation, Verdict};
use super::ids::{InstanceId, InstanceUid, Jti};

/// One token for one backend, or for several, not yet recorded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TokenPlan {
    backend: usize,
    /// The other backends of a joint token; ascending.
    joined: Vec<usize>,
    /// Indexes into the catalog's unit primitives; ascending, which is by name.
    scopes: Vec<usize>,
    seats: Option<u64>,
    issued_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    /// Whether it ends with what it grants, before its lifetime would be over.
    ends_with_grant: bool,
}

/// The bounds on how long a token may live.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime {
    /// From issuing to expiry, unless something ends earlier.
    pub of_tokens: TimeDelta,
    /// No token may live at or after this instant: the signing key's end less the leeway.
    pub of_key: DateTime<Utc>,
}

/// What a decision grants at one backend. Two syncs with the same grants, whenever they
/// are decided, are granted the same.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BackendGrants {
    /// The backend's index in the catalog.
    pub backend: usize,
    /// At least one; ascending by unit primitive.
    pub grants: Vec<Grant>,
}

/// One granted unit primitive, as far as tokens tell of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Grant {
    /// Its index in the catalog.
    pub unit_primitive: usize,
    /// When the grant ends by itself; `None` if never.
    pub ends_at: Option<DateTime<Utc>>,
    /// The largest sum of seats among its add-ons, where an add-on grants it.
    pub seats: Option<u64>,
}

impl BackendGrants {
    /// What a decision grants at each backend that hosts something of it and is not
    /// switched off, sorted by backend. `backends` narrows to the named ones.
    #[must_use]
    pub fn of_decision(
        catalog: &Catalog,
        situation: &Situation,
        decision: &Decision,
        backends: Option<&[BackendName]>,
    ) -> Vec<Self> {
        let mut all = Vec::new();
        for (index, backend) in catalog.backends().iter().enumerate() {
            let asked_for = backends.is_none_or(|names| names.contains(&backend.name));
            if !asked_for || situation.instance.disabled_backends.contains(&backend.name) {
                continue;
            }
            let grants: Vec<_> = decision
                .entitlements
                .iter()
                .zip(catalog.unit_primitives())
                .filter(|(entitlement, primitive)| {
                    entitlement.verdict.is_granted() && primitive.backend_indexes.contains(&index)
                })
                .map(|(entitlement, primitive)| Grant {
                    unit_primitive: entitlement.unit_primitive,
                    ends_at: entitlement.granted_until,
                    seats: seats(decision, entitlement.verdict, primitive),
                })
                .collect();
            if !grants.is_empty() {
                all.push(Self { backend: index, grants });
            }
        }
        all
    }
}

impl BackendGrants {
    /// Leaves only the named unit primitives, and the backends that host one of them.
    ///
    /// # Errors
    /// The first name that is not granted at any of the backends.
    pub fn narrow<'a>(
        all: &mut Vec<Self>,
        catalog: &Catalog,
        scopes: &'a [UnitPrimitiveName],
    ) -> Result<(), &'a UnitPrimitiveName> {
        let name = |grant: &Grant| &catalog.unit_primitives()[grant.unit_primitive].name;
        let is_granted =
            |scope| all.iter().flat_map(|one| &one.grants).any(|grant: &Grant| name(grant) == scope);
        if let Some(missing) = scopes.iter().find(|scope| !is_granted(*scope)) {
            return Err(missing);
        }
        for one in all.iter_mut() {
            one.grants.retain(|grant| scopes.contains(name(grant)));
        }
        all.retain(|one| !one.grants.is_empty());
        Ok(())
    }
}

/// A token as the ledger has it, less what follows from its instance.
#[derive(Clone, Copy, Debug)]
pub struct TokenRecord<'a> {
    /// Of a joint token all of them, with spaces between.
    pub backend: &'a str,
    /// Names of unit primitives.
    pub scopes: &'a [String],
    pub seats: Option<u64>,
    pub issued_at: DateTime<Utc>,
    pub expires_at: DateTime<Utc>,
    pub ends_with_grant: bool,
}

impl TokenPlan {
    /// The tokens for what is granted, sorted by backend: one for each backend, two
    /// where some of its scopes end before the others within the lifetime.
    ///
    /// `at` is the instant of the decision; tokens are dated to its second.
    #[must_use]
    pub fn of_grants(all: &[BackendGrants], lifetime: Lifetime, at: DateTime<Utc>) -> Vec<Self> {
        let issued_at = at.trunc_subsecs(0);
        let latest = whole_second(issued_at + lifetime.of_tokens).min(whole_second(lifetime.of_key));
        let mut plans = Vec::with_capacity(all.len());
        for BackendGrants { backend, grants } in all {
            let ends = |grant: &Grant| grant.ends_at.map_or(latest, |end| whole_second(end).min(latest));
            // What ends within this second is over; it must not take others along.
            let lasting = grants.iter().map(|grant| (grant, ends(grant))).filter(|(_, end)| *end > issued_at);
            let Some(last_end) = lasting.clone().map(|(_, end)| end).max() else { continue };
            let (longest, shorter): (Vec<_>, Vec<_>) = lasting.partition(|(_, end)| *end == last_end);
            for granted in [longest, shorter] {
                let Some(expires_at) = granted.iter().map(|(_, end)| *end).min() else { continue };
                plans.push(Self {
                    backend: *backend,
                    joined: Vec::new(),
                    scopes: granted.iter().map(|(grant, _)| grant.unit_primitive).collect(),
                    seats: granted.iter().filter_map(|(grant, _)| grant.seats).max(),
                    issued_at,
                    expires_at,
                    ends_with_grant: expires_at < latest,
                });
            }
        }
        plans
    }

    /// One token for everything that is granted, whose `aud` names every backend that hosts some of it. `None`
    /// where nothing is granted, or nothing lasts a second.
    ///
    /// It ends with the first of its grants that does. So that a grant about to end does not take the others along,
    /// one that ends within `margin` is left out where others last longer.
    #[must_use]
    pub fn joint(
        all: &[BackendGrants],
        lifetime: Lifetime,
        margin: TimeDelta,
        at: DateTime<Utc>,
    ) -> Option<Self> {
        let issued_at = at.trunc_subsecs(0);
        let latest = whole_second(issued_at + lifetime.of_tokens).min(whole_second(lifetime.of_key));
        let ends = |grant: &Grant| grant.ends_at.map_or(latest, |end| whole_second(end).min(latest));
        let grants = all.iter().flat_map(|of_backend| &of_backend.grants);
        // A unit primitive that several backends host is granted once.
        let mut lasting: BTreeMap<usize, (&Grant, DateTime<Utc>)> = grants
            .map(|grant| (grant.unit_primitive, (grant, ends(grant))))
            .filter(|(_, (_, end))| *end > issued_at)
            .collect();
        let last_end = lasting.values().map(|(_, end)| *end).max()?;
        lasting.retain(|_, (_, end)| *end == last_end || *end > issued_at + margin);
        let hosts = |backend: &&BackendGrants| {
            backend.grants.iter().any(|grant| lasting.contains_key(&grant.unit_primitive))
        };
        let mut backends = all.iter().filter(hosts).map(|of_backend| of_backend.backend);
        let expires_at = lasting.values().map(|(_, end)| *end).min()?;
        Some(Self {
            backend: backends.next()?,
            joined: backends.collect(),
            scopes: lasting.keys().copied().collect(),
            seats: lasting.values().filter_map(|(grant, _)| grant.seats).max(),
            issued_at,
            expires_at,
            ends_with_grant: expires_at < latest,
        })
    }

    /// A token of the ledger once more, for a retry. `None` unless all that it says is
    /// still granted until it expires.
    #[must_use]
    pub fn of_record(catalog: &Catalog, all: &[BackendGrants], record: TokenRecord<'_>) -> Option<Self> {
        let TokenRecord { backend, scopes, seats, issued_at, expires_at, ends_with_grant } = record;
        let named = |name| all.iter().find(|one| catalog.backends()[one.backend].name.as_ref() == name);
        let granted = backend.split(' ').map(named).collect::<Option<Vec<_>>>()?;
        let scopes = scopes.iter().map(|name| {
            let mut grants = granted.iter().flat_map(|one| &one.grants);
            let named =
                |grant: &&Grant| catalog.unit_primitives()[grant.unit_primitive].name.as_ref() == name;
            let grant = grants.find(named)?;
            grant.ends_at.is_none_or(|end| expires_at <= end).then_some(grant.unit_primitive)
        });
        let scopes = scopes.collect::<Option<Vec<_>>>()?;
        let mut backends = granted.iter().map(|one| one.backend);
        let (backend, joined) = (backends.next()?, backends.collect());
        Some(Self { backend, joined, scopes, seats, issued_at, expires_at, ends_with_grant })
    }

    /// The backend's index in the catalog; of a joint token the first one's.
    #[must_use]
    pub fn backend(&self) -> usize {
        self.backend
    }

    /// The other backends of a joint token.
    #[must_use]
    pub fn joined(&self) -> &[usize] {
        &self.joined
    }

    /// Every backend of it, as an index into the catalog; ascending.
    pub fn backends(&self) -> impl Iterator<Item = usize> + '_ {
        std::iter::once(self.backend).chain(self.joined.iter().copied())
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
        json.raw(",\"aud\":[").text(&catalog.backends()[self.backend].audience);
        for backend in &self.joined {
            json.raw(",").text(&catalog.backends()[*backend].audience);
        }
        json.raw("]");
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

/// Where an add-on grants it: of its add-ons, the most seats held.
fn seats(decision: &Decision, verdict: Verdict, primitive: &UnitPrimitive) -> Option<u64> {
    let by_add_on = matches!(verdict, Verdict::Granted { cause: Cause::AddOn(_), .. });
    let seats = primitive.add_on_indexes.iter().map(|add_on| decision.seats[*add_on]);
    seats.max().filter(|_| by_add_on)
}

/// The last whole second at or before `at`: claims have no fractions (RFC 7519 §2 allows
/// them, verifiers often do not).
fn whole_second(at: DateTime<Utc>) -> DateTime<Utc> {
    at.trunc_subsecs(0)
}
