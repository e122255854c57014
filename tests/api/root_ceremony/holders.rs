//! Machines without a service: holders of root keys, and a folder of what was published.

use std::fs;
use std::path::PathBuf;
use std::process::Output;

use serde_json::Value;
use tempfile::TempDir;
use token_authority::keystore::seed::Seed;
use token_authority::root_ceremony::Published;
use token_authority_verifier::{
    Algorithm, Jwk, KeySet, Manifest, ManifestKey, Purpose, SignedManifest, SignedRoot, Timestamp,
};

use crate::support::program::answer;

pub(super) const ISSUER: &str = "https://licensing.example";
pub(super) const ENVIRONMENT: &str = "production";
/// 2026-11-20T12:00:00Z.
const MADE: i64 = 1_795_176_000;
const DAY: i64 = 86_400;

/// One folder for all holders; each has a key file of its own in it.
pub(super) struct Offline {
    folder: TempDir,
}

impl Offline {
    pub(super) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        super::in_folder(self.folder.path(), name)
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Output {
        super::run(self.folder.path(), arguments)
    }

    /// Makes a key, and returns where its private half is.
    pub(super) fn holder(&self, name: &str) -> String {
        let path = self.path(name).display().to_string();
        let made = answer(&self.run(&["keys", "root", "new-key", &path]));
        assert_eq!(made["kid"], made["public_key"]["kid"]);
        path
    }

    pub(super) fn create(&self, holders: &[String], threshold: u32, out: &str) -> Value {
        let threshold = threshold.to_string();
        let mut arguments = vec!["keys", "root", "create", "--issuer", ISSUER, "--environment", ENVIRONMENT];
        arguments.extend(["--threshold", &threshold, "--out", out]);
        let public: Vec<_> = holders.iter().map(|holder| format!("{holder}.pub.json")).collect();
        arguments.extend(public.iter().flat_map(|holder| ["--holder", holder]));
        answer(&self.run(&arguments))
    }

    pub(super) fn rotate(&self, chain: &Chain<'_>, holders: &[String], threshold: u32, out: &str) -> Value {
        let threshold = threshold.to_string();
        let mut arguments = vec!["keys", "root", "rotate", "--trust-root", chain.root_digest()];
        let published = chain.published();
        arguments.extend(&published);
        arguments.extend(["--threshold", &threshold, "--out", out]);
        let public: Vec<_> = holders.iter().map(|holder| format!("{holder}.pub.json")).collect();
        arguments.extend(public.iter().flat_map(|holder| ["--holder", holder]));
        answer(&self.run(&arguments))
    }

    pub(super) fn try_sign(&self, file: &str, key: &str, more: &[&str]) -> Output {
        self.run(&[&["keys", "root", "sign", file, "--key", key, "--yes"], more].concat())
    }

    pub(super) fn sign(&self, file: &str, key: &str, more: &[&str]) -> Value {
        answer(&self.try_sign(file, key, more))
    }

    /// Publishes a root if it succeeds the one before; returns its version.
    pub(super) fn try_publish_root(&self, chain: &Chain<'_>, version: u32, file: &str) -> Option<u32> {
        let path = chain.folder.join(format!("root/{version}.root.json"));
        fs::copy(self.path(file), &path).unwrap();
        let followed = Published::new(&chain.folder).roots_from(chain.root.digest());
        match followed {
            Ok(roots) => roots.last().map(|root| root.version),
            Err(_) => {
                fs::remove_file(&path).unwrap();
                None
            }
        }
    }
}

/// What was published, and drafts of what comes next.
pub(super) struct Chain<'a> {
    offline: &'a Offline,
    pub(super) folder: PathBuf,
    folder_name: String,
    root: SignedRoot,
    root_digest: String,
    pub(super) keys: KeySet,
}

impl<'a> Chain<'a> {
    /// A folder that holds the first root and nothing else.
    pub(super) fn publish(offline: &'a Offline, root: &str) -> Self {
        let folder = offline.path("published");
        fs::create_dir_all(folder.join("root")).unwrap();
        fs::copy(offline.path(root), folder.join("root/1.root.json")).unwrap();
        let root = SignedRoot::parse(&fs::read(offline.path(root)).unwrap()).unwrap();
        let keys = KeySet::new([(); 2].map(|()| Seed::generate().unwrap().public_key().unwrap())).unwrap();
        Self {
            offline,
            folder_name: folder.display().to_string(),
            folder,
            root_digest: root.digest().to_string(),
            root,
            keys,
        }
    }

    pub(super) fn root_digest(&self) -> &str {
        &self.root_digest
    }

    pub(super) fn published(&self) -> [&str; 2] {
        ["--published", &self.folder_name]
    }

    pub(super) fn file(&self, version: u32) -> PathBuf {
        self.folder.join(format!("{version:04}.manifest.json"))
    }

    pub(super) fn manifest(&self, version: u32) -> Manifest {
        self.manifest_on(version.saturating_sub(1), version)
    }

    fn manifest_on(&self, previous: u32, version: u32) -> Manifest {
        let previous = (previous > 0).then(|| fs::read(self.file(previous)).ok()).flatten();
        let prev = previous.map(|file| SignedManifest::parse(&file).unwrap().digest());
        let key = |key: &Jwk| ManifestKey {
            kid: key.kid(),
            alg: Algorithm::EdDsa,
            purpose: Purpose::AccessTokens,
            not_after: time(MADE + 400 * DAY),
            audiences: None,
            jwk: None,
        };
        Manifest {
            issuer: ISSUER.to_owned(),
            environment: ENVIRONMENT.to_owned(),
            version,
            prev: prev.or((version > 1).then(|| self.root.digest())),
            created: time(MADE + i64::from(version)),
            build_before: time(MADE + 310 * DAY),
            jwks_sha256: self.keys.digest(),
            max_token_ttl: 259_200,
            leeway: 30,
            keys: self.keys.iter().map(key).collect(),
            denied: vec![],
            min_deployable_version: 1,
            root_version: 1,
        }
    }

    pub(super) fn draft(&self, version: u32, out: &str) {
        self.draft_with(version, out, |_| {});
    }

    pub(super) fn draft_with(&self, version: u32, out: &str, change: impl FnOnce(&mut Manifest)) {
        let mut manifest = self.manifest(version);
        change(&mut manifest);
        self.write(manifest, out);
    }

    /// A draft that claims to follow another version than the one before its own.
    pub(super) fn draft_on(&self, previous: u32, version: u32, out: &str) {
        self.write(self.manifest_on(previous, version), out);
    }

    fn write(&self, manifest: Manifest, out: &str) {
        let draft = SignedManifest::new(manifest).unwrap().to_canonical_json();
        fs::write(self.offline.path(out), draft).unwrap();
    }

    pub(super) fn digest_of(&self, file: &str) -> String {
        SignedManifest::parse(&fs::read(self.offline.path(file)).unwrap()).unwrap().digest().to_string()
    }

    /// Publishes what was signed.
    pub(super) fn take(&self, version: u32, file: &str) {
        fs::copy(self.offline.path(file), self.file(version)).unwrap();
        fs::write(self.folder.join(format!("{version:04}.jwks.json")), self.keys.to_canonical_json())
            .unwrap();
    }

    /// As a backend team does it.
    pub(super) fn verifies(&self, version: u32) {
        let file = self.file(version).display().to_string();
        answer(&self.offline.run(&[
            "key-set",
            "verify",
            "--key-set",
            &file,
            "--trust-root",
            &self.root_digest,
        ]));
    }
}

pub(super) fn time(seconds: i64) -> Timestamp {
    Timestamp::from_unix(seconds).unwrap()
}
