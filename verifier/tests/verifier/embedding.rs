//! A key set on its way into a build: what is taken, what is refused, and that the bytes are always the same.

use std::path::Path;

use tempfile::TempDir;
use token_authority_verifier::build::{
    BuildScript, Embedding, EmbeddingError, Folder, Policy, Published, Trust,
};
use token_authority_verifier::{
    DenyList, DenyListEntry, Digest, KeySet, Lock, Manifest, ManifestError, Root, SignedManifest, SignedRoot,
    compact,
};

use crate::fixture::{AUDIENCE, DAY, ENVIRONMENT, Key, Keys, NOW, claims, sign_by, time, timestamp};

pub(crate) fn policy() -> Policy {
    Policy { environment: None, audience: None, allow_development: false, now: time(NOW) }
}

pub(crate) fn published(keys: &Keys, manifest: Manifest) -> Published {
    let signed = sign_by(SignedManifest::new(manifest).unwrap(), &[&keys.root[0], &keys.root[2]]);
    Published {
        roots: vec![keys.signed_root().to_canonical_json().into_bytes()],
        manifest: signed.to_canonical_json().into_bytes(),
        jwks: keys.key_set().to_canonical_json().into_bytes(),
        deny_list: None,
    }
}

pub(crate) fn version(keys: &Keys, version: u32) -> Manifest {
    let prev = (version > 1).then(|| Digest::of(b"the one before"));
    Manifest { version, prev, ..keys.manifest() }
}

fn deny_list(keys: &Keys, serial: u64, created: i64, by: &Key) -> Vec<u8> {
    let until = timestamp(NOW + 300 * DAY);
    let list = DenyList {
        issuer: keys.manifest().issuer,
        environment: ENVIRONMENT.to_owned(),
        serial,
        created: timestamp(created),
        entries: vec![DenyListEntry { kid: keys.short_lived.kid(), iat_after: None, until }],
    };
    let input = list.signing_input(by.kid()).unwrap();
    let signature = by.sign(&input);
    compact(input, &signature).into_bytes()
}

pub(crate) fn root_trust(keys: &Keys) -> Trust {
    Trust::Root(keys.verified_root().digest())
}

fn locked(embedding: &Embedding) -> Trust {
    let deny_list = embedding.folder.embedded().deny_list.map(<[u8]>::to_vec);
    Trust::Lock { lock: embedding.set.lock().clone(), deny_list, manifest: None }
}

fn refused(outcome: Result<Embedding, EmbeddingError>) -> EmbeddingError {
    outcome.map(|embedding| embedding.set.lock().clone()).unwrap_err()
}

#[test]
fn the_first_embedding_trusts_a_named_root_and_the_next_goes_on_from_the_lock() {
    let keys = Keys::new();
    let first = published(&keys, version(&keys, 6)).check(&root_trust(&keys), &policy()).unwrap();
    let lock = first.set.lock();
    assert_eq!((lock.root_version, lock.key_set_version), (1, 6));
    assert_eq!(lock.key_set_digest, keys.key_set().digest());

    let next = published(&keys, version(&keys, 7)).check(&locked(&first), &policy()).unwrap();
    assert_eq!(next.set.lock().key_set_version, 7);
    let verifier = next.set.verifier(AUDIENCE, time(NOW)).unwrap();
    assert!(verifier.verify(&keys.active.mint(&claims()), time(NOW)).is_ok());

    let foreign = Trust::Root(Digest::of(b"another root"));
    let refusal = refused(published(&keys, version(&keys, 6)).check(&foreign, &policy()));
    assert!(matches!(refusal, EmbeddingError::RootUnknown { .. }), "{refusal}");
}

