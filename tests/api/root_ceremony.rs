//! The key-set root as its holders use it: keys, drafts and signatures on machines that have no service.

mod attacks;
mod holders;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use self::holders::{Chain, ENVIRONMENT, ISSUER, Offline};
use crate::support::program::{answer, complaint};

#[test]
fn two_of_three_holders_sign_a_root_and_a_key_set_without_a_service() {
    let offline = Offline::new();
    let holders = ["alice", "bob", "carol"].map(|name| offline.holder(name));
    let draft = offline.create(&holders, 2, "1.root.json");
    assert_eq!(draft["document"]["signatures"], Value::Null);
    assert_eq!(draft["signatures"][0]["needed"], 2);

    // One after the other, in one file.
    let first = offline.sign("1.root.json", &holders[0], &[]);
    assert_eq!(first["document"]["signatures"][0]["needed"], 1);
    let second = offline.sign("1.root.json", &holders[1], &[]);
    assert_eq!(second["document"]["signatures"][0]["needed"], 0);
    let chain = Chain::publish(&offline, "1.root.json");

    // Each a copy of its own, merged.
    chain.draft(1, "a.json");
    fs::copy(offline.path("a.json"), offline.path("b.json")).unwrap();
    let signed = offline.sign("a.json", &holders[0], &chain.published());
    let changes = signed["changes"].as_array().unwrap();
    assert!(changes.iter().any(|change| change.as_str().unwrap().starts_with("new key ")), "{changes:?}");
    let trust = ["--trust-root", chain.root_digest()];
    offline.sign("b.json", &holders[2], &[chain.published().as_slice(), &trust].concat());
    let merged =
        answer(&offline.run(&["keys", "root", "merge", "a.json", "b.json", "--out", "1.manifest.json"]));
    assert_eq!(merged["claimed_by"].as_array().map(Vec::len), Some(2));
    let shown = answer(
        &offline
            .run(&[&["keys", "root", "show", "1.manifest.json"][..], &chain.published(), &trust].concat()),
    );
    assert_eq!(shown["document"]["signatures"][0]["needed"], 0, "{shown}");
    chain.take(1, "1.manifest.json");
    chain.verifies(1);
}

#[test]
fn a_holder_is_asked_first_and_signing_again_changes_nothing() {
    let offline = Offline::new();
    let alice = offline.holder("alice");
    offline.create(std::slice::from_ref(&alice), 1, "1.root.json");
    let before = fs::read(offline.path("1.root.json")).unwrap();
    let silent = offline.run(&["keys", "root", "sign", "1.root.json", "--key", &alice]);
    assert_eq!(silent.status.code(), Some(1));
    assert!(complaint(&silent).contains("say `--yes`"), "{}", complaint(&silent));
    assert!(complaint(&silent).contains("1 of 1 keys have to sign"), "{}", complaint(&silent));
    assert_eq!(fs::read(offline.path("1.root.json")).unwrap(), before);
    assert!(!offline.path("alice.signed.json").exists(), "nothing was signed, nothing is remembered");

    offline.sign("1.root.json", &alice, &[]);
    let signed = fs::read(offline.path("1.root.json")).unwrap();
    assert_ne!(signed, before);
    offline.sign("1.root.json", &alice, &[]);
    assert_eq!(fs::read(offline.path("1.root.json")).unwrap(), signed);
}

