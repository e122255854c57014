//! Roots and manifests as they follow each other.

use token_authority_verifier::{
    Digest, Jwk, KeySet, Manifest, ManifestError, Root, RootError, SignedError, SignedManifest, SignedRoot,
    Verified, Verifier,
};

use crate::fixture::{
    AUDIENCE, DAY, ISSUER, Key, Keys, NOW, OTHER_AUDIENCE, claims, sign_by, time, timestamp,
};

fn next(keys: &Keys) -> Manifest {
    let first = keys.verified_manifest();
    Manifest { version: 2, prev: Some(first.digest()), created: timestamp(NOW), ..keys.manifest() }
}

fn verified(keys: &Keys, manifest: Manifest) -> Verified<Manifest> {
    let signed = sign_by(SignedManifest::new(manifest).unwrap(), &[&keys.root[1], &keys.root[2]]);
    signed.verify(&keys.verified_root()).unwrap()
}

#[test]
fn the_next_version_follows() {
    let keys = Keys::new();
    verified(&keys, next(&keys)).follows(&keys.verified_manifest()).unwrap();
}

#[test]
fn what_does_not_follow_is_refused() {
    let keys = Keys::new();
    let first = keys.verified_manifest();
    let other = Some(Digest::of(b"another"));
    for (manifest, reason) in [
        (Manifest { version: 3, ..next(&keys) }, "version"),
        (Manifest { prev: other, ..next(&keys) }, "another version"),
        (Manifest { created: timestamp(NOW - 2 * DAY), ..next(&keys) }, "earlier"),
        (keys.manifest(), "version"),
    ] {
        let refusal = verified(&keys, manifest).follows(&first).unwrap_err();
        assert!(matches!(refusal, ManifestError::Chain(_)), "{refusal:?}");
        assert!(refusal.to_string().contains(reason), "{refusal}");
    }
}

#[test]
fn what_was_said_of_a_key_and_what_was_denied_stays_so() {
    let keys = Keys::new();
    let first = keys.verified_manifest();
    let good = next(&keys);
    let changed = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = good.clone();
        change(&mut manifest);
        verified(&keys, manifest).follows(&first).map_err(|refusal| refusal.to_string())
    };
    let longer = changed(&|manifest| manifest.keys[0].not_after = timestamp(NOW + 390 * DAY));
    assert!(longer.unwrap_err().contains("never change"));
    let forgiven = changed(&|manifest| manifest.denied.retain(|denial| denial.iat_after.is_some()));
    assert!(forgiven.unwrap_err().contains("stays denied"));
    let at = |manifest: &mut Manifest, by: i64| {
        for denial in &mut manifest.denied {
            denial.iat_after = denial.iat_after.map(|at| timestamp(at.unix() + by));
        }
    };
    assert!(changed(&|manifest| at(manifest, 1)).unwrap_err().contains("stays denied"));
    changed(&|manifest| at(manifest, -1)).unwrap();
    changed(&|manifest| manifest.denied.iter_mut().for_each(|denial| denial.iat_after = None)).unwrap();
}

#[test]
fn the_floor_never_falls() {
    let keys = Keys::new();
    let second = verified(&keys, Manifest { min_deployable_version: 2, ..next(&keys) });
    let third = Manifest { version: 3, prev: Some(second.digest()), ..next(&keys) };
    let refusal = verified(&keys, third.clone()).follows(&second).unwrap_err();
    assert!(refusal.to_string().contains("never falls"), "{refusal}");
    verified(&keys, Manifest { min_deployable_version: 3, ..third }).follows(&second).unwrap();
}

#[test]
fn a_manifest_describes_one_set_byte_for_byte() {
    let keys = Keys::new();
    let manifest = keys.verified_manifest();
    let jwks = keys.key_set().to_canonical_json();
    assert_eq!(manifest.matches(jwks.as_bytes()), Ok(keys.key_set()));
    let refusal = manifest.matches(format!("{jwks}\n").as_bytes()).unwrap_err();
    assert!(matches!(refusal, ManifestError::Digest { .. }));

    let fewer = KeySet::new([keys.active.public.clone(), keys.standby.public.clone()]).unwrap();
    let lying = verified(&keys, Manifest { jwks_sha256: fewer.digest(), ..keys.manifest() });
    assert_eq!(lying.matches(fewer.to_canonical_json().as_bytes()), Err(ManifestError::Keys));
}

#[test]
fn a_verifier_is_made_only_for_an_audience_that_some_key_serves() {
    let keys = Keys::new();
    let jwks = keys.key_set().to_canonical_json();
    let mut manifest = keys.manifest();
    for key in &mut manifest.keys {
        key.audiences = Some(vec![OTHER_AUDIENCE.to_owned()]);
    }
    let manifest = verified(&keys, manifest);
    let refusal = Verifier::from_manifest(&manifest, jwks.as_bytes(), AUDIENCE).unwrap_err();
    assert_eq!(refusal, ManifestError::Audience);
    let verifier = Verifier::from_manifest(&manifest, jwks.as_bytes(), OTHER_AUDIENCE).unwrap();
    assert_eq!((verifier.issuer(), verifier.audience()), (ISSUER, OTHER_AUDIENCE));
    assert!(verifier.kids().eq(keys.key_set().iter().map(Jwk::kid)));
}

