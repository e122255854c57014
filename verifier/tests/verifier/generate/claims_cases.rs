//! Claims: missing, repeated, of wrong types, for others.

use token_authority_verifier::Claims;

use super::{Case, payload, with_claim};
use crate::fixture::{AUDIENCE, ISSUER, Keys, claims};

const REQUIRED: [&str; 10] =
    ["iss", "sub", "aud", "iat", "nbf", "exp", "jti", "scopes", "gitlab_realm", "gitlab_instance_uid"];

pub(crate) fn cases(keys: &Keys) -> Vec<Case> {
    let key = &keys.active;
    let mut cases = Vec::new();
    for name in REQUIRED {
        let mut value = serde_json::to_value(claims()).unwrap();
        value.as_object_mut().unwrap().remove(name);
        cases.push(Case::refused(&format!("{name} missing"), key.token(&value.to_string()), "claim_missing"));
        cases.push(Case::refused(&format!("{name} null"), with_claim(key, name, "null"), "claim_type"));
        let doubled = payload().replacen(
            '{',
            &format!("{{\"{name}\":{},", serde_json::to_value(claims()).unwrap()[name]),
            1,
        );
        cases.push(Case::refused(&format!("{name} twice"), key.token(&doubled), "claim_duplicate"));
    }
    for (name, wrong) in [
        ("iss", "[\"https://authority.example.com\"]"),
        ("iss", "{\"iss\":\"https://authority.example.com\"}"),
        ("iss", "true"),
        ("sub", "7"),
        ("aud", "7"),
        ("aud", "{}"),
        ("aud", "[\"gitlab-ai-gateway\",7]"),
        ("aud", "[[\"gitlab-ai-gateway\"]]"),
        ("aud", "[null]"),
        ("exp", "\"9999999999\""),
        ("exp", "9999999999.0"),
        ("exp", "1e12"),
        ("exp", "99999999999999999999"),
        ("exp", "true"),
        ("exp", "[9999999999]"),
        ("iat", "\"0\""),
        ("iat", "1.5"),
        ("iat", "-1e3"),
        ("nbf", "\"0\""),
        ("nbf", "0.0"),
        ("nbf", "{}"),
        ("jti", "7"),
        ("scopes", "\"duo_chat\""),
        ("scopes", "{\"duo_chat\":true}"),
        ("scopes", "[\"duo_chat\",true]"),
        ("gitlab_realm", "7"),
        ("gitlab_instance_uid", "[]"),
        ("duo_seat_count", "25"),
        ("duo_seat_count", "null"),
    ] {
        let name_of_case = format!("{name} is {wrong}");
        cases.push(Case::refused(&name_of_case, with_claim(key, name, wrong), "claim_type"));
    }
    cases.extend(forms(keys));
    cases.extend(audiences_and_issuers(keys));
    cases
}

