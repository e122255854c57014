//! Times: each edge from both sides.

use token_authority_verifier::Claims;

use super::Case;
use crate::fixture::{Keys, NOW, claims};

const LEEWAY: i64 = 30;
const LONGEST: i64 = 259_200;

pub(crate) fn cases(keys: &Keys) -> Vec<Case> {
    let case = |name: &str, (iat, nbf, exp): (i64, i64, i64), now: i64, expect: &str| {
        let claims = Claims { iat, nbf, exp, ..claims() };
        let token = keys.active.mint(&claims);
        match expect {
            "valid" => Case::accepted(name, token, claims).at(now),
            code => Case::refused(name, token, code).at(now),
        }
    };
    let (iat, nbf, exp) = (NOW - 60, NOW - 65, NOW + 3_600);
    vec![
        case("the last second before exp", (iat, nbf, exp), exp - 1, "valid"),
        case("exp, within the leeway", (iat, nbf, exp), exp, "valid"),
        case("the last second of the leeway after exp", (iat, nbf, exp), exp + LEEWAY - 1, "valid"),
        case("the leeway after exp is over", (iat, nbf, exp), exp + LEEWAY, "expired"),
        case("a month after exp", (iat, nbf, exp), exp + 2_592_000, "expired"),
        case("the first second of the leeway before nbf", (iat, iat, exp), iat - LEEWAY, "valid"),
        case("nbf is later than iat, leeway reached", (iat, NOW + LEEWAY, exp), NOW, "valid"),
        case("nbf is later than iat, leeway not reached", (iat, NOW + LEEWAY + 1, exp), NOW, "not_yet_valid"),
        case("iat ahead by the leeway", (NOW + LEEWAY, nbf, exp), NOW, "valid"),
        case("iat ahead by more than the leeway", (NOW + LEEWAY + 1, nbf, exp), NOW, "issued_in_future"),
        case("everything ahead", (NOW + 100, NOW + 95, NOW + 3_700), NOW, "issued_in_future"),
        case("the longest life", (iat, nbf, iat + LONGEST), NOW, "valid"),
        case("a second more than the longest life", (iat, nbf, iat + LONGEST + 1), NOW, "life_too_long"),
        case("a life without end", (iat, nbf, i64::MAX), NOW, "life_too_long"),
        case("a life that overflows", (i64::MIN, nbf, i64::MAX), NOW, "life_too_long"),
        case("issued long ago, for a long life", (0, 0, exp), NOW, "life_too_long"),
        case("exp before iat", (NOW, NOW, NOW - 100), NOW, "expired"),
        case("exp at the beginning of time", (iat, nbf, i64::MIN + 60), NOW, "life_too_long"),
        case("exp 0", (0, 0, 0), NOW, "expired"),
        case("times before 1970", (-100, -100, -50), NOW, "expired"),
        case("nbf without end", (iat, i64::MAX, exp), NOW, "not_yet_valid"),
        case("nbf at the beginning of time", (iat, i64::MIN, exp), NOW, "valid"),
    ]
}
