//! Texts that are no token, or a token in another spelling.

use token_authority_verifier::Claims;

use super::{Case, payload};
use crate::fixture::{Keys, claims};
use crate::forge::{encode, signed_part};

/// The length at which a token is refused unread.
const LIMIT: usize = 8_192;

pub(crate) fn cases(keys: &Keys) -> Vec<Case> {
    let token = keys.active.mint(&claims());
    let [header, body, signature] = token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let malformed = |name: &str, token: String| Case::refused(name, token, "malformed");
    let (largest, claims_of_largest) = token_of_length(keys, LIMIT);
    let (too_large, _) = token_of_length(keys, LIMIT + 1);
    let general_json = format!(
        r#"{{"payload":"{body}","signatures":[{{"protected":"{header}","signature":"{signature}"}}]}}"#
    );
    let flattened_json =
        format!(r#"{{"payload":"{body}","protected":"{header}","signature":"{signature}"}}"#);
    vec![
        Case::accepted("a good token", token.clone(), claims()),
        Case::accepted("a good token by the standby key", keys.standby.mint(&claims()), claims()),
        Case::accepted("a token of 8192 bytes", largest, claims_of_largest),
        Case::refused("a token of 8193 bytes", too_large, "too_large"),
        Case::refused("a long text that is no token", "a".repeat(LIMIT + 1), "too_large"),
        malformed("nothing", String::new()),
        malformed("one dot", ".".to_owned()),
        malformed("two dots", "..".to_owned()),
        malformed("one part", header.to_owned()),
        malformed("two parts", format!("{header}.{body}")),
        malformed("four parts", format!("{token}.{signature}")),
        malformed("five parts, as an encrypted token has", format!("{token}.{body}.{signature}")),
        malformed("an empty header", format!(".{body}.{signature}")),
        Case::refused("an empty payload", format!("{header}..{signature}"), "signature_invalid"),
        malformed("an empty signature", format!("{header}.{body}.")),
        malformed("JWS General JSON Serialization", general_json),
        malformed("JWS Flattened JSON Serialization", flattened_json),
        malformed("the authorization scheme left in place", format!("Bearer {token}")),
        malformed("a space before", format!(" {token}")),
        malformed("a space behind", format!("{token} ")),
        malformed("a line end behind", format!("{token}\n")),
        malformed("a NUL behind", format!("{token}\0")),
        malformed(
            "a line end in the header",
            format!("{}\n{}.{body}.{signature}", &header[..8], &header[8..]),
        ),
        Case::refused(
            "a space in the payload",
            format!("{header}.{} {}.{signature}", &body[..8], &body[8..]),
            "signature_invalid",
        ),
        malformed("a padded header", format!("{header}=.{body}.{signature}")),
        malformed("a padded signature", format!("{header}.{body}.{signature}==")),
        malformed(
            "a header with a stray bit at its end",
            format!("{}.{body}.{signature}", next_last_character(header)),
        ),
        malformed(
            "a signature with a stray bit at its end",
            format!("{}.{}", signed_part(&token), next_last_character(signature)),
        ),
        malformed(
            "a signature in the alphabet of plain base64",
            format!("{}.{}", signed_part(&token), signature.replacen(|c: char| c.is_ascii_digit(), "+", 1)),
        ),
        malformed("letters beyond ASCII", format!("é{}", &token[1..])),
        malformed("a percent-encoded dot", token.replacen('.', "%2E", 1)),
        padded_payload(keys),
        stray_bit_in_payload(keys),
        plain_alphabet_in_payload(keys),
    ]
}

/// A good token of exactly this length, by a subject of the right length.
fn token_of_length(keys: &Keys, length: usize) -> (String, Claims) {
    let mut claims = claims();
    // A space in the header moves what the payload cannot: its base64 never has 4n + 1 characters.
    let kid = keys.active.kid();
    for spaces in 0..4 {
        let header = format!(r#"{{"alg":"EdDSA","kid":"{kid}",{}"typ":"at+jwt"}}"#, " ".repeat(spaces));
        for subject in length / 2..length {
            claims.sub = "s".repeat(subject);
            let payload = serde_json::to_string(&claims).unwrap();
            let total = encode(&header).len() + encode(&payload).len() + 88;
            if total == length {
                return (crate::forge::with_header(&keys.active, &header, &payload), claims);
            }
            if total > length {
                break;
            }
        }
    }
    panic!("no token has {length} bytes");
}

/// The same text with the lowest bit of its last character set.
fn next_last_character(text: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = *text.as_bytes().last().unwrap();
    let value = ALPHABET.iter().position(|letter| *letter == last).unwrap();
    let other = char::from(ALPHABET[value | 1]);
    assert_ne!(char::from(last), other, "the last character has no stray bits");
    format!("{}{other}", &text[..text.len() - 1])
}

/// The issuer itself would have to sign this; a verifier that decodes leniently would still accept it.
fn signed_spelling(keys: &Keys, name: &str, body: &str) -> Case {
    let input = format!("{}.{body}", keys.active.header().encoded());
    Case::refused(name, format!("{input}.{}", encode(keys.active.sign(&input))), "malformed")
}

fn padded_payload(keys: &Keys) -> Case {
    let body = encode(payload() + " ".repeat(payload().len() % 3).as_str() + " ");
    signed_spelling(keys, "a padded payload, signed so", &format!("{body}="))
}

fn stray_bit_in_payload(keys: &Keys) -> Case {
    let spaces = (3 - payload().len() % 3) % 3 + 1;
    let body = encode(payload() + &" ".repeat(spaces));
    signed_spelling(keys, "a payload with a stray bit at its end, signed so", &next_last_character(&body))
}

fn plain_alphabet_in_payload(keys: &Keys) -> Case {
    let mut claims = claims();
    claims.sub = "???>>>".repeat(3);
    let body = encode(serde_json::to_string(&claims).unwrap()).replace('_', "/").replace('-', "+");
    assert!(body.contains(['/', '+']));
    signed_spelling(keys, "a payload in the alphabet of plain base64, signed so", &body)
}
