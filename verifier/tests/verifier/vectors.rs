//! Runs the vectors in `tests/vectors`, and proves that they are what the generator makes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use token_authority_verifier::{
    Claims, DenyList, Digest, KeySet, LiveVerifier, Manifest, Reason, Root, SignedManifest, SignedRoot,
    Unverified, Verified, Verifier,
};

use crate::fixture::time;
use crate::generate;

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn read(name: &str) -> String {
    fs::read_to_string(directory().join(name)).unwrap_or_default()
}

/// Every other test here reads the files, so this one must not be the only one to fail after a change: it
/// rewrites them, and the next run is green.
#[test]
fn the_vectors_are_what_the_generator_makes() {
    let mut stale = Vec::new();
    for (name, content) in generate::files() {
        if read(name) != content {
            fs::write(directory().join(name), content).unwrap();
            stale.push(name);
        }
    }
    assert!(stale.is_empty(), "rewritten because they were stale, look at the difference: {stale:?}");
}

#[derive(Deserialize)]
struct Setup {
    issuer: String,
    audience: String,
    root_digest: Digest,
}

#[derive(Deserialize)]
struct Tokens {
    cases: Vec<TokenCase>,
}

#[derive(Deserialize)]
struct TokenCase {
    name: String,
    trust: String,
    now: i64,
    token: String,
    expect: String,
    claims: Option<Claims>,
}

fn root(digest: Digest) -> Verified<Root> {
    SignedRoot::parse(read("root.json").as_bytes()).unwrap().verify_pinned(digest).unwrap()
}

fn manifest(root: &Verified<Root>) -> Verified<Manifest> {
    SignedManifest::parse(read("manifest.json").as_bytes()).unwrap().verify(root).unwrap()
}

#[test]
fn every_token_gets_its_verdict() {
    let setup: Setup = serde_json::from_str(&read("setup.json")).unwrap();
    let jwks = read("jwks.json");
    let plain = Verifier::from_key_set(
        &KeySet::parse(jwks.as_bytes()).unwrap(),
        setup.issuer.clone(),
        setup.audience.clone(),
    );
    let manifest = manifest(&root(setup.root_digest));
    let embedded = Verifier::from_manifest(&manifest, jwks.as_bytes(), &*setup.audience).unwrap();
    let live = LiveVerifier::new(manifest, jwks.as_bytes(), setup.audience).unwrap();
    let mut seen = BTreeSet::new();
    for file in generate::TOKEN_FILES {
        let tokens: Tokens = serde_json::from_str(&read(file)).unwrap();
        for case in tokens.cases {
            assert!(seen.insert((file, case.name.clone())), "two cases of {file} are called {}", case.name);
            let verifiers: &[&Verifier] = match &*case.trust {
                "any" => &[&plain, &embedded],
                "manifest" => &[&embedded],
                "key_set" => &[&plain],
                other => panic!("{}: unknown trust {other}", case.name),
            };
            for verifier in verifiers {
                let verdict = verifier.verify(&case.token, time(case.now));
                let code = verdict.as_ref().map_or_else(|refusal| refusal.code(), |_| "valid");
                assert_eq!(code, case.expect, "{file}: {}: {verdict:?}", case.name);
                assert_eq!(verdict.ok(), case.claims, "{file}: {}", case.name);
            }
            // A verifier that remembers says the same the first and the second time.
            for _ in 0..2 {
                let verdict = live.verify(&case.token, time(case.now));
                if case.trust != "key_set" {
                    let code = verdict.as_ref().map_or_else(|refusal| refusal.code(), |_| "valid");
                    assert_eq!(code, case.expect, "{file}: {}: {verdict:?}", case.name);
                    assert_eq!(verdict.ok().as_deref(), case.claims.as_ref(), "{file}: {}", case.name);
                }
            }
            // Looking into whatever it is does no harm either.
            let _ = Unverified::decode(&case.token);
        }
    }
    assert!(seen.len() > 150, "{} cases", seen.len());
}

/// A build without the feature refuses whatever names an RSA key and its algorithm.
#[test]
fn every_token_beside_rsa_keys_gets_its_verdict() {
    let setup: Setup = serde_json::from_str(&read("setup.json")).unwrap();
    let keys = KeySet::parse(read("rs256_jwks.json").as_bytes()).unwrap();
    let verifier = Verifier::from_key_set(&keys, setup.issuer, setup.audience);
    let tokens: Tokens = serde_json::from_str(&read("rs256.json")).unwrap();
    assert!(tokens.cases.len() > 25, "{} cases", tokens.cases.len());
    for case in tokens.cases {
        let verdict = verifier.verify(&case.token, time(case.now));
        let code = verdict.as_ref().map_or_else(|refusal| refusal.code(), |_| "valid");
        if cfg!(not(feature = "rs256")) && code == "alg_unsupported" {
            continue;
        }
        assert_eq!(code, case.expect, "{}: {verdict:?}", case.name);
        assert_eq!(verdict.ok(), case.claims, "{}", case.name);
    }
}