#[test]
fn nothing_goes_back_and_nothing_is_exchanged() {
    let keys = Keys::new();
    let seven = published(&keys, version(&keys, 7)).check(&root_trust(&keys), &policy()).unwrap();
    let six = published(&keys, version(&keys, 6));
    let refusal = refused(six.check(&locked(&seven), &policy()));
    assert!(matches!(refusal, EmbeddingError::Rollback { found: 6, locked: 7 }), "{refusal}");

    // The same number with other keys, signed by the real root.
    let smaller = KeySet::new([keys.active.public.clone(), keys.standby.public.clone()]).unwrap();
    let mut manifest = Manifest { jwks_sha256: smaller.digest(), ..version(&keys, 7) };
    manifest.keys.retain(|key| [keys.active.kid(), keys.standby.kid()].contains(&key.kid));
    let mut other = published(&keys, manifest);
    other.jwks = smaller.to_canonical_json().into_bytes();
    let refusal = refused(other.check(&locked(&seven), &policy()));
    assert!(matches!(refusal, EmbeddingError::Fork { version: 7, .. }), "{refusal}");

    let environment = "staging".to_owned();
    let policy = Policy { environment: Some(environment), ..policy() };
    let refusal = refused(published(&keys, version(&keys, 7)).check(&locked(&seven), &policy));
    assert!(refusal.to_string().contains("this build is for `staging`"), "{refusal}");
}

#[test]
fn what_the_root_has_not_signed_is_refused() {
    let keys = Keys::new();
    let trust = root_trust(&keys);
    let signed = |by: &[&Key]| {
        let manifest = sign_by(SignedManifest::new(version(&keys, 2)).unwrap(), by);
        let manifest = manifest.to_canonical_json().into_bytes();
        Published { manifest, ..published(&keys, version(&keys, 2)) }
    };
    for (by, reason) in [
        (vec![&keys.root[0]], "1 of the root's keys have signed, 2 must"),
        (vec![&keys.root[0], &keys.stranger], "1 of the root's keys have signed, 2 must"),
    ] {
        let refusal = refused(signed(&by).check(&trust, &policy()));
        assert!(refusal.to_string().contains(reason), "{refusal}");
    }
    let mut altered = published(&keys, version(&keys, 2));
    altered.jwks.push(b'\n');
    let refusal = refused(altered.check(&trust, &policy()));
    assert!(matches!(refusal, EmbeddingError::Manifest(ManifestError::Digest { .. })), "{refusal}");
}

#[test]
fn the_next_root_is_followed_and_none_may_be_left_out() {
    let keys = Keys::new();
    let next_root = |version: u32, by: &[&Key]| {
        let root = Root { version, ..keys.root() };
        sign_by(SignedRoot::new(root).unwrap(), by).to_canonical_json().into_bytes()
    };
    let both = [&keys.root[0], &keys.root[1]];
    let three = Manifest { root_version: 3, ..version(&keys, 2) };
    let mut source = published(&keys, three);
    source.roots.push(next_root(3, &both));
    let refusal = refused(source.check(&root_trust(&keys), &policy()));
    assert!(matches!(refusal, EmbeddingError::RootMissing(2)), "{refusal}");
    source.roots.push(next_root(2, &both));
    let embedding = source.check(&root_trust(&keys), &policy()).unwrap();
    assert_eq!(embedding.set.lock().root_version, 3);

    // From then on the older root counts for nothing.
    let old = published(&keys, version(&keys, 3));
    let refusal = refused(old.check(&locked(&embedding), &policy()));
    assert!(matches!(refusal, EmbeddingError::RootUnknown { .. }), "{refusal}");
}

