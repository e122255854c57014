//! `token verify`: the verdict that a backend would give, offline.

use std::fs;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use clap::Args;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use token_authority_verifier::{
    Claims, Digest, KeySet, Kid, Manifest, SignedManifest, SignedRoot, Unverified, Verified, Verifier,
    VerifyError,
};

use super::inspect::said;
use super::read_token;
use crate::cli::output::{Format, print_json, print_table};
use crate::cli::{CliError, GlobalArgs};

/// Verify a token offline, as a backend does.
#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// The token, or `-` to read it from the standard input.
    #[arg(value_name = "TOKEN|-")]
    token: String,
    /// The key set: a plain `jwks.json`, or an answer of `GET /v1/key-sets/{version}`.
    #[arg(long, value_name = "FILE")]
    key_set: PathBuf,
    /// The backend that the token must be for, as its `aud` names it.
    #[arg(long, value_name = "AUDIENCE")]
    audience: String,
    /// Who must have issued the token, exactly. Left out, the manifest says it; without one it is not checked.
    #[arg(long, value_name = "URL")]
    issuer: Option<String>,
    /// The root that must have signed the key set: `root.json`. Takes an answer of `/v1/key-sets/…`, which holds
    /// the manifest; its ends, denials and audiences of keys are then enforced too.
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
}

impl VerifyArgs {
    pub(crate) fn run(self, global: &GlobalArgs, now: DateTime<Utc>) -> Result<(), CliError> {
        let published = read(&self.key_set)?;
        let root = self.root.as_deref().map(read).transpose()?;
        let token = Presented::of(read_token(self.token)?);
        let trust = PublishedKeySet::parse(&published)
            .and_then(|published| Trust::new(published, root.as_deref(), self.issuer, self.audience, &token))
            .map_err(|reason| CliError::refused(format!("{}: {reason}", self.key_set.display())))?;
        match trust.judge(&token, now) {
            Ok(verdict) => match global.format {
                Format::Json => print_json(&verdict),
                Format::Table => print_table(&["", ""], verdict.rows(now)),
            },
            Err(refusal) => {
                if global.format == Format::Json {
                    print_json(&Refused { valid: false, code: refusal.code(), detail: refusal.to_string() })?;
                }
                Err(CliError::refused(format!("{}: {refusal}", refusal.code())))
            }
        }
    }
}

fn read(file: &Path) -> Result<Vec<u8>, CliError> {
    fs::read(file).map_err(CliError::fault(format!("could not read {}", file.display())))
}

/// A key set in either of the forms in which it is published.
#[derive(Debug)]
struct PublishedKeySet {
    keys: KeySet,
    /// As the answer has it; its signatures are not verified.
    manifest: Option<SignedManifest>,
}

impl PublishedKeySet {
    fn parse(json: &[u8]) -> Result<Self, String> {
        /// What `GET /v1/key-sets/{version}` answers.
        #[derive(Deserialize)]
        struct Answer {
            digest: Digest,
            jwks: Value,
            manifest: Value,
        }
        let Ok(answer) = serde_json::from_slice::<Answer>(json) else {
            let keys = KeySet::parse(json).map_err(|error| chain(&error))?;
            return Ok(Self { keys, manifest: None });
        };
        let keys = KeySet::parse(answer.jwks.to_string().as_bytes()).map_err(|error| chain(&error))?;
        if keys.digest() != answer.digest {
            return Err(format!(
                "its `digest` is {}, but that of its keys is {}",
                answer.digest,
                keys.digest()
            ));
        }
        let manifest = SignedManifest::parse(answer.manifest.to_string().as_bytes());
        Ok(Self { keys, manifest: Some(manifest.map_err(|error| chain(&error))?) })
    }

    /// The manifest, verified under the root in this file, which is trusted because it was named.
    fn verified_manifest(&self, root: &[u8]) -> Result<Verified<Manifest>, String> {
        let manifest =
            self.manifest.as_ref().ok_or("a plain key set has no manifest that --root could verify")?;
        let root = SignedRoot::parse(root).map_err(|error| format!("the root is refused: {error}"))?;
        let root =
            root.verify_pinned(root.digest()).map_err(|error| format!("the root is refused: {error}"))?;
        manifest.verify(&root).map_err(|error| format!("the manifest is refused: {error}"))
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", chain(source)),
        None => error.to_string(),
    }
}