/// Every code has a token that gets it, and a line in the page on tokens.
#[test]
fn every_code_is_tried_and_documented() {
    let page = fs::read_to_string(directory().join("../../../docs/token-format.md")).unwrap();
    let (_, table) = page.split_once("## What a verifier checks").unwrap();
    let (table, _) = table.split_once("A token that passes").unwrap();
    let in_last_column =
        |row: &str| row.trim_end_matches(" |").rsplit_once("| ").map(|(_, cell)| cell.to_owned());
    let documented: BTreeSet<_> = table
        .lines()
        .filter(|line| line.starts_with("| ") && line.as_bytes()[2].is_ascii_digit())
        .filter_map(in_last_column)
        .flat_map(|cell| cell.split(", ").map(|code| code.trim_matches('`').to_owned()).collect::<Vec<_>>())
        .collect();
    let mut tried = BTreeSet::new();
    for file in generate::TOKEN_FILES {
        let tokens: Tokens = serde_json::from_str(&read(file)).unwrap();
        tried.extend(tokens.cases.into_iter().map(|case| case.expect));
    }
    assert!(tried.remove("valid"));
    // Only a build without the feature `rs256` says this; a unit test of such a build shows it.
    tried.insert("alg_unsupported".to_owned());
    assert_eq!(tried, documented);
    // The others are about requests and about what changes while a process runs: `requests.rs` and `live.rs`.
    let others = ["deny_list_stale", "header_mismatch", "not_permitted", "token_missing"].map(str::to_owned);
    tried.extend(others);
    assert_eq!(tried, Reason::ALL.iter().map(|reason| reason.code().to_owned()).collect());
}

#[derive(Deserialize)]
struct Documents {
    cases: Vec<DocumentCase>,
}

#[derive(Deserialize)]
struct DocumentCase {
    name: String,
    document: String,
    accepted: bool,
}

fn run_documents(file: &str, accepts: impl Fn(&[u8]) -> Result<(), String>) {
    let documents: Documents = serde_json::from_str(&read(file)).unwrap();
    for case in documents.cases {
        let verdict = accepts(case.document.as_bytes());
        assert_eq!(verdict.is_ok(), case.accepted, "{file}: {}: {verdict:?}", case.name);
    }
}

#[test]
fn every_key_set_gets_its_verdict() {
    run_documents("key_sets.json", |jwks| {
        KeySet::parse(jwks).map(|_| ()).map_err(|error| format!("{error:?}"))
    });
}

#[test]
fn every_manifest_gets_its_verdict() {
    let setup: Setup = serde_json::from_str(&read("setup.json")).unwrap();
    let root = root(setup.root_digest);
    run_documents("manifests.json", |manifest| {
        let manifest = SignedManifest::parse(manifest).map_err(|error| format!("{error:?}"))?;
        let manifest = manifest.verify(&root).map_err(|error| format!("{error:?}"))?;
        manifest.matches(read("jwks.json").as_bytes()).map_err(|error| format!("{error:?}"))?;
        Ok(())
    });
}

#[derive(Deserialize)]
struct DenyLists {
    cases: Vec<DenyListCase>,
}

#[derive(Deserialize)]
struct DenyListCase {
    name: String,
    now: i64,
    document: String,
    accepted: bool,
    denies: Option<Vec<serde_json::Value>>,
}

#[test]
fn every_deny_list_gets_its_verdict_and_denies_what_it_says() {
    let setup: Setup = serde_json::from_str(&read("setup.json")).unwrap();
    let manifest = manifest(&root(setup.root_digest));
    let lists: DenyLists = serde_json::from_str(&read("deny_lists.json")).unwrap();
    for case in lists.cases {
        let verdict = DenyList::verify(&case.document, &manifest, time(case.now));
        assert_eq!(verdict.is_ok(), case.accepted, "{}: {verdict:?}", case.name);
        let live =
            LiveVerifier::new(manifest.clone(), read("jwks.json").as_bytes(), &*setup.audience).unwrap();
        assert_eq!(
            live.take_deny_list(&case.document, time(case.now)).is_ok(),
            case.accepted,
            "{}",
            case.name
        );
        let denied = verdict.ok().map(|list| {
            let denials = list.denials(time(case.now)).map(|denial| (denial.kid, denial.iat_after));
            denials.map(|denial| serde_json::to_value(denial).unwrap()).collect::<Vec<_>>()
        });
        let expected = case.denies.map(|entries| {
            let pairs = entries.iter().map(|entry| serde_json::json!([entry["kid"], entry["iat_after"]]));
            pairs.collect::<Vec<_>>()
        });
        assert_eq!(denied, expected, "{}", case.name);
    }
}

/// A canonical document is written exactly as it was read.
#[test]
fn published_files_are_written_as_they_are_read() {
    let (jwks, manifest, root) = (read("jwks.json"), read("manifest.json"), read("root.json"));
    assert_eq!(KeySet::parse(jwks.as_bytes()).unwrap().to_canonical_json(), jwks);
    assert_eq!(SignedManifest::parse(manifest.as_bytes()).unwrap().to_canonical_json(), manifest);
    assert_eq!(SignedRoot::parse(root.as_bytes()).unwrap().to_canonical_json(), root);
}
