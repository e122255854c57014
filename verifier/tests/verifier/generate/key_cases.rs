//! Keys: what the manifest says about the key that a token names.

use token_authority_verifier::Claims;

use super::Case;
use crate::fixture::{DAY, DEMOTED_AT, Key, Keys, NOW, SHORT_LIVED_END, claims};

pub(crate) fn cases(keys: &Keys) -> Vec<Case> {
    let issued_at = |key: &Key, iat: i64| {
        let claims = Claims { iat, nbf: iat - 5, exp: iat + 8 * 3_600, ..claims() };
        (key.mint(&claims), claims)
    };
    let accepted = |name: &str, key: &Key, iat: i64, now: i64| {
        let (token, claims) = issued_at(key, iat);
        Case::accepted(name, token, claims).at(now)
    };
    let refused = |name: &str, key: &Key, iat: i64, now: i64, code: &str| {
        Case::refused(name, issued_at(key, iat).0, code).at(now)
    };
    let end = SHORT_LIVED_END;
    vec![
        accepted("the last second of a key", &keys.short_lived, NOW, end),
        refused("a second after the end of a key", &keys.short_lived, NOW, end + 1, "key_expired")
            .by("manifest"),
        accepted("the end of a key is unknown to a plain set", &keys.short_lived, NOW, end + 1).by("key_set"),
        refused("long after the end of a key", &keys.short_lived, end + DAY, end + DAY, "key_expired")
            .by("manifest"),
        refused("a denied key", &keys.compromised, NOW, NOW, "key_denied").by("manifest"),
        refused("a denied key, long before", &keys.compromised, NOW - 3_600, NOW, "key_denied")
            .by("manifest"),
        accepted("a denial is unknown to a plain set", &keys.compromised, NOW, NOW).by("key_set"),
        accepted("a demoted key's last second", &keys.demoted, DEMOTED_AT, NOW),
        refused("issued after the demotion of its key", &keys.demoted, DEMOTED_AT + 1, NOW, "key_denied")
            .by("manifest"),
        refused("a key for another audience", &keys.elsewhere, NOW, NOW, "key_audience").by("manifest"),
        refused("a key that signs deny lists", &keys.deny_list, NOW, NOW, "key_purpose").by("manifest"),
        refused(
            "a key that signs deny lists is not in the plain set",
            &keys.deny_list,
            NOW,
            NOW,
            "kid_unknown",
        )
        .by("key_set"),
        refused("a root key", &keys.root[0], NOW, NOW, "kid_unknown"),
    ]
}