/// A token, and what it claims to be, to whoever wants to know before it is verified.
struct Presented {
    token: String,
    unverified: Option<Unverified>,
}

impl Presented {
    fn of(token: String) -> Self {
        let unverified = Unverified::decode(&token).ok();
        Self { token, unverified }
    }

    fn claimed_issuer(&self) -> Option<String> {
        let claims: Value = serde_json::from_str(self.unverified.as_ref()?.payload()).ok()?;
        Some(claims.get("iss")?.as_str()?.to_owned())
    }
}

/// What a token is held against, and what is left unchecked because nobody named it.
#[derive(Debug)]
struct Trust {
    verifier: Verifier,
    issuer: Check,
    manifest: Check,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Check {
    Checked,
    NotChecked,
}

impl Trust {
    fn new(
        published: PublishedKeySet,
        root: Option<&[u8]>,
        issuer: Option<String>,
        audience: String,
        presented: &Presented,
    ) -> Result<Self, String> {
        let manifest = root.map(|root| published.verified_manifest(root)).transpose()?;
        // The issuer beside the keys is as good as the keys: both are what the file says.
        let named = published.manifest.as_ref().map(|manifest| manifest.unverified().issuer.clone());
        if let (Some(issuer), Some(named)) = (&issuer, &named)
            && issuer != named
        {
            return Err(format!("it is a key set of {named}, not of {issuer}"));
        }
        let expected = issuer.or(named);
        let checks = |known: bool| if known { Check::Checked } else { Check::NotChecked };
        let (issuer_check, manifest_check) = (checks(expected.is_some()), checks(manifest.is_some()));
        let verifier = match manifest {
            Some(manifest) => {
                let jwks = published.keys.to_canonical_json();
                Verifier::from_manifest(&manifest, jwks.as_bytes(), audience)
                    .map_err(|error| chain(&error))?
            }
            None => {
                // Whatever issuer the token claims is then the expected one; the answer says so.
                let issuer = expected.or_else(|| presented.claimed_issuer()).unwrap_or_default();
                Verifier::from_key_set(&published.keys, issuer, audience)
            }
        };
        Ok(Self { verifier, issuer: issuer_check, manifest: manifest_check })
    }

