//! The attacks that the TUF specification (§1.5.2) lists, and their like, against everyone who is shown a manifest or a
//! root: the holder who signs, the service that records, the backend team that embeds.

use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64_URL;
use serde_json::{Value, json};
use token_authority::keystore::root_key::RootKey;
use token_authority::keystore::seed::Seed;
use token_authority_verifier::{Digest, KeySet, Manifest, Root, SignedManifest, SignedRoot, Verified, build};

use super::holders::{Chain, ENVIRONMENT, Offline, time};
use crate::support::program::{Deployment, answer, complaint};

/// A root of two of three, a published key set, and whatever an attacker makes of them.
struct Scene {
    offline: Offline,
    holders: [String; 3],
}

impl Scene {
    fn new() -> Self {
        let offline = Offline::new();
        let holders = ["alice", "bob", "carol"].map(|name| offline.holder(name));
        offline.create(&holders, 2, "1.root.json");
        offline.sign("1.root.json", &holders[0], &[]);
        offline.sign("1.root.json", &holders[1], &[]);
        Self { offline, holders }
    }

    fn chain(&self) -> Chain<'_> {
        Chain::publish(&self.offline, "1.root.json")
    }

    fn root(&self) -> Verified<Root> {
        let root = SignedRoot::parse(&fs::read(self.offline.path("1.root.json")).unwrap()).unwrap();
        root.verify_pinned(root.digest()).unwrap()
    }

    fn key(&self, holder: usize) -> RootKey {
        RootKey::read(self.holders[holder].as_ref()).unwrap()
    }

    /// Signed by these holders, whatever it says.
    fn signed(&self, manifest: Manifest, by: &[usize]) -> SignedManifest {
        let draft = SignedManifest::new(manifest).unwrap();
        by.iter().fold(draft, |draft, holder| self.key(*holder).sign(draft).unwrap())
    }
}

/// What a build checks before it embeds, as `key-set embed` and build scripts do.
fn embed(scene: &Scene, manifest: &[u8], jwks: &[u8]) -> Result<(), String> {
    let root = fs::read(scene.offline.path("1.root.json")).unwrap();
    let published =
        build::Published { roots: vec![root], manifest: manifest.into(), jwks: jwks.into(), deny_list: None };
    let policy = build::Policy {
        environment: Some(ENVIRONMENT.to_owned()),
        audience: None,
        allow_development: false,
        now: SystemTime::UNIX_EPOCH + Duration::from_secs(BUILT),
    };
    let trust = build::Trust::Root(scene.root().digest());
    published.check(&trust, &policy).map(drop).map_err(|refusal| told(&refusal))
}

/// The whole story of a refusal.
fn told(refusal: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(refusal), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// 2026-11-20T12:10:00Z, in seconds.
const BUILT: u64 = 1_795_176_600;

/// A backend's repository, into which sets are taken by the command line.
struct Team<'a> {
    scene: &'a Scene,
    /// The folder that somebody serves them from.
    mirror: std::path::PathBuf,
}

impl Team<'_> {
    /// Shows the team a manifest and a plain set as the version `number`, at this time.
    fn shown(
        &self,
        number: u32,
        manifest: &str,
        jwks: &str,
        at: u64,
        more: &[&str],
    ) -> Result<Value, String> {
        fs::write(self.mirror.join(format!("{number:04}.manifest.json")), manifest).unwrap();
        fs::write(self.mirror.join(format!("{number:04}.jwks.json")), jwks).unwrap();
        let (number, from) = (number.to_string(), self.mirror.display().to_string());
        let mut command = Command::new(env!("CARGO_BIN_EXE_token-authority"));
        command.args(["key-set", "embed", "--format", "json", "--from", &from, "--into", "embedded"]);
        command.args(["--set-version", &number]).args(more).env_clear();
        command.env("SOURCE_DATE_EPOCH", at.to_string()).current_dir(self.scene.offline.path(""));
        let output = command.output().unwrap();
        match output.status.code() {
            Some(0) => Ok(serde_json::from_slice(&output.stdout).unwrap()),
            _ => Err(complaint(&output)),
        }
    }

    /// Everything that is embedded, byte for byte.
    fn embedded(&self) -> Vec<(&'static str, Vec<u8>)> {
        let folder = build::Folder::read(&self.scene.offline.path("embedded")).unwrap();
        folder.files().map(|(name, bytes)| (name, bytes.to_vec())).collect()
    }
}

