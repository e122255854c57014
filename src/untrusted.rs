//! Every parser that strangers reach, as functions on bytes: what is fuzzed, and what a test runs over the corpus.
//!
//! Each function may refuse its bytes, and must not panic, hang, or believe what nobody signed: where it can tell, it
//! checks that itself.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use serde::Deserialize;
use token_authority_verifier::{KeySet, SignedManifest, SignedRoot, Unverified, Verifier};

use crate::activation::{ActivationProof, PublicKeyJwk};
use crate::domain::ids::InstanceId;
use crate::http::admin::imports::untrusted as imports;
use crate::http::admin::page::Page;
use crate::http::graphql;
use crate::issuing::ClientAssertion;
use crate::keystore::sealing::LocalKek;
use crate::keystore::{Keystore, generate_digest_key};
use crate::storage::events::EventPlace;

/// A parser that strangers reach.
#[derive(Clone, Copy, Debug)]
pub struct Entrance {
    /// The name of its corpus and of its fuzz target.
    pub name: &'static str,
    /// Reads what a stranger sent.
    pub read: fn(&[u8]),
}

/// All of them.
pub const ENTRANCES: &[Entrance] = &[
    Entrance { name: "activation_proof", read: activation_proof },
    Entrance { name: "client_assertion", read: client_assertion },
    Entrance { name: "graphql", read: graphql },
    Entrance { name: "import", read: import },
    Entrance { name: "manifest", read: manifest },
    Entrance { name: "page_token", read: page_token },
    Entrance { name: "token", read: token },
];

/// A token that a backend is shown. One that is believed is the one that was signed, to the last letter.
fn token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let text = text.trim_end();
    drop(Unverified::decode(text));
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    if VERIFIER.verify(text, now).is_ok() {
        for place in [0, text.len() / 2, text.len() - 1] {
            let mut other = text.as_bytes().to_vec();
            other[place] = if other[place] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap_or_default();
            assert!(VERIFIER.verify(&other, now).is_err(), "another token is believed: {other}");
        }
    }
}

/// What an installation says to prove that it holds its key. A stranger's key proves nothing.
fn client_assertion(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Some(assertion) = ClientAssertion::parse(text.trim_end(), ISSUER, b"") else { return };
    assert!(!assertion.is_by(&[0; 32], now()), "a key of zeros proves anything");
    assert!(!assertion.is_by(&[1; 32], now()), "another key proves it");
    let _ = assertion.usage();
}

/// The part of an activation that brings a key, and the proof that it is held.
fn activation_proof(bytes: &[u8]) {
    #[derive(Deserialize)]
    struct Body {
        public_key: PublicKeyJwk,
        proof: String,
        instance_id: InstanceId,
    }
    let Ok(body) = serde_json::from_slice::<Body>(bytes) else { return };
    let check =
        |proof: &str| ActivationProof::check(&body.public_key, proof, ISSUER, body.instance_id, bytes, now());
    if check(&body.proof).is_ok() {
        assert!(check(&format!("{}A", body.proof)).is_err(), "another proof is believed");
    }
}

/// What older installations ask. Without a service behind it nothing is answered, and everything is judged: how deep
/// and how costly it is, and whether the schema knows it.
fn graphql(bytes: &[u8]) {
    let Ok(request) = serde_json::from_slice::<async_graphql::Request>(bytes) else { return };
    let answer = graphql::schema().execute(request).now_or_never();
    assert!(answer.is_some(), "a question alone is waited for");
}

/// What an administrator's program sends by the line. However the bytes come in pieces, the lines are the same.
fn import(bytes: &[u8]) {
    let read = |piece| RUNTIME.block_on(imports::read(bytes, piece));
    let whole = read(bytes.len());
    for piece in [7, 64] {
        assert_eq!(read(piece), whole, "in pieces of {piece}");
    }
}

/// What a backend's build takes in from a repository or a mirror. Nobody signed what comes from here.
fn manifest(bytes: &[u8]) {
    drop(KeySet::parse(bytes));
    drop(SignedManifest::parse(bytes));
    drop(SignedRoot::parse(bytes));
}

/// What a caller gives back to read on. Only what this service sealed opens, and only for its own list.
fn page_token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let text = text.trim_end();
    assert!(Page::<EventPlace>::open(&KEYSTORE, b"list", text).is_none(), "a token of nobody opens");
    assert!(Page::<uuid::Uuid>::open(&KEYSTORE, b"", text).is_none(), "a token of nobody opens");
    let _ = text.parse::<EventPlace>();
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(i64::try_from(NOW).unwrap_or(0), 0).unwrap_or_default()
}

/// When the tokens of the corpus are of now.
const NOW: u64 = 1_798_761_600;
const ISSUER: &str = "https://authority.example.com";

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime"));

static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| {
    let keys =
        KeySet::parse(include_bytes!("../verifier/tests/vectors/jwks.json")).expect("the set of the vectors");
    Verifier::from_key_set(&keys, ISSUER, "gitlab-ai-gateway")
});

/// Another one in each process: nothing in the corpus can have been sealed by it.
static KEYSTORE: LazyLock<Keystore> = LazyLock::new(|| {
    let kek = Arc::new(LocalKek::new(&[7; 32]).expect("32 bytes"));
    let digest_key = generate_digest_key(&*kek, "fuzzing").expect("randomness");
    Keystore::open(kek, &digest_key).expect("sealed by the same key")
});