#[test]
fn a_set_without_a_standby_is_refused() {
    let keys = Keys::new();
    let trust = root_trust(&keys);
    let mut manifest = version(&keys, 2);
    for kid in [keys.standby.kid(), keys.short_lived.kid(), keys.elsewhere.kid(), keys.demoted.kid()] {
        manifest.denied.retain(|denial| denial.kid != kid);
        manifest.denied.push(token_authority_verifier::Denial { kid, iat_after: None });
    }
    manifest.denied.sort();
    let refusal = refused(published(&keys, manifest).check(&trust, &policy()));
    assert!(matches!(refusal, EmbeddingError::TooFewKeys { usable: 1, .. }), "{refusal}");

    // A key that has ended is none, nor is one for others.
    let alone = |kept: [&Key; 2]| {
        let set = KeySet::new(kept.map(|key| key.public.clone())).unwrap();
        let mut manifest = Manifest { jwks_sha256: set.digest(), ..version(&keys, 2) };
        manifest.keys.retain(|key| set.find(key.kid).is_some());
        Published { jwks: set.to_canonical_json().into_bytes(), ..published(&keys, manifest) }
    };
    let pair = alone([&keys.active, &keys.short_lived]);
    assert!(pair.check(&trust, &policy()).is_ok());
    let refusal = refused(pair.check(&trust, &Policy { now: time(NOW + DAY), ..policy() }));
    assert!(matches!(refusal, EmbeddingError::TooFewKeys { usable: 1, .. }), "{refusal}");
    let ours = Policy { audience: Some(AUDIENCE.to_owned()), ..policy() };
    let refusal = refused(alone([&keys.active, &keys.elsewhere]).check(&trust, &ours));
    assert!(matches!(refusal, EmbeddingError::TooFewKeys { usable: 1, .. }), "{refusal}");
    let nobody = Policy { audience: Some("nobody".to_owned()), ..policy() };
    let refusal = refused(alone([&keys.active, &keys.elsewhere]).check(&trust, &nobody));
    assert!(matches!(refusal, EmbeddingError::Audience(_)), "{refusal}");
}

#[test]
fn a_stale_set_and_a_root_for_development_are_refused() {
    let keys = Keys::new();
    let set = published(&keys, version(&keys, 2));
    let at = |now: i64| set.check(&root_trust(&keys), &Policy { now: time(now), ..policy() });
    assert!(at(NOW + 90 * DAY - 1).is_ok());
    assert!(matches!(refused(at(NOW + 90 * DAY)), EmbeddingError::Stale { version: 2, .. }));

    let root = Root { development: true, ..keys.root() };
    let root = sign_by(SignedRoot::new(root).unwrap(), &[&keys.root[0], &keys.root[1]]);
    let roots = vec![root.to_canonical_json().into_bytes()];
    let trust = Trust::Root(root.digest());
    let set = Published { roots, ..set };
    let refusal = refused(set.check(&trust, &policy()));
    assert!(matches!(refusal, EmbeddingError::Development { .. }), "{refusal}");
    assert!(set.check(&trust, &Policy { allow_development: true, ..policy() }).is_ok());
}

#[test]
fn the_latest_deny_list_comes_along_and_never_goes_back() {
    let keys = Keys::new();
    let with = |deny_list| Published { deny_list, ..published(&keys, version(&keys, 2)) };
    let list = |serial, created| Some(deny_list(&keys, serial, created, &keys.deny_list));
    let first = with(list(4, NOW)).check(&root_trust(&keys), &policy()).unwrap();
    assert_eq!(first.set.lock().deny_list_serial, Some(4));
    let verifier = first.set.verifier(AUDIENCE, time(NOW)).unwrap();
    let refusal = verifier.verify(&keys.short_lived.mint(&claims()), time(NOW)).unwrap_err();
    assert_eq!(refusal.code(), "key_denied");

    let refusal = refused(with(None).check(&locked(&first), &policy()));
    assert!(matches!(refusal, EmbeddingError::DenyListMissing(4)), "{refusal}");
    let refusal = refused(with(list(3, NOW)).check(&locked(&first), &policy()));
    assert!(matches!(refusal, EmbeddingError::DenyListRollback { found: 3, locked: 4 }), "{refusal}");
    let forged = Some(deny_list(&keys, 9, NOW, &keys.active));
    let refusal = refused(with(forged).check(&locked(&first), &policy()));
    assert!(matches!(refusal, EmbeddingError::DenyList(_)), "{refusal}");

    // Signed anew without a change, the embedded one stays, byte for byte.
    let again = with(list(4, NOW + 3600)).check(&locked(&first), &policy()).unwrap();
    assert!(again.folder.files().eq(first.folder.files()));
    let later = with(list(5, NOW)).check(&locked(&first), &policy()).unwrap();
    assert_eq!(later.set.lock().deny_list_serial, Some(5));
}

