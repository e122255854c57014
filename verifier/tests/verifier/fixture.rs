//! An issuer that exists only here: its keys, its root, its key set and a good token.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ed25519_dalek::{Signer as _, SigningKey};
use token_authority_verifier::{
    Algorithm, Claims, Denial, DenyList, DenyListEntry, Digest, Jwk, KeySet, Kid, LiveVerifier, Manifest,
    ManifestKey, ProtectedHeader, Purpose, Root, SignedManifest, SignedRoot, Timestamp, Typ, Verified,
    compact,
};

pub(crate) const ISSUER: &str = "https://authority.example.com";
pub(crate) const AUDIENCE: &str = "gitlab-ai-gateway";
pub(crate) const OTHER_AUDIENCE: &str = "gitlab-security-gateway";
pub(crate) const ENVIRONMENT: &str = "example";
/// 2027-01-01T00:00:00Z.
pub(crate) const NOW: i64 = 1_798_761_600;
pub(crate) const DAY: i64 = 86_400;
/// The instant at which `short_lived` ends.
pub(crate) const SHORT_LIVED_END: i64 = NOW + 3_600;
/// The last `iat` that `demoted` may have.
pub(crate) const DEMOTED_AT: i64 = NOW - 600;

/// A key pair of the fixture.
pub(crate) struct Key {
    pub(crate) secret: SigningKey,
    pub(crate) public: Jwk,
}

impl Key {
    /// The key that everyone can make from its name.
    pub(crate) fn named(name: &str) -> Self {
        Self::from_seed(*Digest::of(format!("token-authority test key {name}").as_bytes()).as_bytes())
    }

    pub(crate) fn from_seed(seed: [u8; 32]) -> Self {
        let secret = SigningKey::from_bytes(&seed);
        let public = Jwk::from_ed25519_public(secret.verifying_key().as_bytes()).unwrap();
        Self { secret, public }
    }

    pub(crate) fn kid(&self) -> Kid {
        self.public.kid()
    }

    pub(crate) fn header(&self) -> ProtectedHeader {
        ProtectedHeader::new(Typ::AccessToken, Algorithm::EdDsa, self.kid())
    }

    pub(crate) fn sign(&self, input: &str) -> [u8; 64] {
        self.secret.sign(input.as_bytes()).to_bytes()
    }

    /// A token with any payload, signed as the issuer signs.
    pub(crate) fn token(&self, payload: &str) -> String {
        let input = self.header().signing_input(payload.as_bytes());
        let signature = self.sign(&input);
        compact(input, &signature)
    }

    pub(crate) fn mint(&self, claims: &Claims) -> String {
        self.token(&serde_json::to_string(claims).unwrap())
    }
}

/// The keys of the fixture, each for one situation.
pub(crate) struct Keys {
    pub(crate) active: Key,
    pub(crate) standby: Key,
    /// Ends at [`SHORT_LIVED_END`].
    pub(crate) short_lived: Key,
    /// Denied from [`DEMOTED_AT`] on.
    pub(crate) demoted: Key,
    /// Denied altogether.
    pub(crate) compromised: Key,
    /// For [`OTHER_AUDIENCE`] only.
    pub(crate) elsewhere: Key,
    /// Not for access tokens.
    pub(crate) deny_list: Key,
    /// In no key set.
    pub(crate) stranger: Key,
    pub(crate) root: [Key; 3],
}

impl Keys {
    pub(crate) fn new() -> Self {
        Self {
            active: Key::named("active"),
            standby: Key::named("standby"),
            short_lived: Key::named("short_lived"),
            demoted: Key::named("demoted"),
            compromised: Key::named("compromised"),
            elsewhere: Key::named("elsewhere"),
            deny_list: Key::named("deny_list"),
            stranger: Key::named("stranger"),
            root: ["root 1", "root 2", "root 3"].map(Key::named),
        }
    }

    fn access(&self) -> [&Key; 6] {
        [&self.active, &self.standby, &self.short_lived, &self.demoted, &self.compromised, &self.elsewhere]
    }

    pub(crate) fn key_set(&self) -> KeySet {
        KeySet::new(self.access().map(|key| key.public.clone())).unwrap()
    }

    pub(crate) fn root(&self) -> Root {
        let mut keys: Vec<_> = self.root.iter().map(|key| key.public.clone()).collect();
        keys.sort_by_key(Jwk::kid);
        Root {
            issuer: ISSUER.to_owned(),
            environment: ENVIRONMENT.to_owned(),
            version: 1,
            threshold: 2,
            keys,
            created: timestamp(NOW - 100 * DAY),
            development: false,
        }
    }

    pub(crate) fn signed_root(&self) -> SignedRoot {
        sign_by(SignedRoot::new(self.root()).unwrap(), &[&self.root[0], &self.root[1]])
    }

    pub(crate) fn verified_root(&self) -> Verified<Root> {
        let root = self.signed_root();
        root.verify_pinned(root.digest()).unwrap()
    }