#[test]
fn a_denial_that_came_later_counts_and_stays() {
    let keys = Keys::new();
    let (active, iat) = (keys.active.kid(), claims().iat);
    let verifier = Verifier::from_manifest(
        &keys.verified_manifest(),
        keys.key_set().to_canonical_json().as_bytes(),
        AUDIENCE,
    )
    .unwrap();
    let token = keys.active.mint(&claims());
    let deny = |iat_after: Option<i64>| token_authority_verifier::Denial {
        kid: active,
        iat_after: iat_after.map(timestamp),
    };
    let code =
        |verifier: &Verifier| verifier.verify(&token, time(NOW)).map_err(|refusal| refusal.code()).err();
    assert_eq!(code(&verifier), None);
    assert_eq!(code(&verifier.clone().with_denials([deny(Some(iat))])), None);
    assert_eq!(code(&verifier.clone().with_denials([deny(Some(iat - 1))])), Some("key_denied"));
    assert_eq!(code(&verifier.clone().with_denials([deny(None), deny(Some(iat))])), Some("key_denied"));
    assert_eq!(code(&verifier.with_denials([deny(Some(iat - 1)), deny(Some(iat))])), Some("key_denied"));
}

fn next_root(keys: &Keys, new: &[&Key]) -> Root {
    let mut public: Vec<_> = new.iter().map(|key| key.public.clone()).collect();
    public.sort_by_key(Jwk::kid);
    Root { version: 2, keys: public, created: timestamp(NOW), ..keys.root() }
}

#[test]
fn trust_begins_with_a_digest() {
    let keys = Keys::new();
    let root = keys.signed_root();
    assert_eq!(root.verify_pinned(root.digest()).unwrap().version, 1);
    let wrong = root.verify_pinned(Digest::of(b"another")).unwrap_err();
    assert!(matches!(wrong, RootError::Digest { .. }));

    let by_one = sign_by(SignedRoot::new(keys.root()).unwrap(), &[&keys.root[0]]);
    assert_eq!(by_one.digest(), root.digest(), "signatures do not change the digest");
    let refusal = by_one.verify_pinned(root.digest()).unwrap_err();
    assert_eq!(refusal, RootError::Signed(SignedError::BelowThreshold { signed: 1, threshold: 2 }));
}

#[test]
fn a_root_is_succeeded_by_the_thresholds_of_both() {
    let keys = Keys::new();
    let (new_one, new_two) = (Key::named("root 4"), Key::named("root 5"));
    let root = next_root(&keys, &[&new_one, &new_two]);
    let signed_by = |signers: &[&Key]| {
        sign_by(SignedRoot::new(root.clone()).unwrap(), signers).verify_successor(&keys.verified_root())
    };
    let [one, two, _] = &keys.root;
    assert_eq!(signed_by(&[one, two, &new_one, &new_two]).unwrap().version, 2);
    assert!(matches!(signed_by(&[one, &new_one, &new_two]), Err(RootError::Unvouched(_))));
    assert!(matches!(signed_by(&[one, two, &new_one]), Err(RootError::Signed(_))));
    assert!(matches!(signed_by(&[one, two]), Err(RootError::Signed(_))));
}

#[test]
fn a_root_that_is_no_successor_is_refused() {
    let keys = Keys::new();
    let [one, two, three] = &keys.root;
    let good = next_root(&keys, &[one, two, three]);
    for (root, reason) in [
        (Root { version: 3, ..good.clone() }, "version"),
        (Root { version: 1, ..good.clone() }, "version"),
        (Root { issuer: "https://authority.example.org".to_owned(), ..good.clone() }, "issuer"),
        (Root { environment: "production".to_owned(), ..good.clone() }, "environment"),
        (Root { created: timestamp(0), ..good.clone() }, "earlier"),
        (Root { development: true, ..good }, "development"),
    ] {
        let signed = sign_by(SignedRoot::new(root).unwrap(), &[one, two, three]);
        let refusal = signed.verify_successor(&keys.verified_root()).unwrap_err();
        assert!(matches!(refusal, RootError::NotSuccessor(_)), "{refusal:?}");
        assert!(refusal.to_string().contains(reason), "{refusal}");
    }
}

#[test]
fn a_root_that_contradicts_itself_cannot_be_made() {
    let keys = Keys::new();
    let good = keys.root();
    let doubled = vec![good.keys[0].clone(), good.keys[0].clone(), good.keys[1].clone()];
    for root in [
        Root { threshold: 0, ..good.clone() },
        Root { threshold: 4, ..good.clone() },
        Root { version: 0, ..good.clone() },
        Root { keys: Vec::new(), ..good.clone() },
        Root { keys: doubled, ..good.clone() },
        Root { issuer: String::new(), ..good },
    ] {
        let refusal = SignedRoot::new(root.clone()).unwrap_err();
        assert!(matches!(refusal, SignedError::Contradictory(_)), "{root:?}");
    }
}

#[test]
fn holders_sign_copies_of_their_own_which_are_merged() {
    let keys = Keys::new();
    let draft = SignedManifest::new(keys.manifest()).unwrap();
    let [one, two, _] = &keys.root;
    let (by_one, by_two) = (sign_by(draft.clone(), &[one]), sign_by(draft, &[two]));
    let root = keys.verified_root();
    assert!(by_one.verify(&root).is_err() && by_two.verify(&root).is_err());
    let merged = by_one.clone().merged(&by_two).unwrap();
    assert_eq!(merged.signed_by(&root.keys), Ok([one.kid(), two.kid()].into()));
    merged.verify(&root).unwrap();
    assert_eq!(merged.clone().merged(&by_one), Ok(merged.clone()), "a copy adds nothing");

    let other = SignedManifest::new(Manifest { max_token_ttl: 60, ..keys.manifest() }).unwrap();
    assert_eq!(by_one.merged(&sign_by(other, &[two])), Err(SignedError::OtherPayload));
    let forged = SignedManifest::new(keys.manifest()).unwrap().with_signature(one.kid(), [7; 64]).unwrap();
    assert_eq!(merged.merged(&forged), Err(SignedError::DuplicateSignature(one.kid())));
    assert_eq!(forged.signed_by(&root.keys), Err(SignedError::SignatureInvalid(one.kid())));
}