    fn judge(&self, presented: &Presented, now: DateTime<Utc>) -> Result<Verdict, VerifyError> {
        let claims = self.verifier.verify(&presented.token, now.into())?;
        let kid = presented.unverified.as_ref().and_then(Unverified::kid);
        Ok(Verdict { valid: true, kid, issuer: self.issuer, manifest: self.manifest, claims })
    }
}

/// The token is valid: what it says, and what nobody asked about.
#[derive(Debug, Serialize)]
struct Verdict {
    valid: bool,
    kid: Option<Kid>,
    issuer: Check,
    manifest: Check,
    claims: Claims,
}

/// The token is not valid.
#[derive(Debug, Serialize)]
struct Refused {
    valid: bool,
    code: &'static str,
    detail: String,
}

impl Verdict {
    fn rows(&self, now: DateTime<Utc>) -> Vec<[String; 2]> {
        let row = |name: &str, says: &str| [name.to_owned(), says.to_owned()];
        let mut rows = vec![row("valid", "yes")];
        if let Some(kid) = self.kid {
            rows.push(row("signed by", &kid.to_string()));
        }
        if self.issuer == Check::NotChecked {
            rows.push(row("issuer", "not checked: name it with --issuer"));
        }
        if self.manifest == Check::NotChecked {
            rows.push(row("manifest", "not checked: ends and denials of keys are unknown without --root"));
        }
        if let Ok(Value::Object(claims)) = serde_json::to_value(&self.claims) {
            rows.extend(claims.iter().map(|(name, value)| [name.clone(), said(name, value, now)]));
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use serde_json::json;

    use super::*;

    /// The verifier's own vectors: the texts of what is published there, and a good token.
    const JWKS: &str = include_str!("../../../verifier/tests/vectors/jwks.json");
    const MANIFEST: &str = include_str!("../../../verifier/tests/vectors/manifest.json");
    const ROOT: &str = include_str!("../../../verifier/tests/vectors/root.json");
    const TOKENS: &str = include_str!("../../../verifier/tests/vectors/keys.json");
    const ISSUER: &str = "https://authority.example.com";
    const AUDIENCE: &str = "gitlab-ai-gateway";

    fn token(name: &str) -> (Presented, DateTime<Utc>) {
        let tokens: Value = serde_json::from_str(TOKENS).unwrap();
        let case = tokens["cases"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap();
        let now = DateTime::from_timestamp(case["now"].as_i64().unwrap(), 0).unwrap();
        (Presented::of(case["token"].as_str().unwrap().to_owned()), now)
    }

    fn answer() -> Value {
        let keys = KeySet::parse(JWKS.as_bytes()).unwrap();
        let (jwks, manifest): (Value, Value) =
            (serde_json::from_str(JWKS).unwrap(), serde_json::from_str(MANIFEST).unwrap());
        json!({"version": 1, "digest": keys.digest(), "jwks": jwks, "manifest": manifest})
    }

    fn judge(
        published: &str,
        root: Option<&str>,
        issuer: Option<&str>,
        (presented, now): &(Presented, DateTime<Utc>),
    ) -> Result<Verdict, String> {
        let root = root.map(str::as_bytes);
        let trust = PublishedKeySet::parse(published.as_bytes()).and_then(|published| {
            Trust::new(published, root, issuer.map(str::to_owned), AUDIENCE.to_owned(), presented)
        })?;
        trust.judge(presented, *now).map_err(|refusal| refusal.code().to_owned())
    }

    #[test]
    fn a_plain_set_needs_an_issuer_or_says_that_none_was_checked() {
        let token = token("the last second of a key");
        let verdict = judge(JWKS, None, Some(ISSUER), &token).unwrap();
        assert_eq!((verdict.issuer, verdict.manifest), (Check::Checked, Check::NotChecked));
        assert!(verdict.claims.permits("duo_chat"));

        let verdict = judge(JWKS, None, None, &token).unwrap();
        assert_eq!(verdict.issuer, Check::NotChecked);
        assert!(
            verdict.rows(token.1).iter().any(|row| row[0] == "issuer" && row[1].starts_with("not checked"))
        );

        let other = judge(JWKS, None, Some("https://authority.example.com/"), &token);
        assert_eq!(other.unwrap_err(), "issuer_mismatch");
    }

    #[test]
    fn an_answer_of_the_service_names_its_issuer() {
        let token = token("the last second of a key");
        let verdict = judge(&answer().to_string(), None, None, &token).unwrap();
        assert_eq!((verdict.issuer, verdict.manifest), (Check::Checked, Check::NotChecked));
        let other = judge(&answer().to_string(), None, Some("https://else.example.com"), &token);
        assert!(other.unwrap_err().contains("it is a key set of"));
    }

    #[test]
    fn with_the_root_the_manifest_counts() {
        let after = token("a second after the end of a key");
        assert!(judge(&answer().to_string(), None, None, &after).is_ok());
        assert_eq!(judge(&answer().to_string(), Some(ROOT), None, &after).unwrap_err(), "key_expired");
        let before = (after.0, after.1 - TimeDelta::seconds(1));
        let verdict = judge(&answer().to_string(), Some(ROOT), None, &before).unwrap();
        assert_eq!((verdict.issuer, verdict.manifest), (Check::Checked, Check::Checked));
    }

    #[test]
    fn an_answer_that_contradicts_itself_is_refused() {
        let token = token("the last second of a key");
        let mut wrong = answer();
        wrong["digest"] = json!(Digest::of(b"another"));
        assert!(judge(&wrong.to_string(), None, None, &token).unwrap_err().contains("digest"));
        assert!(judge(JWKS, Some(ROOT), None, &token).unwrap_err().contains("no manifest"));
        assert!(judge("{}", None, None, &token).unwrap_err().contains("not a JSON Web Key Set"));
    }
}