/// Each through `key-set embed`, as a team's pipeline runs it.
#[test]
fn no_attack_gets_a_key_set_into_a_build() {
    let scene = Scene::new();
    let chain = scene.chain();
    let first = scene.signed(chain.manifest(1), &[0, 1]);
    fs::write(scene.offline.path("first.json"), first.to_canonical_json()).unwrap();
    chain.take(1, "first.json");
    let jwks = chain.keys.to_canonical_json();
    let team = Team { scene: &scene, mirror: chain.folder.clone() };
    let trust = ["--trust-root", chain.root_digest(), "--environment", ENVIRONMENT];
    let taken = team.shown(1, &first.to_canonical_json(), &jwks, BUILT, &trust).unwrap();
    assert_eq!(taken["lock"]["key_set_version"], 1, "{taken}");
    let before = team.embedded();
    let second = |change: &dyn Fn(&mut Manifest)| {
        let mut manifest = chain.manifest(2);
        manifest.prev = Some(first.digest());
        change(&mut manifest);
        manifest
    };
    let good = scene.signed(second(&|_| {}), &[0, 2]);

    let stranger = RootKey::new(&Seed::generate().unwrap()).unwrap();
    let attacker_keys =
        KeySet::new([(); 2].map(|()| Seed::generate().unwrap().public_key().unwrap())).unwrap();
    let twice = doubled(&scene.signed(second(&|_| {}), &[0]));
    let by_a_stranger = stranger.sign(scene.signed(second(&|_| {}), &[0])).unwrap();
    let other_kind = scene.offline.path("1.root.json");
    let long = |good: &str| format!("{good}{}", " ".repeat(300_000));
    let of = |manifest: Manifest| scene.signed(manifest, &[0, 2]).to_canonical_json();

    let table: Vec<(&str, String, String, &str)> = vec![
        (
            "arbitrary keys, unsigned",
            SignedManifest::new(chain.manifest(2)).unwrap().to_canonical_json(),
            jwks.clone(),
            "0 of the root's keys",
        ),
        (
            "arbitrary keys, by a stranger's key",
            by_a_stranger.to_canonical_json(),
            jwks.clone(),
            "1 of the root's keys",
        ),
        (
            "wrong threshold",
            scene.signed(second(&|_| {}), &[1]).to_canonical_json(),
            jwks.clone(),
            "1 of the root's keys",
        ),
        ("the same key twice", twice, jwks.clone(), "has signed twice"),
        (
            "another set under the number of the last",
            first_again(&scene, &chain),
            jwks.clone(),
            "one of them is forged",
        ),
        (
            "fork",
            of(second(&|manifest| manifest.prev = Some(Digest::of(b"another")))),
            jwks.clone(),
            "names another version",
        ),
        ("made earlier", of(second(&|manifest| manifest.created = time(0))), jwks.clone(), "made earlier"),
        (
            "mix and match, another plain set",
            good.to_canonical_json(),
            attacker_keys.to_canonical_json(),
            "the manifest describes",
        ),
        (
            "mix and match, names of other keys",
            of(second(&|manifest| manifest.jwks_sha256 = attacker_keys.digest())),
            attacker_keys.to_canonical_json(),
            "do not name the same",
        ),
        (
            "another issuer",
            of(second(&|manifest| manifest.issuer = "https://other.example".to_owned())),
            jwks.clone(),
            "another issuer's",
        ),
        (
            "another environment",
            of(second(&|manifest| manifest.environment = "staging".to_owned())),
            jwks.clone(),
            "another environment's",
        ),
        (
            "another root",
            of(second(&|manifest| manifest.root_version = 2)),
            jwks.clone(),
            "root 2 is missing",
        ),
        (
            "a longer life for a key",
            of(second(&|manifest| manifest.keys[0].not_after = time(4_000_000_000))),
            jwks.clone(),
            "never change",
        ),
        (
            "a root in a manifest's place",
            fs::read_to_string(other_kind).unwrap(),
            jwks.clone(),
            "no such document",
        ),
        ("endless data", long(&good.to_canonical_json()), jwks.clone(), "larger than"),
    ];
    for (attack, manifest, jwks, reason) in table {
        let refusal = team.shown(2, &manifest, &jwks, BUILT, &[]).unwrap_err();
        assert!(refusal.contains(reason), "{attack}: {refusal}");
        assert_eq!(team.embedded(), before, "{attack} left something behind");
    }
    let frozen = good.unverified().build_before.unix().unsigned_abs();
    let refusal = team.shown(2, &good.to_canonical_json(), &jwks, frozen, &[]).unwrap_err();
    assert!(refusal.contains("may be built with before"), "freeze: {refusal}");

    // The real one is taken, and the one before it never again.
    let taken = team.shown(2, &good.to_canonical_json(), &jwks, BUILT, &[]).unwrap();
    assert_eq!((&taken["previous_version"], &taken["lock"]["key_set_version"]), (&json!(1), &json!(2)));
    let refusal = team.shown(1, &first.to_canonical_json(), &jwks, BUILT, &[]).unwrap_err();
    assert!(refusal.contains("embedding never goes back"), "rollback: {refusal}");
}

