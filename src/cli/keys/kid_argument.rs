//! Kids as arguments. One in sixty-four begins with `-`, and must not be taken for an option.

use std::ffi::OsString;

use token_authority_verifier::{Kid, KidError};

/// The arguments, with every kid that looks like an option marked as what it is.
///
/// No option has the form of a kid: 43 characters of base64url.
pub(crate) fn mark_kids(arguments: impl Iterator<Item = OsString>) -> impl Iterator<Item = OsString> {
    arguments.map(|argument| match argument.to_str() {
        Some(text) if text.starts_with('-') && text.parse::<Kid>().is_ok() => format!("{MARK}{text}").into(),
        _ => argument,
    })
}

/// Reads a kid, marked or not.
pub(super) fn parse_kid(text: &str) -> Result<Kid, KidError> {
    text.strip_prefix(MARK).unwrap_or(text).parse()
}

/// No kid holds a colon.
const MARK: &str = "kid:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kid_that_begins_with_a_dash_is_a_kid() {
        let kid = "-WVTiwnRpei2WJL4vtgYjhyi4aKkLaBB9foocy7HhyI";
        let arguments = ["keys", "arm", kid, "--format", "json", "-h"].map(OsString::from);
        let marked: Vec<_> = mark_kids(arguments.into_iter()).collect();
        let expected = ["keys", "arm", &format!("kid:{kid}"), "--format", "json", "-h"];
        assert_eq!(marked, expected.map(OsString::from));
        assert_eq!(parse_kid(marked[2].to_str().unwrap()).unwrap().to_string(), kid);
        assert_eq!(parse_kid(kid).unwrap().to_string(), kid);
    }
}
