//! Real builds of a backend, by Cargo: what stops them, and the sentence that they end with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;
use token_authority_verifier::build::{Folder, Published, Trust};
use token_authority_verifier::{Denial, Lock, Manifest, Root, SignedManifest, SignedRoot};

use crate::embedding::{policy, published, root_trust, version};
use crate::fixture::{AUDIENCE, DAY, ENVIRONMENT, Keys, NOW, sign_by, time, timestamp};

#[test]
fn cargo_ends_each_build_that_must_not_be_with_a_sentence() {
    let keys = Keys::new();
    let backend = Backend::new();
    let seven = published(&keys, version(&keys, 7)).check(&root_trust(&keys), &policy()).unwrap();

    // 1. What is right is built, in production too.
    seven.folder.write(&backend.keys()).unwrap();
    let built = backend.build(ENVIRONMENT, NOW);
    assert!(built.status.success(), "{}", said(&built));

    // 2. Nothing goes back: the lock has seen a newer set.
    backend.put("keyset.lock", &Lock { key_set_version: 8, ..seven.set.lock().clone() }.to_json());
    backend.fails(ENVIRONMENT, NOW, "key set 7 is older than the one in keyset.lock (8)");
    seven.folder.write(&backend.keys()).unwrap();

    // 3. Another environment's, and one that nobody has renewed.
    backend.fails(
        "production",
        NOW,
        "the key set is for the environment `example`, but this build is for `production`",
    );
    backend.fails(
        ENVIRONMENT,
        NOW + 90 * DAY,
        "key set 7 may be built with before 2027-04-01T00:00:00Z only",
    );

    // 4. A set that the root has not signed so.
    let parts = |manifest: Manifest| {
        let text = String::from_utf8(published(&keys, manifest).manifest).unwrap();
        let (payload, signatures) = text.split_once("\"signatures\"").unwrap();
        (payload.to_owned(), signatures.to_owned())
    };
    let (_, signatures) = parts(version(&keys, 7));
    let longer = Manifest { build_before: timestamp(NOW + 900 * DAY), ..version(&keys, 7) };
    backend.put("manifest.json", &format!("{}\"signatures\"{signatures}", parts(longer).0));
    backend.fails(ENVIRONMENT, NOW, "signature");
    seven.folder.write(&backend.keys()).unwrap();

    // 5. Only one key is left: the next rotation would lock this build out.
    let mut lonely = version(&keys, 7);
    for kid in [keys.standby.kid(), keys.short_lived.kid(), keys.elsewhere.kid(), keys.demoted.kid()] {
        lonely.denied.retain(|denial| denial.kid != kid);
        lonely.denied.push(Denial { kid, iat_after: None });
    }
    lonely.denied.sort();
    let lonely = sign_by(SignedManifest::new(lonely).unwrap(), &[&keys.root[0], &keys.root[1]]);
    backend.put("manifest.json", &lonely.to_canonical_json());
    backend.fails(
        ENVIRONMENT,
        NOW,
        "key set 7 holds 1 EdDSA keys that are neither denied nor ended, and needs two",
    );
    seven.folder.write(&backend.keys()).unwrap();

    // 6. A laptop's keys in a build with optimizations.
    for_development(&keys).write(&backend.keys()).unwrap();
    backend.fails(
        ENVIRONMENT,
        NOW,
        "the root of `example` was made for development, and this is not a development build",
    );

    // 7. After all that, the right set builds again.
    seven.folder.write(&backend.keys()).unwrap();
    let built = backend.build(ENVIRONMENT, NOW);
    assert!(built.status.success(), "{}", said(&built));
}

/// The same keys under a root that says of itself that it was made for development.
fn for_development(keys: &Keys) -> Folder {
    let root = Root { development: true, ..keys.root() };
    let root = sign_by(SignedRoot::new(root).unwrap(), &[&keys.root[0], &keys.root[1]]);
    let manifest: Manifest = version(keys, 7);
    let set = Published { roots: vec![root.to_canonical_json().into_bytes()], ..published(keys, manifest) };
    let policy =
        token_authority_verifier::build::Policy { allow_development: true, now: time(NOW), ..policy() };
    set.check(&Trust::Root(root.digest()), &policy).unwrap().folder
}

/// A package as a backend team has it, with a build script of four lines.
struct Backend {
    folder: TempDir,
}

impl Backend {
    fn new() -> Self {
        let backend = Self { folder: tempfile::tempdir().unwrap() };
        let verifier = Path::new(env!("CARGO_MANIFEST_DIR"));
        let manifest = format!(
            "[package]\nname = \"backend\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[workspace]\n\
             [build-dependencies]\ntoken-authority-verifier = {{ path = {verifier:?}, features = [\"build\"] }}\n"
        );
        let script = format!(
            "fn main() {{\n    println!(\"cargo::rerun-if-env-changed=ENVIRONMENT\");\n    \
             token_authority_verifier::build::BuildScript::new(\"keys\")\n        \
             .environment(std::env::var(\"ENVIRONMENT\").unwrap())\n        .audience({AUDIENCE:?})\n        \
             .run();\n}}\n"
        );
        let write = |name: &str, text: &str| fs::write(backend.folder.path().join(name), text).unwrap();
        fs::create_dir(backend.folder.path().join("src")).unwrap();
        write("Cargo.toml", &manifest);
        write("build.rs", &script);
        write("src/main.rs", "fn main() {}\n");
        // The versions that this workspace is built with, which are here already.
        fs::copy(verifier.join("../Cargo.lock"), backend.folder.path().join("Cargo.lock")).unwrap();
        backend
    }

    fn keys(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    fn put(&self, name: &str, text: &str) {
        fs::write(self.keys().join(name), text).unwrap();
    }

    /// `cargo build --release`, as a pipeline of that environment runs it at that time.
    fn build(&self, environment: &str, now: i64) -> Output {
        Command::new(env!("CARGO"))
            .args(["build", "--release", "--offline", "--target-dir"])
            .arg(Path::new(env!("CARGO_TARGET_TMPDIR")).join("backend"))
            .current_dir(self.folder.path())
            .env("ENVIRONMENT", environment)
            .env("SOURCE_DATE_EPOCH", now.to_string())
            // What is set for the build of this test is not meant for that of the backend.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    #[track_caller]
    fn fails(&self, environment: &str, now: i64, sentence: &str) {
        let output = self.build(environment, now);
        let said = said(&output);
        assert!(!output.status.success(), "it was built, without: {sentence}");
        let line = said.lines().find(|line| line.starts_with("error: backend@0.1.0: "));
        assert!(line.is_some_and(|line| line.contains(sentence)), "{sentence}\n{said}");
        assert!(!said.contains("panicked"), "{said}");
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