/// A root that was made for development is refused by a production build, however well everything fits.
#[test]
fn a_matching_root_for_development_gets_into_no_other_build() {
    let scene = Scene::new();
    let chain = scene.chain();
    let key = RootKey::new(&Seed::generate().unwrap()).unwrap();
    let root =
        Root { development: true, keys: vec![key.public_key()], threshold: 1, ..(*scene.root()).clone() };
    let root = key.sign(SignedRoot::new(root).unwrap()).unwrap();
    fs::write(chain.folder.join("root/1.root.json"), root.to_canonical_json()).unwrap();
    let manifest = key.sign(SignedManifest::new(chain.manifest(1)).unwrap()).unwrap().to_canonical_json();
    let jwks = chain.keys.to_canonical_json();
    let team = Team { scene: &scene, mirror: chain.folder };
    let digest = root.digest().to_string();
    let trust = ["--trust-root", &digest, "--environment", ENVIRONMENT];
    let refusal = team.shown(1, &manifest, &jwks, BUILT, &trust).unwrap_err();
    assert!(refusal.contains("made for development") && refusal.contains("--development"), "{refusal}");
    assert!(!scene.offline.path("embedded").exists());
    let taken = team.shown(1, &manifest, &jwks, BUILT, &[&trust[..], &["--development"]].concat()).unwrap();
    assert_eq!(taken["development"], true, "{taken}");
}

