//! Makes the vectors: what a verifier must accept and refuse, for every language.

mod claims_cases;
mod deny_list_cases;
mod document_cases;
mod header_cases;
mod key_cases;
mod rs256_cases;
mod signature_cases;
mod text_cases;
mod time_cases;

use serde::Serialize;
use token_authority_verifier::{Claims, Digest};

use crate::fixture::{AUDIENCE, ISSUER, Key, Keys, NOW, claims};

/// The files of tokens, one per part of a token that can be wrong.
pub(crate) const TOKEN_FILES: [&str; 6] =
    ["claims.json", "headers.json", "keys.json", "signatures.json", "text.json", "times.json"];

/// Every file with its content.
pub(crate) fn files() -> Vec<(&'static str, String)> {
    let keys = Keys::new();
    vec![
        ("claims.json", tokens("what a token says", claims_cases::cases(&keys))),
        ("deny_lists.json", pretty(&deny_list_cases::deny_lists(&keys))),
        ("headers.json", tokens("what its header says", header_cases::cases(&keys))),
        ("jwks.json", keys.key_set().to_canonical_json()),
        ("key_sets.json", pretty(&document_cases::key_sets(&keys))),
        ("keys.json", tokens("the key that it names", key_cases::cases(&keys))),
        ("manifest.json", keys.signed_manifest().to_canonical_json()),
        ("manifests.json", pretty(&document_cases::manifests(&keys))),
        ("root.json", keys.signed_root().to_canonical_json()),
        ("rs256.json", tokens("the RSA key or algorithm, beside rs256_jwks.json", rs256_cases::cases(&keys))),
        ("rs256_jwks.json", rs256_cases::key_set(&keys).to_canonical_json()),
        ("setup.json", pretty(&setup(&keys))),
        ("signatures.json", tokens("its signature", signature_cases::cases(&keys))),
        ("text.json", tokens("its text, before anything is decoded", text_cases::cases(&keys))),
        ("times.json", tokens("the time at which it is shown", time_cases::cases(&keys))),
    ]
}

#[derive(Serialize)]
struct Setup {
    issuer: &'static str,
    audience: &'static str,
    now: i64,
    leeway: u32,
    max_token_ttl: u32,
    max_token_bytes: u32,
    root_digest: Digest,
}

fn setup(keys: &Keys) -> Setup {
    Setup {
        issuer: ISSUER,
        audience: AUDIENCE,
        now: NOW,
        leeway: 30,
        max_token_ttl: 259_200,
        max_token_bytes: 8_192,
        root_digest: keys.signed_root().digest(),
    }
}

#[derive(Serialize)]
struct Tokens {
    about: String,
    cases: Vec<Case>,
}

fn tokens(about: &str, cases: Vec<Case>) -> String {
    pretty(&Tokens { about: format!("Tokens that differ in {about}. See README.md."), cases })
}

fn pretty<T: Serialize>(document: &T) -> String {
    serde_json::to_string_pretty(document).unwrap() + "\n"
}

/// One token, and what a verifier must say to it.
#[derive(Clone, Serialize)]
pub(crate) struct Case {
    name: String,
    /// Which knowledge the verdict needs: `key_set`, `manifest`, or `any` of them.
    trust: &'static str,
    now: i64,
    token: String,
    expect: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    claims: Option<Claims>,
}

impl Case {
    fn refused(name: &str, token: impl Into<String>, code: &str) -> Self {
        Self {
            name: name.to_owned(),
            trust: "any",
            now: NOW,
            token: token.into(),
            expect: code.to_owned(),
            claims: None,
        }
    }

    fn accepted(name: &str, token: impl Into<String>, claims: Claims) -> Self {
        Self { claims: Some(claims), ..Self::refused(name, token, "valid") }
    }

    fn by(self, trust: &'static str) -> Self {
        Self { trust, ..self }
    }

    fn at(self, now: i64) -> Self {
        Self { now, ..self }
    }
}

/// A payload as the issuer writes it.
fn payload() -> String {
    serde_json::to_string(&claims()).unwrap()
}

/// The good token with one claim replaced by other JSON text.
fn with_claim(key: &Key, name: &str, json: &str) -> String {
    let mut value = serde_json::to_value(claims()).unwrap();
    value[name] = serde_json::Value::String("@".to_owned());
    key.token(&value.to_string().replace(r#""@""#, json))
}
