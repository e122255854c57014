//! `token why`: turns the refusal that a backend answered into its cause and its remedy.

use clap::Args;
use serde::Serialize;
use token_authority_verifier::Reason;

use super::{read_token, visible};
use crate::cli::output::{Format, print_json, print_table};
use crate::cli::{CliError, GlobalArgs};

/// Explain a 401: what causes it, and who can do what about it.
#[derive(Args, Debug)]
pub(crate) struct WhyArgs {
    /// The `WWW-Authenticate` header of the answer, the whole answer, or the code alone; `-` reads it from the
    /// standard input, for example from `curl -si`.
    #[arg(value_name = "HEADER|CODE|-")]
    header: String,
}

impl WhyArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let explanation = Explanation::of(&read_token(self.header)?)?;
        match global.format {
            Format::Json => print_json(&explanation),
            Format::Table => print_table(&["", ""], explanation.rows()),
        }
    }
}

/// A refusal, for whoever has to mend it.
#[derive(Debug, Serialize)]
struct Explanation {
    code: &'static str,
    status: u16,
    cause: &'static str,
    remedy: &'static str,
    /// The key set that the backend runs, as it said.
    #[serde(skip_serializing_if = "Option::is_none")]
    key_set: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audience: Option<String>,
    /// The unit primitive that the token did not permit.
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<String>,
    /// The backend's own sentence, with the particulars.
    #[serde(skip_serializing_if = "Option::is_none")]
    said: Option<String>,
}

impl Explanation {
    fn of(text: &str) -> Result<Self, CliError> {
        let alone = text.trim();
        if let Ok(reason) = alone.parse() {
            return Ok(Self::new(reason, &[]));
        }
        // A whole answer has the header on one of its lines, maybe among challenges of other schemes.
        let parameters = text.lines().map(parameters).find(|found| value(found, "error_code").is_some());
        let Some(parameters) = parameters else {
            return Err(CliError::refused(
                "there is no `error_code=\"…\"` in it: give the WWW-Authenticate header of a backend's answer, or a code \
                 of docs/refusals.md",
            ));
        };
        let code = value(&parameters, "error_code").unwrap_or_default();
        let reason = code.parse().map_err(|_| {
            CliError::refused(format!(
                "`{}` is no code that this version knows: the backend's verifier may be newer",
                visible(&code)
            ))
        })?;
        Ok(Self::new(reason, &parameters))
    }

    fn new(reason: Reason, parameters: &[(String, String)]) -> Self {
        Self {
            code: reason.code(),
            status: reason.status(),
            cause: reason.cause(),
            remedy: reason.remedy(),
            key_set: value(parameters, "key_set"),
            environment: value(parameters, "environment"),
            audience: value(parameters, "audience"),
            scope: value(parameters, "scope"),
            said: value(parameters, "error_description"),
        }
    }

    fn rows(&self) -> Vec<[String; 2]> {
        let mut rows = vec![
            ["code".to_owned(), self.code.to_owned()],
            ["status".to_owned(), self.status.to_string()],
            ["cause".to_owned(), self.cause.to_owned()],
            ["remedy".to_owned(), self.remedy.to_owned()],
        ];
        for (name, said) in [
            ("key set", &self.key_set),
            ("environment", &self.environment),
            ("audience", &self.audience),
            ("scope", &self.scope),
            ("said", &self.said),
        ] {
            rows.extend(said.as_ref().map(|said| [name.to_owned(), visible(said)]));
        }
        rows
    }
}

fn value(parameters: &[(String, String)], name: &str) -> Option<String> {
    parameters.iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
}

/// The parameters `name="value"` of all challenges on a line (RFC 9110 §11.2); a value may also stand without quotes.
fn parameters(line: &str) -> Vec<(String, String)> {
    let mut parameters = Vec::new();
    let mut rest = line;
    while let Some((before, behind)) = rest.split_once('=') {
        let name = before.rsplit([' ', ',', '\t', ':']).next().unwrap_or_default();
        let (value, after) = match behind.strip_prefix('"') {
            Some(quoted) => unquoted(quoted),
            None => {
                let end = behind.find([',', ' ']).unwrap_or(behind.len());
                (behind[..end].to_owned(), &behind[end..])
            }
        };
        parameters.push((name.to_owned(), value));
        rest = after;
    }
    parameters
}

/// The text up to the closing quote, without the backslashes of quoted pairs, and what follows the quote.
fn unquoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '"' => return (value, &text[place + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained_alone_and_in_a_header() {
        for reason in Reason::ALL {
            let header = format!("Bearer error=\"invalid_token\", error_code=\"{reason}\", key_set=\"7\"");
            for text in [reason.code().to_owned(), header] {
                let explanation = Explanation::of(&text).unwrap();
                assert_eq!((explanation.code, explanation.remedy), (reason.code(), reason.remedy()));
            }
        }
    }

    #[test]
    fn the_header_is_found_in_a_whole_answer_and_beside_other_challenges() {
        let answer = "HTTP/1.1 401 Unauthorized\r\ncontent-type: text/html; charset=utf-8\r\n\
                      www-authenticate: Basic realm=\"a, b=\\\"c\\\"\", Bearer error_code=kid_unknown, \
                      key_set=\"7\", error_description=\"the `kid`, you see\"\r\n\r\n{}";
        let explanation = Explanation::of(answer).unwrap();
        assert_eq!(explanation.code, "kid_unknown");
        assert_eq!(explanation.key_set.as_deref(), Some("7"));
        assert_eq!(explanation.said.as_deref(), Some("the `kid`, you see"));
    }

    #[test]
    fn what_explains_nothing_is_refused() {
        for text in ["", "Bearer error=\"invalid_token\"", "error_code=", "error_code=\"", "=\"=", "a.b.c"] {
            assert!(Explanation::of(text).is_err(), "{text}");
        }
        let newer = Explanation::of("Bearer error_code=\"\u{1b}[2Jnew\"").unwrap_err().to_string();
        assert!(newer.contains("\\u{1b}[2Jnew"), "{newer}");
    }
}