#[test]
fn every_flipped_byte_and_every_other_spelling_of_a_manifest_is_refused() {
    let scene = Scene::new();
    let chain = scene.chain();
    let good = scene.signed(chain.manifest(1), &[0, 1]).to_canonical_json();
    let jwks = chain.keys.to_canonical_json();
    let embed = |manifest: &[u8]| embed(&scene, manifest, jwks.as_bytes());
    embed(good.as_bytes()).unwrap();
    for at in 0..good.len() {
        for bit in [0x01, 0x20] {
            let mut flipped = good.clone().into_bytes();
            flipped[at] ^= bit;
            assert!(embed(&flipped).is_err(), "byte {at}");
        }
        assert!(embed(&good.as_bytes()[..at]).is_err(), "cut at {at}");
    }

    // Spelled otherwise and signed by enough holders all the same: two readers might read two things.
    let payload = String::from_utf8(scene.signed(chain.manifest(1), &[]).payload().to_vec()).unwrap();
    let (first, rest) = payload[1..].split_once(',').unwrap();
    let reordered = format!("{{{},{first}}}", &rest[..rest.len() - 1]);
    let doubled = payload.replacen('{', "{\"version\":1,", 1);
    let spaced = payload.replacen(':', ": ", 1);
    let unknown = payload.replacen('{', "{\"a\":1,", 1);
    for (what, payload) in
        [("reordered", reordered), ("doubled", doubled), ("spaced", spaced), ("an unknown member", unknown)]
    {
        let refusal = embed(by_holders(&scene, &payload).as_bytes()).unwrap_err();
        assert!(
            refusal.contains("not canonical") || refusal.contains("no such document"),
            "{what}: {refusal}"
        );
    }
}

