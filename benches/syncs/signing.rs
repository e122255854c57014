//! What one core signs and verifies: raw, as whole tokens, and with another library.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use aws_lc_rs::signature::Ed25519KeyPair;
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use token_authority::catalog_files;
use token_authority::clock::Clock;
use token_authority::domain::add_on_purchase::PurchaseStanding;
use token_authority::domain::catalog::Catalog;
use token_authority::domain::catalog::Realm;
use token_authority::domain::entitlement::{Situation, decide};
use token_authority::domain::ids::{InstanceId, InstanceUid, Jti};
use token_authority::domain::instance::{InstanceStanding, InstanceState};
use token_authority::domain::license::{LicenseKind, LicenseStanding};
use token_authority::domain::subscription::{Condition, SubscriptionStanding, Term};
use token_authority::domain::token_plan::{BackendGrants, Bearer, Lifetime, TokenPlan};
use token_authority::keystore::seed::Seed;
use token_authority::keystore::{PrivateHalf, Signer};
use token_authority_verifier::{Claims, KeySet, Verifier};

use super::deployment;
use super::outcome::{Fault, Outcome};

/// Per second, on one core.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Signing {
    pub(crate) raw: f64,
    pub(crate) minted: f64,
    pub(crate) verified: f64,
    /// By the jsonwebtoken crate, with each of the same checks that it offers.
    pub(crate) decoded: f64,
}

/// Signs one text raw and as a token, and verifies that token with our verifier and another, in turns.
pub(crate) fn measure(time: Duration) -> Outcome<Signing> {
    let catalog = catalog_files::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("catalog"))?;
    let now = Clock::system().now();
    let plan = plan(&catalog, now)?;
    let seed = Seed::generate()?;
    let public_key = seed.public_key()?;
    let signer = Signer::new(&PrivateHalf::Ed25519(seed), public_key.kid())?;
    let pair = Ed25519KeyPair::generate()?;
    let (instance_id, instance_uid) = (InstanceId::generate(now), InstanceUid::generate(now));
    let bearer = Bearer { issuer: deployment::ISSUER, instance_id, instance_uid, realm: "self-managed" };
    let jti = Jti::generate(now);
    let mint = || signer.sign_compact(&plan.clone().into_payload(&catalog, &bearer, jti));
    let token = mint()?;
    let signed = token.rsplit_once('.').map_or("", |(signed, _)| signed).as_bytes().to_vec();

    let verifier = Verifier::from_key_set(&KeySet::new([public_key.clone()])?, deployment::ISSUER, AUDIENCE);
    let at = now.into();
    verifier.verify(&token, at)?;
    let key = DecodingKey::from_ed_der(
        public_key.ed25519_public().expect("access tokens are signed by Ed25519 keys here"),
    );
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.set_audience(&[AUDIENCE]);
    validation.set_issuer(&[deployment::ISSUER]);
    validation.set_required_spec_claims(&["aud", "exp", "iss", "nbf", "sub"]);
    validation.validate_nbf = true;
    let decode = || jsonwebtoken::decode::<Claims>(black_box(&token), &key, &validation);
    decode()?;

    let slice = time / (4 * SLICES);
    let mut all = Signing::default();
    for _ in 0..SLICES {
        all.raw += rate(slice, || black_box(pair.sign(black_box(&signed)))) / f64::from(SLICES);
        all.minted += rate(slice, || black_box(mint())) / f64::from(SLICES);
        all.verified += rate(slice, || black_box(verifier.verify(black_box(&token), at))) / f64::from(SLICES);
        all.decoded += rate(slice, || black_box(decode())) / f64::from(SLICES);
    }
    Ok(all)
}

const SLICES: u32 = 10;
/// Of the backend whose tokens the bench mints.
const AUDIENCE: &str = "gitlab-ai-gateway";

fn rate<T>(time: Duration, mut work: impl FnMut() -> T) -> f64 {
    let (began, mut done) = (Instant::now(), 0_u32);
    while began.elapsed() < time {
        for _ in 0..64 {
            work();
        }
        done += 64;
    }
    f64::from(done) / began.elapsed().as_secs_f64()
}

/// The token that a sync of the bench's fleet yields.
fn plan(catalog: &Catalog, now: DateTime<Utc>) -> Outcome<TokenPlan> {
    let term = Term::new(now - TimeDelta::days(20), now + TimeDelta::days(345));
    let term = term.ok_or_else(|| Fault::new("no term"))?;
    let situation = Situation {
        license: LicenseStanding { kind: LicenseKind::Online, revoked_at: None },
        subscription: SubscriptionStanding {
            license_type: "premium".parse()?,
            term,
            earlier_ends: Vec::new(),
            trial: false,
            condition: Condition::Active,
        },
        purchases: vec![PurchaseStanding { add_on: "duo_pro".parse()?, quantity: 100, term, ended_at: None }],
        instance: InstanceStanding {
            state: InstanceState::Active,
            version: "17.6.1".parse()?,
            realm: Realm::SelfManaged,
            disabled_unit_primitives: Default::default(),
            disabled_backends: Default::default(),
        },
    };
    let decision = decide(catalog, &situation, TimeDelta::days(14), now);
    let lifetime = Lifetime { of_tokens: TimeDelta::hours(8), of_key: now + TimeDelta::days(300) };
    let backends = ["ai_gateway".parse()?];
    let granted = BackendGrants::of_decision(catalog, &situation, &decision, Some(&backends));
    let plans = TokenPlan::of_grants(&granted, lifetime, now);
    plans.into_iter().next().ok_or_else(|| Fault::new("nothing is granted"))
}