#[test]
fn a_key_signs_only_the_next_document_of_its_chain() {
    let offline = Offline::new();
    let alice = offline.holder("alice");
    offline.create(std::slice::from_ref(&alice), 1, "1.root.json");
    offline.sign("1.root.json", &alice, &[]);
    let chain = Chain::publish(&offline, "1.root.json");
    let refused = |file: &str, more: &[&str], reason: &str| {
        let before = fs::read(offline.path(file)).unwrap();
        let output = offline.try_sign(file, &alice, &[chain.published().as_slice(), more].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(complaint(&output).contains(reason), "{}", complaint(&output));
        assert_eq!(fs::read(offline.path(file)).unwrap(), before, "nothing is lost");
    };

    chain.draft(2, "skips.json");
    refused("skips.json", &[], "the next manifest is 1, not 2");
    chain.draft(1, "one.json");
    offline.sign("one.json", &alice, &chain.published());
    chain.draft_with(1, "fork.json", |manifest| manifest.max_token_ttl = 3_600);
    refused("fork.json", &[], "has signed another manifest 1");

    // Signed, but given up before it was published: the one way back, and it names what is given up.
    let given_up = chain.digest_of("one.json");
    refused("fork.json", &["--instead-of", chain.root_digest()], "has signed another manifest 1");
    offline.sign("fork.json", &alice, &[chain.published().as_slice(), &["--instead-of", &given_up]].concat());
    chain.take(1, "fork.json");

    chain.draft(1, "again.json");
    refused("again.json", &[], "the next manifest is 2, not 1");
    chain.draft(2, "two.json");
    offline.sign("two.json", &alice, &chain.published());
    chain.take(2, "two.json");
    chain.draft(3, "three.json");
    offline.sign("three.json", &alice, &chain.published());

    // An old copy of what was published is told apart from the present.
    fs::remove_file(chain.file(2)).unwrap();
    chain.draft_on(1, 2, "old.json");
    refused("old.json", &[], "it is an old copy");
}

#[test]
fn a_damaged_memory_a_stranger_and_a_key_without_trust_sign_nothing() {
    let offline = Offline::new();
    let [alice, bob, mallory] = ["alice", "bob", "mallory"].map(|name| offline.holder(name));
    offline.create(&[alice.clone(), bob.clone()], 1, "1.root.json");
    offline.sign("1.root.json", &alice, &[]);
    let chain = Chain::publish(&offline, "1.root.json");
    chain.draft(1, "one.json");
    let refused = |key: &str, more: &[&str], reason: &str| {
        let output = offline.try_sign("one.json", key, &[chain.published().as_slice(), more].concat());
        assert!(complaint(&output).contains(reason), "{}", complaint(&output));
    };
    let trust = ["--trust-root", chain.root_digest()];
    refused(&bob, &[], "name the digest of a root that you trust");
    let other = format!("sha256:{}", "0".repeat(64));
    refused(&bob, &["--trust-root", &other], "no root in");
    refused(&mallory, &trust, "is none of the root's");
    fs::write(offline.path("alice.signed.json"), "{").unwrap();
    refused(&alice, &trust, "is damaged");
    offline.sign("one.json", &bob, &[chain.published().as_slice(), &trust].concat());
}

#[test]
fn the_root_changes_hands_by_both_thresholds() {
    let offline = Offline::new();
    let [alice, bob, carol, dave] = ["alice", "bob", "carol", "dave"].map(|name| offline.holder(name));
    offline.create(&[alice.clone(), bob.clone()], 2, "1.root.json");
    offline.sign("1.root.json", &alice, &[]);
    offline.sign("1.root.json", &bob, &[]);
    let chain = Chain::publish(&offline, "1.root.json");

    // Bob's key is lost: it takes carol's and dave's place while both old ones still sign.
    offline.rotate(&chain, &[alice.clone(), carol.clone(), dave.clone()], 2, "2.root.json");
    let trust = [chain.published().as_slice(), &["--trust-root", chain.root_digest()]].concat();
    offline.sign("2.root.json", &alice, &chain.published());
    let by_carol = offline.sign("2.root.json", &carol, &trust);
    let needed: Vec<_> = by_carol["document"]["signatures"]
        .as_array()
        .unwrap()
        .iter()
        .map(|standing| standing["needed"].as_u64().unwrap())
        .collect();
    assert_eq!(needed, [1, 0], "one of the old root, none of the new");
    assert_eq!(offline.try_publish_root(&chain, 2, "2.root.json"), None, "bob's consent lacks");
    offline.sign("2.root.json", &bob, &chain.published());
    assert_eq!(offline.try_publish_root(&chain, 2, "2.root.json"), Some(2));

    // From then on the new root signs, and the old one does not.
    chain.draft(1, "old.json");
    let old = offline.try_sign("old.json", &alice, &chain.published());
    assert!(
        complaint(&old).contains("root 2 is published; the manifest names root 1"),
        "{}",
        complaint(&old)
    );
    chain.draft_with(1, "new.json", |manifest| manifest.root_version = 2);
    let by_bob = offline.try_sign("new.json", &bob, &chain.published());
    assert!(complaint(&by_bob).contains("is none of the root's"), "{}", complaint(&by_bob));
    offline.sign("new.json", &carol, &chain.published());
    offline.sign("new.json", &dave, &trust);
    chain.take(1, "new.json");
    chain.verifies(1);
}

#[test]
fn wrong_usage_is_told_and_no_private_half_is_shown_or_overwritten() {
    let offline = Offline::new();
    let alice = offline.holder("alice");
    let pem = fs::read_to_string(&alice).unwrap();
    let again = offline.run(&["keys", "root", "new-key", &alice]);
    assert!(complaint(&again).contains("never overwritten"), "{}", complaint(&again));
    assert_eq!(fs::read_to_string(&alice).unwrap(), pem);

    let public = format!("{alice}.pub.json");
    let create = |threshold: &str, holders: &[&str]| {
        let mut arguments = vec!["keys", "root", "create", "--issuer", ISSUER, "--environment", ENVIRONMENT];
        arguments.extend(["--threshold", threshold, "--out", "x.json"]);
        arguments.extend(holders.iter().flat_map(|holder| ["--holder", holder]));
        offline.run(&arguments)
    };
    for (threshold, holders, reason) in [
        ("0", vec![public.as_str()], "the threshold must be from 1"),
        ("2", vec![public.as_str()], "the threshold must be from 1"),
        ("1", vec![public.as_str(), public.as_str()], "sorted by kid, each once"),
        ("1", vec![alice.as_str()], "cannot be taken for a key"),
    ] {
        let refusal = create(threshold, &holders);
        assert_eq!(refusal.status.code(), Some(1));
        assert!(complaint(&refusal).contains(reason), "{}", complaint(&refusal));
    }
    assert_eq!(create("1", &[]).status.code(), Some(2));
    assert!(!offline.path("x.json").exists());

    let secret = pem.lines().nth(1).unwrap();
    create("1", &[&public]);
    for arguments in [
        &["keys", "root", "show", "x.json"][..],
        &["keys", "root", "sign", "x.json", "--key", &alice, "--yes"],
        &["keys", "root", "new-key", "other", "--format", "table"],
    ] {
        let output = offline.run(arguments);
        assert!(output.status.success(), "{}", complaint(&output));
        let said = [output.stdout.as_slice(), &output.stderr].concat();
        assert!(!String::from_utf8(said).unwrap().contains(secret));
    }
}

fn run(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_token-authority"));
    // Nothing of a service: neither settings nor a database.
    command.args(arguments).env_clear().current_dir(folder);
    if !arguments.contains(&"--format") {
        command.args(["--format", "json"]);
    }
    command.output().unwrap()
}

fn in_folder(folder: &Path, name: &str) -> PathBuf {
    folder.join(name)
}
