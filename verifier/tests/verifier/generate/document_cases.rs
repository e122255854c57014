//! Key sets and manifests that must not be taken.

use curve25519_dalek::constants::EIGHT_TORSION;
use serde::Serialize;
use serde_json::{Value, json};
use token_authority_verifier::{Jwk, Timestamp};

use crate::fixture::{Key, Keys, NOW};
use crate::forge::encode;

#[derive(Serialize)]
pub(crate) struct Documents {
    about: &'static str,
    cases: Vec<Document>,
}

#[derive(Serialize)]
struct Document {
    name: String,
    document: String,
    accepted: bool,
}

fn document(name: impl Into<String>, document: impl Into<String>, accepted: bool) -> Document {
    Document { name: name.into(), document: document.into(), accepted }
}

pub(crate) fn key_sets(keys: &Keys) -> Documents {
    let good = value(&keys.active.public);
    let set = |keys: Value| json!({ "keys": keys }).to_string();
    let changed = |member: &str, to: Value| {
        let mut key = good.clone();
        key[member] = to;
        set(json!([key]))
    };
    let mut cases = vec![
        document("one key", set(json!([good])), true),
        document("unknown members", json!({"keys": [good], "extra": 1}).to_string(), true),
        document("an unknown member of a key", changed("ext", json!(true)), true),
        document("the order of keys does not matter", set(json!([value(&keys.standby.public), good])), true),
        document("no key", set(json!([])), false),
        document("no keys member", json!({}).to_string(), false),
        document("an array", json!([good]).to_string(), false),
        document("something behind", set(json!([good])) + "x", false),
        document("a key twice", set(json!([good, good])), false),
        document("keys twice", format!(r#"{{"keys":[{good}],"keys":[{good}]}}"#), false),
        document("65 keys", set(many_keys()), false),
        document("70 000 bytes", set(json!([good])) + &" ".repeat(70_000), false),
        document("a private member", changed("d", json!(encode([7; 32]))), false),
        document(
            "a symmetric key",
            set(json!([{"kty": "oct", "k": "AAAA", "alg": "HS256", "kid": "1", "use": "sig"}])),
            false,
        ),
        document(
            "an RSA key",
            set(json!([{"kty": "RSA", "n": "AQAB", "e": "AQAB", "alg": "RS256", "kid": "1", "use": "sig"}])),
            false,
        ),
        document("another curve", changed("crv", json!("X25519")), false),
        document("another algorithm", changed("alg", json!("HS256")), false),
        document("another use", changed("use", json!("enc")), false),
        document("another kid", changed("kid", json!(keys.standby.kid())), false),
        document("a kid that is no thumbprint", changed("kid", json!("key-1")), false),
        document("31 bytes", with_point(&[9; 31]), false),
        document("33 bytes", with_point(&[9; 33]), false),
        document(
            "no point of the curve",
            with_point(&[
                2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
                0,
            ]),
            false,
        ),
        document(
            "a padded x",
            changed("x", json!(format!("{}=", encode(keys.active.public.ed25519_public().unwrap())))),
            false,
        ),
        document(
            "a member twice",
            set(json!([good])).replacen("\"kty\":", "\"kty\":\"OKP\",\"kty\":", 1),
            false,
        ),
    ];
    for member in ["kty", "crv", "x", "alg", "use", "kid"] {
        let mut key = good.clone();
        key.as_object_mut().unwrap().remove(member);
        cases.push(document(format!("{member} missing"), set(json!([key])), false));
        cases.push(document(format!("{member} a number"), changed(member, json!(7)), false));
    }
    for (index, point) in EIGHT_TORSION.iter().enumerate() {
        let bytes = point.compress().to_bytes();
        cases.push(document(format!("small order, point {index}"), with_point(&bytes), false));
    }
    Documents {
        about: "Key sets that a verifier must take or refuse. A set is refused whole. See README.md.",
        cases,
    }
}

pub(crate) fn manifests(keys: &Keys) -> Documents {
    let [one, two, three] = &keys.root;
    let good = serde_json::to_value(keys.manifest()).unwrap();
    let changed = |member: &str, to: Value| {
        let mut manifest = good.clone();
        manifest[member] = to;
        sign(&canonical(&manifest), &[one, two])
    };
    let text = canonical(&good);
    let mut cases = vec![
        document("signed by two of three", sign(&text, &[one, two]), true),
        document("signed by all three", sign(&text, &[one, two, three]), true),
        document("signed by two, and by a stranger", sign(&text, &[one, two, &keys.stranger]), true),
        document("not signed", sign(&text, &[]), false),
        document("signed by one", sign(&text, &[one]), false),
        document("signed twice by one", sign(&text, &[one, one]), false),
        document("signed by one and by a stranger", sign(&text, &[one, &keys.stranger]), false),
        document("signed by access-token keys", sign(&text, &[&keys.active, &keys.standby]), false),
        document("a wrong signature beside two right ones", with_wrong_third(keys, &text), false),
        document("typ of a root", sign_as(&text, &[one, two], "key-set-root+jws"), false),
        document("typ of a token", sign_as(&text, &[one, two], "at+jwt"), false),
        document(
            "a header in another order",
            sign_with(&text, &[one, two], |kid| {
                format!(r#"{{"typ":"key-set-manifest+jws","alg":"EdDSA","kid":"{kid}"}}"#)
            }),
            false,
        ),
        document(
            "a header with a jwk",
            sign_with(&text, &[one, two], |kid| {
                format!(r#"{{"alg":"EdDSA","jwk":{{}},"kid":"{kid}","typ":"key-set-manifest+jws"}}"#)
            }),
            false,
        ),
        document(
            "alg none",
            sign_with(&text, &[one, two], |kid| {
                format!(r#"{{"alg":"none","kid":"{kid}","typ":"key-set-manifest+jws"}}"#)
            }),
            false,
        ),
        document("spaces in the payload", sign(&text.replace(',', ", "), &[one, two]), false),
        document("a line end behind the payload", sign(&format!("{text}\n"), &[one, two]), false),
        document(
            "members in another order",
            sign(&text.replacen('{', r#"{"version":1,"#, 1).replace(r#","version":1}"#, "}"), &[one, two]),
            false,
        ),
        document("a member twice", sign(&text.replacen('{', r#"{"version":1,"#, 1), &[one, two]), false),
        document("an unknown member", changed("not_before", json!("2027-01-01T00:00:00Z")), false),
        document("another issuer", changed("issuer", json!("https://authority.example.org")), false),
        document("another environment", changed("environment", json!("production")), false),
        document("another version of the root", changed("root_version", json!(2)), false),
        document("version 0", changed("version", json!(0)), false),
        document("version 1 with a predecessor", changed("prev", good["jwks_sha256"].clone()), false),
        document("version 2 without a predecessor", changed("version", json!(2)), false),
        document(
            "the digest of another set",
            changed("jwks_sha256", json!(format!("sha256:{}", "0".repeat(64)))),
            false,
        ),
        document(
            "a digest in capitals",
            changed("jwks_sha256", json!(good["jwks_sha256"].as_str().unwrap().to_uppercase())),
            false,
        ),
        document("a floor above the version", changed("min_deployable_version", json!(2)), false),
        document("a time with an offset", changed("created", json!("2026-12-31T00:00:00+00:00")), false),
        document("a time as a number", changed("created", json!(NOW)), false),
        document(
            "built before it was created",
            changed("build_before", json!(Timestamp::from_unix(0))),
            false,
        ),
        document("a life as a string", changed("max_token_ttl", json!("259200")), false),
        document("no life", changed("max_token_ttl", json!(0)), false),
        document("a leeway of an hour", changed("leeway", json!(3600)), false),
        document("no keys", changed("keys", json!([])), false),
        document("a key too few", changed("keys", json!(good["keys"].as_array().unwrap()[1..])), false),
        document("a key twice", changed("keys", doubled(&good["keys"])), false),
        document("keys out of order", changed("keys", reversed(&good["keys"])), false),
        document(
            "an unknown purpose",
            changed("keys", with_key(&good, "purpose", &json!("everything"))),
            false,
        ),
        document("an unknown algorithm", changed("keys", with_key(&good, "alg", &json!("none"))), false),
        document("no audience at all", changed("keys", with_key(&good, "audiences", &json!([]))), false),
        document("an unknown member of a key", changed("keys", with_key(&good, "x", &json!(1))), false),
        document("a key denied twice", changed("denied", doubled(&good["denied"])), false),
        document("empty", "", false),
        document("no JWS", "{}", false),
        document("the payload alone", text.clone(), false),
        document(
            "an unknown member beside the payload",
            sign(&text, &[one, two]).replacen('{', r#"{"x":1,"#, 1),
            false,
        ),
        document(
            "an unprotected header",
            sign(&text, &[one, two]).replacen(r#"{"protected""#, r#"{"header":{},"protected""#, 1),
            false,
        ),
        document("a line end behind the document", sign(&text, &[one, two]) + "\n", true),
    ];
    for member in good.as_object().unwrap().keys() {
        let mut manifest = good.clone();
        manifest.as_object_mut().unwrap().remove(member);
        cases.push(document(format!("{member} missing"), sign(&canonical(&manifest), &[one, two]), false));
    }
    Documents {
        about: "Manifests that a verifier must take or refuse under root.json and beside jwks.json. See README.md.",
        cases,
    }
}

fn value(key: &Jwk) -> Value {
    serde_json::to_value(key).unwrap()
}

fn many_keys() -> Value {
    (0..65).map(|index| value(&Key::named(&format!("many {index}")).public)).collect()
}

/// A set with a key of these bytes under its right thumbprint: only the point is wrong.
fn with_point(bytes: &[u8]) -> String {
    let x = encode(bytes);
    let required = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
    let kid = encode(token_authority_verifier::Digest::of(required.as_bytes()).as_bytes());
    json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x, "alg": "EdDSA", "use": "sig", "kid": kid}]})
        .to_string()
}

/// Canonical for what stands in manifests: ASCII names, strings, integers, null.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by_key(|(name, _)| *name);
            let members: Vec<_> =
                members.iter().map(|(name, value)| format!("\"{name}\":{}", canonical(value))).collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        other => other.to_string(),
    }
}

fn sign(payload: &str, keys: &[&Key]) -> String {
    sign_as(payload, keys, "key-set-manifest+jws")
}

fn sign_as(payload: &str, keys: &[&Key], typ: &str) -> String {
    sign_with(payload, keys, |kid| format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"{typ}"}}"#))
}

fn sign_with(payload: &str, keys: &[&Key], header: impl Fn(&str) -> String) -> String {
    let payload = encode(payload);
    let signatures: Vec<_> = keys
        .iter()
        .map(|key| {
            let protected = encode(header(&key.kid().to_string()));
            let signature = encode(key.sign(&format!("{protected}.{payload}")));
            format!(r#"{{"protected":"{protected}","signature":"{signature}"}}"#)
        })
        .collect();
    format!(r#"{{"payload":"{payload}","signatures":[{}]}}"#, signatures.join(","))
}

fn with_wrong_third(keys: &Keys, payload: &str) -> String {
    let [one, two, three] = &keys.root;
    let right = sign(payload, &[one, two, three]);
    let signature = encode(three.sign(&format!(
        "{}.{}",
        encode(format!(r#"{{"alg":"EdDSA","kid":"{}","typ":"key-set-manifest+jws"}}"#, three.kid())),
        encode(payload)
    )));
    right.replace(&signature, &encode([7; 64]))
}

fn doubled(items: &Value) -> Value {
    let items = items.as_array().unwrap();
    items.iter().take(1).chain(items).cloned().collect()
}

fn reversed(items: &Value) -> Value {
    items.as_array().unwrap().iter().rev().cloned().collect()
}

/// The keys with one member of the first changed.
fn with_key(manifest: &Value, member: &str, to: &Value) -> Value {
    let mut keys = manifest["keys"].clone();
    keys[0][member] = to.clone();
    keys
}