/// The service records what the root's holders have signed elsewhere, and nothing else.
#[tokio::test]
async fn no_attack_gets_a_key_set_or_a_root_recorded() {
    let mut deployment = Deployment::initialized().await;
    let root_file = deployment.path("root").display().to_string();
    let root = RootKey::read(root_file.as_ref()).unwrap();
    deployment.set("TOKEN_AUTHORITY_ROOT_KEY_FILE", "");
    deployment.set("TOKEN_AUTHORITY_ALLOW_LOCAL_ROOT", "");
    answer(&deployment.run(&["keys", "generate", "--format", "json"]));
    let drafted = answer(&deployment.run(&["keys", "publish", "--format", "json"]));
    let draft_path = deployment.path("keys/staging/drafts/0002.manifest.json");
    assert!(draft_path.exists(), "{drafted}");
    let draft = SignedManifest::parse(&fs::read(&draft_path).unwrap()).unwrap();
    let says = draft.unverified().clone();
    let sign =
        |manifest: Manifest| root.sign(SignedManifest::new(manifest).unwrap()).unwrap().to_canonical_json();
    let stranger = RootKey::new(&Seed::generate().unwrap()).unwrap();
    let foreign = KeySet::new([Seed::generate().unwrap().public_key().unwrap()]).unwrap();

    let table: Vec<(&str, String, &str)> = vec![
        ("unsigned", draft.to_canonical_json(), "0 of the root's keys"),
        ("by a stranger", stranger.sign(draft.clone()).unwrap().to_canonical_json(), "0 of the root's keys"),
        ("the same key twice", doubled(&root.sign(draft).unwrap()), "has signed twice"),
        (
            "rollback",
            sign(Manifest { version: 1, prev: None, ..says.clone() }),
            "the next key-set version is 2, not 1",
        ),
        (
            "a version left out",
            sign(Manifest { version: 3, ..says.clone() }),
            "the next key-set version is 2, not 3",
        ),
        (
            "fork",
            sign(Manifest { prev: Some(Digest::of(b"another")), ..says.clone() }),
            "does not name its predecessor",
        ),
        (
            "another issuer",
            sign(Manifest { issuer: "https://other.example".to_owned(), ..says.clone() }),
            "another issuer's",
        ),
        (
            "another environment",
            sign(Manifest { environment: "production".to_owned(), ..says.clone() }),
            "another environment's",
        ),
        ("an unknown root", sign(Manifest { root_version: 2, ..says.clone() }), "version 2 of the root"),
        ("mix and match", sign(Manifest { jwks_sha256: foreign.digest(), ..says.clone() }), "describes"),
        (
            "no manifest",
            fs::read_to_string(deployment.path("keys/staging/root/1.root.json")).unwrap(),
            "no such document",
        ),
    ];
    let file = deployment.path("attack.json");
    for (attack, manifest, reason) in table {
        fs::write(&file, manifest).unwrap();
        let refused = deployment.run(&["keys", "publish", "--signed", file.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(1), "{attack}");
        assert!(complaint(&refused).contains(reason), "{attack}: {}", complaint(&refused));
    }

    // The real one, signed where the root is, as docs/key-rotation.md says.
    let published = deployment.path("keys/staging").display().to_string();
    let trust =
        answer(&deployment.run(&["init", "--format", "json"]))["root_digest"].as_str().unwrap().to_owned();
    let draft = draft_path.display().to_string();
    answer(&deployment.run(&[
        "keys",
        "root",
        "sign",
        &draft,
        "--key",
        &root_file,
        "--published",
        &published,
        "--trust-root",
        &trust,
        "--yes",
        "--format",
        "json",
    ]));
    let recorded = answer(&deployment.run(&["keys", "publish", "--signed", &draft, "--format", "json"]));
    assert_eq!(
        recorded["version"].as_u64().or(recorded["key_set"]["version"].as_u64()),
        Some(2),
        "{recorded}"
    );
    // Its number is taken from now on.
    fs::write(&file, sign(Manifest { max_token_ttl: 60, ..says })).unwrap();
    let forked = deployment.run(&["keys", "publish", "--signed", file.to_str().unwrap()]);
    assert!(complaint(&forked).contains("the next key-set version is 3"), "{}", complaint(&forked));

    roots_are_recorded_by_both_thresholds_only(&deployment, &root);
}

fn roots_are_recorded_by_both_thresholds_only(deployment: &Deployment, old: &RootKey) {
    let first =
        SignedRoot::parse(&fs::read(deployment.path("keys/staging/root/1.root.json")).unwrap()).unwrap();
    let new = RootKey::new(&Seed::generate().unwrap()).unwrap();
    let good = Root {
        version: 2,
        keys: vec![new.public_key()],
        created: time(4_000_000_000),
        ..first.unverified().clone()
    };
    let draft = |root: &Root| SignedRoot::new(root.clone()).unwrap();
    let both = |root: Root| new.sign(old.sign(draft(&root)).unwrap()).unwrap().to_canonical_json();
    let table: Vec<(&str, String, &str)> = vec![
        ("unsigned", draft(&good).to_canonical_json(), "does not vouch"),
        ("by the new one alone", new.sign(draft(&good)).unwrap().to_canonical_json(), "does not vouch"),
        ("by the old one alone", old.sign(draft(&good)).unwrap().to_canonical_json(), "0 of the root's keys"),
        ("a version left out", both(Root { version: 3, ..good.clone() }), "not the next one"),
        (
            "another environment",
            both(Root { environment: "production".to_owned(), ..good.clone() }),
            "another environment's",
        ),
        ("a root for development", both(Root { development: true, ..good.clone() }), "development"),
    ];
    let file = deployment.path("attack.root.json");
    for (attack, root, reason) in table {
        fs::write(&file, root).unwrap();
        let refused = deployment.run(&["keys", "root", "record", file.to_str().unwrap()]);
        assert_eq!(refused.status.code(), Some(1), "{attack}");
        assert!(complaint(&refused).contains(reason), "{attack}: {}", complaint(&refused));
    }
    fs::write(&file, both(good)).unwrap();
    let record = ["keys", "root", "record", file.to_str().unwrap(), "--format", "json"];
    assert_eq!(answer(&deployment.run(&record))["is_new"], true);
    assert_eq!(answer(&deployment.run(&record))["is_new"], false, "once more changes nothing");
    assert!(deployment.path("keys/staging/root/2.root.json").exists());
}

/// From the first day on no machine of the service holds a key of the root.
#[tokio::test]
async fn a_deployment_is_born_under_a_root_that_three_people_hold() {
    let mut deployment = Deployment::prepare().await;
    for setting in ["TOKEN_AUTHORITY_ROOT_KEY_FILE", "TOKEN_AUTHORITY_ALLOW_LOCAL_ROOT"] {
        deployment.set(setting, "");
    }
    let migrated = deployment.run(&["migrate"]);
    assert!(migrated.status.success(), "{}", complaint(&migrated));
    let offline = Offline::new();
    let holders = ["alice", "bob", "carol"].map(|name| offline.holder(name));
    let out = offline.path("1.root.json").display().to_string();
    let public = holders.clone().map(|holder| format!("{holder}.pub.json"));
    let mut create = vec!["keys", "root", "create", "--issuer", crate::support::program::ISSUER];
    create.extend(["--environment", "staging", "--threshold", "2", "--out", &out]);
    create.extend(public.iter().flat_map(|holder| ["--holder", holder]));
    answer(&offline.run(&create));
    offline.sign("1.root.json", &holders[0], &[]);
    let unsigned = deployment.run(&["init", "--root", &out]);
    assert!(complaint(&unsigned).contains("1 of the root's keys have signed"), "{}", complaint(&unsigned));
    offline.sign("1.root.json", &holders[1], &[]);

    let init = ["init", "--root", &out, "--format", "json"];
    let prepared = answer(&deployment.run(&init));
    assert_eq!(answer(&deployment.run(&init)), prepared, "safe to run again");
    let published = deployment.path("keys/staging").display().to_string();
    let draft = prepared["draft"].as_str().unwrap();
    let trust = prepared["root_digest"].as_str().unwrap();
    offline.sign(draft, &holders[0], &["--published", &published]);
    offline.sign(draft, &holders[2], &["--published", &published, "--trust-root", trust]);
    answer(&deployment.run(&["keys", "publish", "--signed", draft, "--format", "json"]));
    let born = answer(&deployment.run(&["init", "--format", "json"]));
    assert_eq!((&born["root_digest"], &born["key_set"]["version"]), (&json!(trust), &json!(1)));
    let listed = answer(&deployment.run(&["keys", "list", "--format", "json"]));
    let active = listed["keys"].as_array().unwrap().iter().filter(|key| key["state"] == "active").count();
    assert_eq!(active, 3, "{listed}");
    let serving = deployment.serve();
    let ready = reqwest::get(format!("{}/health/ready", serving.base_url)).await.unwrap();
    assert_eq!(ready.status(), 200, "{}", ready.text().await.unwrap());
}

/// A JWS over any payload, signed by two holders.
fn by_holders(scene: &Scene, payload: &str) -> String {
    use ed25519_dalek::Signer;
    use ed25519_dalek::pkcs8::DecodePrivateKey;
    let mut signatures: Vec<(String, Value)> = [0, 1]
        .into_iter()
        .map(|holder| {
            let kid = scene.key(holder).public_key().kid().to_string();
            let header = format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"key-set-manifest+jws"}}"#);
            let protected = BASE64_URL.encode(header);
            let pem = fs::read_to_string(&scene.holders[holder]).unwrap();
            let key = ed25519_dalek::SigningKey::from_pkcs8_pem(&pem).unwrap();
            let signature = key.sign(format!("{protected}.{}", BASE64_URL.encode(payload)).as_bytes());
            (kid, json!({"protected": protected, "signature": BASE64_URL.encode(signature.to_bytes())}))
        })
        .collect();
    signatures.sort_by(|one, other| one.0.cmp(&other.0));
    let signatures: Vec<Value> = signatures.into_iter().map(|(_, signature)| signature).collect();
    json!({"payload": BASE64_URL.encode(payload), "signatures": signatures}).to_string()
}

/// With its first signature a second time.
fn doubled(signed: &SignedManifest) -> String {
    let mut document: Value = serde_json::from_str(&signed.to_canonical_json()).unwrap();
    let signatures = document["signatures"].as_array_mut().unwrap();
    signatures.push(signatures[0].clone());
    document.to_string()
}

/// Version 1 once more, with another content.
fn first_again(scene: &Scene, chain: &Chain<'_>) -> String {
    let manifest = Manifest { max_token_ttl: 60, ..chain.manifest(1) };
    scene.signed(manifest, &[0, 2]).to_canonical_json()
}
