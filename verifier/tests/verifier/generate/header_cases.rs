//! Headers: algorithms that the key does not have, keys brought along, repetitions.

use super::{Case, payload};
use crate::fixture::{Keys, claims};
use crate::forge::{encode, hmac_sha256, with_header};

pub(crate) fn cases(keys: &Keys) -> Vec<Case> {
    let kid = keys.active.kid();
    let signed = |header: &str| with_header(&keys.active, header, &payload());
    let accepted = |name: &str, header: &str| Case::accepted(name, signed(header), claims());
    let refused = |name: &str, header: &str, code: &str| Case::refused(name, signed(header), code);
    let with = |member: &str| format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"at+jwt",{member}}}"#);
    let with_alg = |alg: &str| format!(r#"{{"alg":{alg},"kid":"{kid}","typ":"at+jwt"}}"#);
    let with_kid = |kid: &str| format!(r#"{{"alg":"EdDSA","kid":{kid},"typ":"at+jwt"}}"#);
    let with_typ = |typ: &str| format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":{typ}}}"#);
    let stranger = keys.stranger.public.to_canonical_json();
    let mut cases = vec![
        accepted("members in another order", &format!(r#"{{"typ":"at+jwt","kid":"{kid}","alg":"EdDSA"}}"#)),
        accepted(
            "spaces between members",
            &format!("{{ \"alg\": \"EdDSA\",\n\"kid\":\"{kid}\", \"typ\":\"at+jwt\" }} "),
        ),
        accepted(
            "escapes in names and values",
            &format!(r#"{{"\u0061lg":"\u0045dDSA","kid":"{kid}","typ":"at\u002bjwt"}}"#),
        ),
        accepted("an unknown member", &with(r#""cty":"JWT""#)),
        accepted("an unknown member of another type", &with(r#""x":{"alg":"none"}"#)),
        Case::refused("alg none, without a signature", unsigned(&with_alg(r#""none""#), &[]), "alg_mismatch"),
        Case::refused(
            "alg none, with 64 zero bytes",
            unsigned(&with_alg(r#""none""#), &[0; 64]),
            "alg_mismatch",
        ),
        Case::refused("alg none and nothing else", unsigned(r#"{"alg":"none"}"#, &[]), "typ_wrong"),
        refused("alg NONE over a right signature", &with_alg(r#""NONE""#), "alg_mismatch"),
        refused("alg in another case", &with_alg(r#""eddsa""#), "alg_mismatch"),
        refused(
            "alg Ed25519 (RFC 9864), which this key does not have",
            &with_alg(r#""Ed25519""#),
            "alg_mismatch",
        ),
        refused("alg RS256 over a right signature", &with_alg(r#""RS256""#), "alg_mismatch"),
        refused("alg with a space", &with_alg(r#""EdDSA ""#), "alg_mismatch"),
        refused("alg empty", &with_alg(r#""""#), "alg_mismatch"),
        refused("alg missing", &format!(r#"{{"kid":"{kid}","typ":"at+jwt"}}"#), "alg_mismatch"),
        refused("alg null", &with_alg("null"), "malformed"),
        refused("alg an array", &with_alg(r#"["EdDSA"]"#), "malformed"),
        refused("kid missing", r#"{"alg":"EdDSA","typ":"at+jwt"}"#, "kid_missing"),
        refused("kid null", &with_kid("null"), "malformed"),
        refused("kid a number", &with_kid("0"), "malformed"),
        refused("kid empty", &with_kid(r#""""#), "kid_unknown"),
        refused("kid padded", &with_kid(&format!(r#""{kid}=""#)), "kid_unknown"),
        refused("kid cut", &with_kid(&format!(r#""{}""#, &kid.to_string()[..42])), "kid_unknown"),
        refused("kid a path", &with_kid(r#""../../../../dev/null""#), "kid_unknown"),
        refused("kid an SQL fragment", &with_kid(r#""' UNION SELECT 'AA""#), "kid_unknown"),
        refused("typ missing", &format!(r#"{{"alg":"EdDSA","kid":"{kid}"}}"#), "typ_wrong"),
        refused("typ null", &with_typ("null"), "malformed"),
        refused("typ JWT", &with_typ(r#""JWT""#), "typ_wrong"),
        refused("typ in capitals", &with_typ(r#""AT+JWT""#), "typ_wrong"),
        refused("typ with its prefix", &with_typ(r#""application/at+jwt""#), "typ_wrong"),
        refused("typ of a manifest", &with_typ(r#""key-set-manifest+jws""#), "typ_wrong"),
        refused("typ of an instance's proof", &with_typ(r#""activation-proof+jwt""#), "typ_wrong"),
        refused("crit", &with(r#""crit":["exp"]"#), "crit_unsupported"),
        refused("crit empty", &with(r#""crit":[]"#), "crit_unsupported"),
        refused("crit null", &with(r#""crit":null"#), "crit_unsupported"),
        refused(
            "an unencoded payload (RFC 7797)",
            &with(r#""b64":false,"crit":["b64"]"#),
            "crit_unsupported",
        ),
        refused(
            "a jwk in place of the kid",
            &format!(r#"{{"alg":"EdDSA","jwk":{stranger},"typ":"at+jwt"}}"#),
            "key_in_header",
        ),
        refused("alg twice", &with(r#""alg":"EdDSA""#), "malformed"),
        refused("alg twice, once with an escape", &with(r#""\u0061lg":"none""#), "malformed"),
        refused("kid twice", &with(&format!(r#""kid":"{}""#, keys.standby.kid())), "malformed"),
        refused("typ twice", &with(r#""typ":"JWT""#), "malformed"),
        refused("an unknown member twice", &with(r#""x":1,"x":2"#), "malformed"),
        refused("more members than any header has", &with(&many_members()), "malformed"),
        refused("an array", "[]", "malformed"),
        refused("null", "null", "malformed"),
        refused("no JSON", "EdDSA", "malformed"),
        refused("two objects", &format!("{}{{}}", with(r#""x":1"#)), "malformed"),
        refused("a cut object", r#"{"alg":"EdDSA""#, "malformed"),
        refused("a byte order mark", &format!("\u{feff}{}", with(r#""x":1"#)), "malformed"),
        not_utf8(keys),
    ];
    for member in ["jku", "jwk", "x5c", "x5t", "x5t#S256", "x5u"] {
        let forged = with_header(&keys.stranger, &with(&format!(r#""{member}":{stranger}"#)), &payload());
        cases.push(Case::refused(&format!("{member} with a stranger's key"), forged, "key_in_header"));
        let own = with(&format!(r#""{member}":"https://authority.example.com/keys""#));
        cases.push(refused(&format!("{member} over a right signature"), &own, "key_in_header"));
    }
    cases.extend(confusions(keys));
    cases
}

fn unsigned(header: &str, signature: &[u8]) -> String {
    format!("{}.{}.{}", encode(header), encode(payload()), encode(signature))
}

/// The public key, in each of its spellings, used as a shared secret.
fn confusions(keys: &Keys) -> Vec<Case> {
    let key = &keys.active.public;
    let jwks = keys.key_set().to_canonical_json();
    let secrets: [(&str, Vec<u8>); 4] = [
        ("the 32 bytes of the public key", key.ed25519_public().unwrap().to_vec()),
        ("x", encode(key.ed25519_public().unwrap()).into_bytes()),
        ("the JWK", key.to_canonical_json().into_bytes()),
        ("the key set", jwks.into_bytes()),
    ];
    secrets
        .into_iter()
        .map(|(name, secret)| {
            let header = format!(r#"{{"alg":"HS256","kid":"{}","typ":"at+jwt"}}"#, key.kid());
            let input = format!("{}.{}", encode(header), encode(payload()));
            let token = format!("{input}.{}", encode(hmac_sha256(&secret, &input)));
            Case::refused(&format!("alg HS256, keyed with {name}"), token, "alg_mismatch")
        })
        .collect()
}

fn many_members() -> String {
    (0..17).map(|index| format!(r#""x{index}":{index}"#)).collect::<Vec<_>>().join(",")
}

fn not_utf8(keys: &Keys) -> Case {
    let header = format!(r#"{{"alg":"EdDSA","kid":"{}","typ":"at+jwt","x":"@"}}"#, keys.active.kid());
    let header = header.into_bytes().into_iter().map(|byte| if byte == b'@' { 0xff } else { byte });
    let input = format!("{}.{}", encode(header.collect::<Vec<_>>()), encode(payload()));
    Case::refused("no UTF-8", format!("{input}.{}", encode(keys.active.sign(&input))), "malformed")
}