    pub(crate) fn manifest(&self) -> Manifest {
        let mut keys: Vec<_> = self
            .access()
            .map(|key| ManifestKey {
                kid: key.kid(),
                alg: Algorithm::EdDsa,
                purpose: Purpose::AccessTokens,
                not_after: timestamp(NOW + 300 * DAY),
                audiences: None,
                jwk: None,
            })
            .into();
        keys.push(ManifestKey {
            kid: self.deny_list.kid(),
            alg: Algorithm::EdDsa,
            purpose: Purpose::DenyList,
            not_after: timestamp(NOW + 300 * DAY),
            audiences: None,
            jwk: Some(self.deny_list.public.clone()),
        });
        keys.sort_by_key(|key| key.kid);
        for key in &mut keys {
            if key.kid == self.short_lived.kid() {
                key.not_after = timestamp(SHORT_LIVED_END);
            } else if key.kid == self.elsewhere.kid() {
                key.audiences = Some(vec![OTHER_AUDIENCE.to_owned()]);
            } else if key.kid == self.active.kid() {
                key.audiences = Some(vec![AUDIENCE.to_owned(), OTHER_AUDIENCE.to_owned()]);
            }
        }
        let mut denied = vec![
            Denial { kid: self.compromised.kid(), iat_after: None },
            Denial { kid: self.demoted.kid(), iat_after: Some(timestamp(DEMOTED_AT)) },
        ];
        denied.sort();
        Manifest {
            issuer: ISSUER.to_owned(),
            environment: ENVIRONMENT.to_owned(),
            version: 1,
            prev: None,
            created: timestamp(NOW - DAY),
            build_before: timestamp(NOW + 90 * DAY),
            jwks_sha256: self.key_set().digest(),
            max_token_ttl: 259_200,
            leeway: 30,
            keys,
            denied,
            min_deployable_version: 1,
            root_version: 1,
        }
    }

    pub(crate) fn signed_manifest(&self) -> SignedManifest {
        sign_by(SignedManifest::new(self.manifest()).unwrap(), &[&self.root[0], &self.root[2]])
    }

    pub(crate) fn verified_manifest(&self) -> Verified<Manifest> {
        self.signed_manifest().verify(&self.verified_root()).unwrap()
    }
}

impl Keys {
    /// A verifier as a backend's process holds it.
    pub(crate) fn live(&self) -> LiveVerifier {
        let jwks = self.key_set().to_canonical_json();
        LiveVerifier::new(self.verified_manifest(), jwks.as_bytes(), AUDIENCE).unwrap()
    }

    /// A deny list as the issuer signs it: the key, the last `iat` that is still believed, until when.
    pub(crate) fn signed_deny_list(
        &self,
        serial: u64,
        created: i64,
        entries: &[(Kid, Option<i64>, i64)],
    ) -> String {
        let mut entries: Vec<_> = entries
            .iter()
            .map(|(kid, last, until)| DenyListEntry {
                kid: *kid,
                iat_after: last.map(timestamp),
                until: timestamp(*until),
            })
            .collect();
        entries.sort();
        let (issuer, environment) = (ISSUER.to_owned(), ENVIRONMENT.to_owned());
        let list = DenyList { issuer, environment, serial, created: timestamp(created), entries };
        let input = list.signing_input(self.deny_list.kid()).unwrap();
        let signature = self.deny_list.sign(&input);
        compact(input, &signature)
    }
}

/// Adds the signatures of these keys.
pub(crate) fn sign_by<T: token_authority_verifier::Payload>(
    document: token_authority_verifier::Signed<T>,
    keys: &[&Key],
) -> token_authority_verifier::Signed<T> {
    keys.iter().fold(document, |document, key| {
        let signature = key.sign(&document.signing_input(key.kid()));
        document.with_signature(key.kid(), signature).unwrap()
    })
}

/// A good token's claims: issued a minute ago, for eight hours.
pub(crate) fn claims() -> Claims {
    let iat = NOW - 60;
    Claims {
        iss: ISSUER.to_owned(),
        sub: "9b1f2f64-5f0c-4c31-8d5e-3a1f8f2d7c10".to_owned(),
        aud: vec![AUDIENCE.to_owned()],
        iat,
        nbf: iat - 5,
        exp: iat + 8 * 3_600,
        jti: "019b7e0a-93c0-7c1e-8a41-6f2f3d0b5a77".to_owned(),
        scopes: vec!["complete_code".to_owned(), "duo_chat".to_owned()],
        gitlab_realm: "self-managed".to_owned(),
        gitlab_instance_uid: "019b7e00-1111-7d2a-b3c4-d5e6f7081920".to_owned(),
        duo_seat_count: Some("25".to_owned()),
    }
}

pub(crate) fn timestamp(unix: i64) -> Timestamp {
    Timestamp::from_unix(unix).unwrap()
}

pub(crate) fn time(unix: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(unix).unwrap())
}