#[test]
fn two_embeddings_write_the_same_bytes_and_the_second_changes_nothing() {
    let keys = Keys::new();
    let source = published(&keys, version(&keys, 2));
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let embed = |into: &Path, now: i64| {
        let policy = Policy { now: time(now), ..policy() };
        source.check(&root_trust(&keys), &policy).unwrap().folder.write(into).unwrap()
    };
    assert_eq!(embed(one.path(), NOW), ["root.json", "manifest.json", "jwks.json", "keyset.lock"]);
    embed(two.path(), NOW + 80 * DAY);
    let read = |folder: &Path| {
        let folder = Folder::read(folder).unwrap();
        folder.files().map(|(name, bytes)| (name, bytes.to_vec())).collect::<Vec<_>>()
    };
    assert_eq!(read(one.path()), read(two.path()));
    assert_eq!(embed(one.path(), NOW), [""; 0]);
}

#[test]
fn a_published_folder_is_read_by_its_highest_number() {
    let keys = Keys::new();
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("root")).unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let nothing = Published::read(folder.path(), None).map(|_| ()).unwrap_err().to_string();
    assert!(nothing.contains("there is no 0001.manifest.json in"), "{nothing}");
    for number in [2, 10] {
        let set = published(&keys, version(&keys, number));
        write(&format!("{number:04}.manifest.json"), &set.manifest);
        write(&format!("{number:04}.jwks.json"), &set.jwks);
        write("root/1.root.json", &set.roots[0]);
    }
    let read = |version| {
        let embedding = Published::read(folder.path(), version).unwrap().check(&root_trust(&keys), &policy());
        embedding.unwrap().set.lock().key_set_version
    };
    assert_eq!((read(None), read(Some(2))), (10, 2));
}

/// What a build script does, in the words that the build fails with.
#[test]
fn a_build_fails_with_a_sentence() {
    let keys = Keys::new();
    let (folder, out) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let embedding = published(&keys, version(&keys, 7)).check(&root_trust(&keys), &policy()).unwrap();
    embedding.folder.write(folder.path()).unwrap();
    let contract = folder.path().join("contract.json");
    std::fs::write(&contract, r#"{"backend":"ai_gateway","unit_primitives":["ask_epic","duo_chat"]}"#)
        .unwrap();
    let script = || {
        let script = BuildScript::new(folder.path()).environment(ENVIRONMENT).audience(AUDIENCE);
        script.contract(&contract)
    };
    let build = |script: BuildScript, now: i64| script.write(out.path(), true, time(now));
    let told = |script: BuildScript, now: i64| build(script, now).unwrap_err().to_string();

    build(script(), NOW).unwrap();
    let code = std::fs::read_to_string(out.path().join("key_set.rs")).unwrap();
    for part in [
        "pub(crate) static KEY_SET",
        "pub(crate) const BACKEND: &str = \"ai_gateway\"",
        "DUO_CHAT: &str = \"duo_chat\"",
    ] {
        assert!(code.contains(part), "{code}");
    }
    let compiled_in = Folder::read(&out.path().join("key_set")).unwrap();
    assert!(compiled_in.files().eq(embedding.folder.files()));

    assert!(told(script().environment("production"), NOW).contains("is for the environment `example`, but"));
    assert!(told(script(), NOW + 90 * DAY).contains("may be built with before"));
    let lock = |change: &dyn Fn(&mut Lock)| {
        let mut lock = embedding.set.lock().clone();
        change(&mut lock);
        std::fs::write(folder.path().join("keyset.lock"), lock.to_json()).unwrap();
    };
    lock(&|lock| lock.key_set_version = 8);
    assert!(told(script(), NOW).contains("key set 7 is older than the one in keyset.lock (8)"));
    lock(&|lock| lock.root_digest = Digest::of(b"another"));
    assert!(told(script(), NOW).contains("the root's digest is sha256:"));
    std::fs::remove_file(folder.path().join("keyset.lock")).unwrap();
    assert!(told(script(), NOW).contains("there is no keyset.lock"));
    lock(&|_| {});
    std::fs::write(&contract, "[]").unwrap();
    assert!(told(script(), NOW).contains("not a contract"));
}
