//! The published example environment is, byte for byte, what its (published, worthless) private halves make.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;
use token_authority::keystore::root_key::RootKey;
use token_authority::keystore::seed::Seed;
use token_authority_verifier::{
    Jwk, KeySet, LEEWAY, MAX_TOKEN_TTL, Manifest, ManifestKey, Purpose, Root, SignedManifest, SignedRoot,
    Timestamp, Verifier,
};

const ISSUER: &str = "https://authority.example.com";
const ENVIRONMENT: &str = "example";

/// A file that differs is not rewritten: published files never change. Delete it to have it made anew.
#[test]
fn the_example_files_are_what_the_example_keys_make() {
    let files = make();
    for (name, content) in &files {
        let path = folder("keys/example").join(name);
        match fs::read_to_string(&path) {
            Ok(published) => assert_eq!(&published, content, "{name} is not what the example keys make"),
            Err(_) => {
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(&path, content).unwrap();
                panic!("{name} was missing and has been written; commit it");
            }
        }
    }
}

#[test]
fn the_example_set_verifies_from_its_root_down() {
    let read = |name: &str| fs::read(folder("keys/example").join(name)).unwrap();
    let root = SignedRoot::parse(&read("root/1.root.json")).unwrap();
    let root = root.verify_pinned(root.digest()).unwrap();
    assert!(root.development, "no production build may take it");
    let manifest = SignedManifest::parse(&read("0001.manifest.json")).unwrap().verify(&root).unwrap();
    Verifier::from_manifest(&manifest, &read("0001.jwks.json"), "gitlab-ai-gateway").unwrap();
}

fn make() -> [(&'static str, String); 3] {
    let root_key = RootKey::read(&folder(FIXTURES).join("root.pem")).unwrap();
    let root = Root {
        issuer: ISSUER.to_owned(),
        environment: ENVIRONMENT.to_owned(),
        version: 1,
        threshold: 1,
        keys: vec![root_key.public_key()],
        created: at("2026-11-20T00:00:00Z"),
        development: true,
    };
    let root = root_key.sign(SignedRoot::new(root).unwrap()).unwrap();

    let of_tokens = ["access_tokens.active", "access_tokens.standby"].map(public_key);
    let jwks = KeySet::new(of_tokens.clone()).unwrap();
    let entry = |jwk: Jwk, purpose: Purpose| ManifestKey {
        kid: jwk.kid(),
        alg: jwk.algorithm(),
        purpose,
        not_after: at("2100-01-01T00:00:00Z"),
        audiences: None,
        jwk: (purpose != Purpose::AccessTokens).then_some(jwk),
    };
    let mut keys = of_tokens.map(|jwk| entry(jwk, Purpose::AccessTokens)).to_vec();
    keys.push(entry(public_key("audit_checkpoints"), Purpose::AuditCheckpoints));
    keys.push(entry(public_key("deny_list"), Purpose::DenyList));
    keys.sort_by_key(|key| key.kid);
    let manifest = Manifest {
        issuer: ISSUER.to_owned(),
        environment: ENVIRONMENT.to_owned(),
        version: 1,
        prev: None,
        created: at("2026-11-20T00:00:00Z"),
        build_before: at("2099-10-03T00:00:00Z"),
        jwks_sha256: jwks.digest(),
        max_token_ttl: u32::try_from(MAX_TOKEN_TTL.as_secs()).unwrap(),
        leeway: u32::try_from(LEEWAY.as_secs()).unwrap(),
        keys,
        denied: vec![],
        min_deployable_version: 1,
        root_version: 1,
    };
    let manifest = root_key.sign(SignedManifest::new(manifest).unwrap()).unwrap();
    [
        ("root/1.root.json", root.to_canonical_json()),
        ("0001.jwks.json", jwks.to_canonical_json()),
        ("0001.manifest.json", manifest.to_canonical_json()),
    ]
}

/// The public half, derived from the private one; the file must say the same.
fn public_key(name: &str) -> Jwk {
    let file = fs::read(folder(FIXTURES).join(format!("{name}.jwk.json"))).unwrap();
    let mut jwk: Value = serde_json::from_slice(&file).unwrap();
    let private_half = jwk.as_object_mut().unwrap().remove("d").unwrap();
    let seed = BASE64_URL_SAFE_NO_PAD.decode(private_half.as_str().unwrap()).unwrap();
    let derived = Seed::from_bytes(&seed).unwrap().public_key().unwrap();
    assert_eq!(serde_json::from_value::<Jwk>(jwk).unwrap(), derived, "{name}");
    derived
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn folder(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

const FIXTURES: &str = "tests/fixtures/example_keys";