fn forms(keys: &Keys) -> Vec<Case> {
    let key = &keys.active;
    let malformed = |name: &str, payload: &str| Case::refused(name, key.token(payload), "malformed");
    let with = |members: &str| key.token(&payload().replacen('{', &format!("{{{members},"), 1));
    let mut unseated = claims();
    unseated.duo_seat_count = None;
    let mut bare = claims();
    bare.scopes.clear();
    vec![
        Case::accepted("no seats counted", key.mint(&unseated), unseated),
        Case::accepted("no scopes", key.mint(&bare), bare),
        Case::accepted(
            "spaces and line ends between claims",
            key.token(&payload().replace(',', " ,\r\n\t")),
            claims(),
        ),
        Case::accepted("an unknown claim", with(r#""extra":{"exp":[1,"2",null]}"#), claims()),
        Case::refused("an unknown claim twice", with(r#""extra":1,"extra":1"#), "claim_duplicate"),
        Case::refused("exp twice, once with an escape", with(r#""\u0065xp":9999999999"#), "claim_duplicate"),
        Case::refused("duo_seat_count twice", with(r#""duo_seat_count":"99999""#), "claim_duplicate"),
        malformed("an empty payload", ""),
        malformed("an array of claims", &format!("[{}]", payload())),
        malformed("null", "null"),
        malformed("a string", r#""exp""#),
        malformed("two objects", &format!("{}{}", payload(), payload())),
        malformed("something behind the object", &format!("{} x", payload())),
        malformed("a NUL behind the object", &format!("{}\0", payload())),
        malformed("a comma too many", &payload().replace(r#""25"}"#, r#""25",}"#)),
        malformed("a comment", &payload().replacen('{', "{/* */", 1)),
        malformed("single quotes", &payload().replace('"', "'")),
        malformed("NaN", &payload().replacen('{', r#"{"extra":NaN,"#, 1)),
        malformed("a leading zero", &payload().replacen('{', r#"{"extra":01,"#, 1)),
        malformed("a lone surrogate in a claim", &payload().replacen('{', r#"{"extra\ud800":1,"#, 1)),
        not_utf8(keys),
        malformed("a byte order mark", &format!("\u{feff}{}", payload())),
    ]
}

fn not_utf8(keys: &Keys) -> Case {
    let payload = payload().replacen('{', r#"{"extra":"@","#, 1).into_bytes();
    let payload: Vec<u8> = payload.into_iter().map(|byte| if byte == b'@' { 0xff } else { byte }).collect();
    let input = keys.active.header().signing_input(&payload);
    let signature = keys.active.sign(&input);
    Case::refused("no UTF-8", token_authority_verifier::compact(input, &signature), "malformed")
}

fn audiences_and_issuers(keys: &Keys) -> Vec<Case> {
    let key = &keys.active;
    let minted = |change: fn(&mut Claims)| {
        let mut claims = claims();
        change(&mut claims);
        (key.mint(&claims), claims)
    };
    let refused =
        |name: &str, change: fn(&mut Claims), code: &str| Case::refused(name, minted(change).0, code);
    let accepted = |name: &str, change: fn(&mut Claims)| {
        let (token, claims) = minted(change);
        Case::accepted(name, token, claims)
    };
    vec![
        accepted("ours among several audiences", |claims| {
            claims.aud = ["a", AUDIENCE, "z"].map(str::to_owned).into();
        }),
        Case::accepted(
            "the audience without its array",
            with_claim(key, "aud", &format!("\"{AUDIENCE}\"")),
            claims(),
        ),
        refused("no audience", |claims| claims.aud.clear(), "audience_mismatch"),
        refused(
            "another audience",
            |claims| claims.aud = vec!["gitlab-duo-workflow-service".into()],
            "audience_mismatch",
        ),
        refused(
            "the audience with a tail",
            |claims| claims.aud = vec![format!("{AUDIENCE}-2")],
            "audience_mismatch",
        ),
        refused(
            "the audience cut",
            |claims| claims.aud = vec![AUDIENCE[..AUDIENCE.len() - 1].into()],
            "audience_mismatch",
        ),
        refused(
            "the audience in capitals",
            |claims| claims.aud = vec![AUDIENCE.to_uppercase()],
            "audience_mismatch",
        ),
        refused(
            "the audience with a space",
            |claims| claims.aud = vec![format!("{AUDIENCE} ")],
            "audience_mismatch",
        ),
        refused(
            "audiences joined by a space",
            |claims| claims.aud = vec![format!("x {AUDIENCE}")],
            "audience_mismatch",
        ),
        refused("an empty audience", |claims| claims.aud = vec![String::new()], "audience_mismatch"),
        Case::refused(
            "another audience without its array",
            with_claim(key, "aud", "\"x\""),
            "audience_mismatch",
        ),
        refused(
            "the issuer with a slash at its end",
            |claims| claims.iss = format!("{ISSUER}/"),
            "issuer_mismatch",
        ),
        refused("the issuer in capitals", |claims| claims.iss = ISSUER.to_uppercase(), "issuer_mismatch"),
        refused(
            "the issuer over plain HTTP",
            |claims| claims.iss = ISSUER.replace("https", "http"),
            "issuer_mismatch",
        ),
        refused(
            "another issuer",
            |claims| claims.iss = "https://authority.example.org".into(),
            "issuer_mismatch",
        ),
        refused("an empty issuer", |claims| claims.iss.clear(), "issuer_mismatch"),
    ]
}
