//! Predicts the largest token that any instance could get, before a single one is minted.
//!
//! Some backends refuse request metadata over 8 KiB, so the size of a token is a budget that the catalog
//! spends: every scope is a name of it.
//!
//! What is assumed: one instance has one plan and one realm, has purchased every add-on, runs the latest
//! version, and its administrator switched nothing off. Seats, times and ids are as long as they can be; the
//! issuer is as long as the caller says; the signature is that of the largest key in use, RSA with 4096 bits.

use token_authority_verifier::{Algorithm, Claims, Kid, ProtectedHeader, Typ, compact};

use super::{BackendName, Catalog, LicenseTypeName, Realm, UnitPrimitive};

/// The largest token for one backend, or for all of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LargestToken {
    /// `None` for the joint token of the compatibility surface, which names every audience.
    pub backend: Option<BackendName>,
    /// As it is sent: header, claims and signature in base64url, with two dots.
    pub bytes: usize,
    /// How many scopes it has.
    pub scopes: usize,
    /// The plan that gets it; `None` where the catalog names no plans.
    pub license_type: Option<LicenseTypeName>,
    /// The realm that gets it.
    pub realm: Realm,
}

/// An issuer as long as any: what is assumed where none is configured.
pub const LONGEST_ISSUER: usize = 255;

/// The largest token for each backend that hosts anything, sorted by backend, and last the joint one.
///
/// `issuer_bytes` is the length of `iss`.
#[must_use]
pub fn largest_tokens(catalog: &Catalog, issuer_bytes: usize) -> Vec<LargestToken> {
    let all: Vec<usize> = (0..catalog.backends().len()).collect();
    let of_each = all.chunks(1).filter_map(|host| {
        let token = largest_token(catalog, host, issuer_bytes)?;
        Some(LargestToken { backend: Some(catalog.backends()[host[0]].name.clone()), ..token })
    });
    of_each.chain(largest_token(catalog, &all, issuer_bytes)).collect()
}

/// The largest token that these backends could get together; `None` if they host nothing.
fn largest_token(catalog: &Catalog, hosts: &[usize], issuer_bytes: usize) -> Option<LargestToken> {
    let mut plans: Vec<_> = catalog.license_types().iter().map(|plan| Some(&plan.name)).collect();
    if plans.is_empty() {
        plans.push(None);
    }
    let mut largest: Option<LargestToken> = None;
    for (plan, realm) in plans.into_iter().flat_map(|plan| REALMS.map(|realm| (plan, realm))) {
        let granted: Vec<_> = catalog
            .unit_primitives()
            .iter()
            .filter(|primitive| grants(primitive, hosts, plan, realm))
            .collect();
        if granted.is_empty() {
            continue;
        }
        let audiences = hosts
            .iter()
            .filter(|host| granted.iter().any(|primitive| primitive.backend_indexes.contains(host)))
            .map(|host| catalog.backends()[*host].audience.clone())
            .collect();
        let bytes = size(&granted, audiences, realm, issuer_bytes);
        // Of equal ones the first.
        if largest.as_ref().is_none_or(|largest| bytes > largest.bytes) {
            let license_type = plan.cloned();
            largest = Some(LargestToken { backend: None, bytes, scopes: granted.len(), license_type, realm });
        }
    }
    largest
}

const REALMS: [Realm; 2] = [Realm::SelfManaged, Realm::GitlabCom];

/// Whether such a backend hosts it, and such an instance could have it.
fn grants(primitive: &UnitPrimitive, hosts: &[usize], plan: Option<&LicenseTypeName>, realm: Realm) -> bool {
    hosts.iter().any(|host| primitive.backend_indexes.contains(host))
        && (primitive.license_types.is_empty()
            || plan.is_some_and(|plan| primitive.license_types.contains(plan)))
        && primitive.realms.as_ref().is_none_or(|realms| realms.contains(&realm))
}

/// The length of a token that grants these: of one that is put together as a real one is.
fn size(granted: &[&UnitPrimitive], audiences: Vec<String>, realm: Realm, issuer_bytes: usize) -> usize {
    let claims = Claims {
        iss: "i".repeat(issuer_bytes),
        sub: UUID.to_owned(),
        aud: audiences,
        iat: LATEST_TIME,
        nbf: LATEST_TIME,
        exp: LATEST_TIME,
        jti: UUID.to_owned(),
        scopes: granted.iter().map(|primitive| primitive.name.to_string()).collect(),
        gitlab_realm: realm.claim().to_owned(),
        gitlab_instance_uid: UUID.to_owned(),
        duo_seat_count: Some(u64::MAX.to_string()),
    };
    // The names of all algorithms that tokens are signed with have five letters.
    let header = ProtectedHeader::new(Typ::AccessToken, Algorithm::EdDsa, Kid::new([0; 32]));
    // Claims are texts and numbers, which can always be written; were they not, no budget would hold them.
    serde_json::to_vec(&claims)
        .map_or(usize::MAX, |json| compact(header.signing_input(&json), &[0; SIGNATURE_BYTES]).len())
}

const UUID: &str = "00000000-0000-0000-0000-000000000000";
/// RSA with 4096 bits (RFC 7518 §3.3); Ed25519 needs 64 bytes.
const SIGNATURE_BYTES: usize = 512;
/// Ten digits, which do until the year 2286.
const LATEST_TIME: i64 = 9_999_999_999;

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn catalog(primitives: Value, services: Value) -> Catalog {
        let parts = json!({
            "backend_services": [{"name": "ai", "jwt_aud": "a"}, {"name": "idle", "jwt_aud": "i"},
                                 {"name": "scans", "jwt_aud": "s"}],
            "license_types": [{"name": "premium"}, {"name": "ultimate"}],
            "services": services,
            "unit_primitives": primitives,
        });
        Catalog::new(serde_json::from_value(parts).unwrap()).unwrap()
    }

    fn primitive(name: &str, backend: &str, license_types: &[&str]) -> Value {
        json!({"name": name, "description": "x", "feature_category": "x",
               "backend_services": [backend], "license_types": license_types})
    }

    fn summary(catalog: &Catalog) -> Vec<(Option<String>, usize, Option<String>, Realm)> {
        largest_tokens(catalog, 30)
            .into_iter()
            .map(|token| {
                (
                    token.backend.map(|name| name.to_string()),
                    token.scopes,
                    token.license_type.map(|name| name.to_string()),
                    token.realm,
                )
            })
            .collect()
    }

    #[test]
    fn one_token_holds_what_one_plan_in_one_realm_can_have() {
        let catalog = catalog(
            json!([
                primitive("both", "ai", &[]),
                primitive("premium_one", "ai", &["premium"]),
                primitive("ultimate_one", "ai", &["ultimate"]),
                primitive("ultimate_two", "ai", &["ultimate"]),
                primitive("hosted_only", "scans", &[]),
            ]),
            json!([{"name": "hosted", "gitlab_realm": ["gitlab-com"], "unit_primitives": ["hosted_only"]}]),
        );
        let ultimate = Some("ultimate".to_owned());
        assert_eq!(
            summary(&catalog),
            [
                (Some("ai".to_owned()), 3, ultimate.clone(), Realm::SelfManaged),
                (Some("scans".to_owned()), 1, Some("premium".to_owned()), Realm::GitlabCom),
                (None, 4, ultimate, Realm::GitlabCom),
            ],
            "a backend that hosts nothing gets no token"
        );
    }

    #[test]
    fn every_scope_and_every_byte_of_the_issuer_costs() {
        let small = catalog(json!([primitive("a", "ai", &[])]), json!([]));
        let large = catalog(json!([primitive("a", "ai", &[]), primitive("b", "ai", &[])]), json!([]));
        let bytes = |catalog: &Catalog, issuer| largest_tokens(catalog, issuer)[0].bytes;
        assert!(bytes(&large, 30) > bytes(&small, 30));
        assert!(bytes(&small, 60) >= bytes(&small, 30) + 40);
    }
}
