//! `token explain`: why a token was issued as it was, from the ledger and from what was recorded then.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use token_authority_verifier::Unverified;

use super::read_token;
use crate::cli::database::open_migrated;
use crate::cli::output::{print, print_json, print_table};
use crate::cli::runtime::block_on;
use crate::cli::{CliError, Format, GlobalArgs};
use crate::config::Settings;
use crate::domain::catalog::Catalog;
use crate::domain::entitlement::{Decision, Explanation, Situation, decide};
use crate::domain::ids::Jti;
use crate::storage::issued_tokens::{self, IssuanceFilter, IssuedTokenRow};
use crate::storage::{StorageError, catalogs, facts};

/// Explain why a token was issued so: each of its scopes, and what was left out, as things were recorded then.
///
/// Reads the deployment's database. Verifies nothing: a token is only looked up by its `jti`, and compared with what
/// the ledger says of that.
#[derive(Args, Debug)]
pub(crate) struct ExplainArgs {
    /// The token, its `jti`, or `-` to read one of them from the standard input.
    #[arg(value_name = "TOKEN|JTI|-")]
    token: String,
}

impl ExplainArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let settings = global.settings()?;
        let asked = Asked::of(&read_token(self.token)?)?;
        let document = block_on(explain(&settings, &asked))?;
        match global.format {
            Format::Json => print_json(&document),
            Format::Table => document.print(),
        }
    }
}

/// What is asked about: an entry of the ledger, and perhaps what a token says of itself.
struct Asked {
    jti: Jti,
    claims: Option<Value>,
}

impl Asked {
    fn of(text: &str) -> Result<Self, CliError> {
        if let Ok(jti) = text.parse() {
            return Ok(Self { jti, claims: None });
        }
        let decoded = Unverified::decode(text)
            .map_err(|refusal| CliError::refused(format!("{}: {refusal}", refusal.code())))?;
        let claims: Value = serde_json::from_str(decoded.payload())
            .map_err(|_| CliError::refused("the token's payload is no JSON: it is none of ours"))?;
        let jti = claims["jti"].as_str().and_then(|jti| jti.parse().ok());
        let jti = jti.ok_or_else(|| CliError::refused("the token's `jti` is none of ours"))?;
        Ok(Self { jti, claims: Some(claims) })
    }
}

async fn explain(settings: &Settings, asked: &Asked) -> Result<Document, CliError> {
    let database = open_migrated(settings).await?;
    let doing = || CliError::fault("could not read the ledger");
    let mut tx = database.begin().await.map_err(doing())?;
    let filter = IssuanceFilter { jti: Some(asked.jti), ..IssuanceFilter::default() };
    let rows = issued_tokens::list(&mut tx, &filter, None, 1).await.map_err(doing())?;
    let row = rows.into_iter().next().ok_or_else(|| {
        CliError::refused(format!(
            "no token {} was issued here, or its month is gone from the ledger",
            asked.jti
        ))
    })?;
    let decided_at = decided_at(&row);
    let situation = facts::find_situation_as_recorded(&mut tx, row.instance_uid, decided_at).await;
    let gone =
        || CliError::fault("could not explain")(StorageError::corrupt("the ledger names what is not there"));
    let situation = situation.map_err(doing())?.ok_or_else(gone)?;
    let digest = row.catalog_digest.parse().map_err(|_| gone())?;
    let catalog =
        catalogs::find_by_digest(&mut tx, &digest).await.map_err(doing())?.ok_or_else(gone)?.catalog;
    let grace = TimeDelta::days(i64::from(settings.grace_days));
    let decision = decide(&catalog, &situation, grace, decided_at);
    Ok(Document::new(&row, asked, &catalog, &situation, &decision))
}

/// When it was decided: the ledger keeps the second that the token tells, its `jti` the millisecond. What was recorded
/// within that millisecond was there before.
fn decided_at(row: &IssuedTokenRow) -> DateTime<Utc> {
    let made = row.jti.as_uuid().get_timestamp().and_then(|made| {
        let (seconds, nanoseconds) = made.to_unix();
        DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanoseconds)
    });
    made.map_or(row.issued_at, |made| (made + TimeDelta::microseconds(999)).max(row.issued_at))
}

#[derive(Serialize)]
struct Document {
    jti: String,
    instance_uid: String,
    backend: String,
    audience: String,
    issued_at: String,
    expires_at: String,
    kid: String,
    catalog: String,
    seats: Option<i64>,
    /// Where a token was given: the claims in which it says something else than the ledger. It was altered then, or it
    /// is forged.
    #[serde(skip_serializing_if = "Option::is_none")]
    contradictions: Option<Vec<&'static str>>,
    /// What is in the token.
    granted: Vec<Reason>,
    /// What this backend hosts and the instance was not granted.
    left_out: Vec<Reason>,
}

#[derive(Serialize)]
struct Reason {
    unit_primitive: String,
    code: String,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Document {
    fn new(
        row: &IssuedTokenRow,
        asked: &Asked,
        catalog: &Catalog,
        situation: &Situation,
        decision: &Decision,
    ) -> Self {
        let (mut granted, mut left_out) = (Vec::new(), Vec::new());
        for entitlement in &decision.entitlements {
            let primitive = &catalog.unit_primitives()[entitlement.unit_primitive];
            let Explanation { code, detail, remedy } = Explanation::of(catalog, situation, entitlement);
            let name = primitive.name.to_string();
            let is_in = row.scopes.contains(&name);
            let mut hosts = primitive.backend_services.iter().filter_map(|host| catalog.backend(host));
            // The audiences of a joint token have spaces between them.
            let hosted = hosts.any(|host| row.audience.split(' ').any(|one| one == host.audience.as_str()));
            let reason = Reason { unit_primitive: name, code: code.into_owned(), detail, remedy };
            match (is_in, entitlement.verdict.is_granted()) {
                (true, _) => granted.push(reason),
                (false, false) if hosted => left_out.push(reason),
                (false, _) => {}
            }
        }
        let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Secs, true);
        Self {
            jti: row.jti.to_string(),
            instance_uid: row.instance_uid.to_string(),
            backend: row.backend.clone(),
            audience: row.audience.clone(),
            issued_at: time(row.issued_at),
            expires_at: time(row.expires_at),
            kid: row.kid.clone(),
            catalog: row.catalog_digest.clone(),
            seats: row.seats,
            contradictions: asked.claims.as_ref().map(|claims| contradictions(row, claims)),
            granted,
            left_out,
        }
    }

    fn print(&self) -> Result<(), CliError> {
        let row = |name: &str, value: &str| [name.to_owned(), value.to_owned()];
        let mut rows = vec![
            row("jti", &self.jti),
            row("instance", &self.instance_uid),
            row("for", &self.audience),
            row("issued", &format!("{}, until {}", self.issued_at, self.expires_at)),
            row("signed by", &self.kid),
            row("decided by catalog", &self.catalog),
        ];
        if let Some(contradictions) = self.contradictions.as_ref().filter(|found| !found.is_empty()) {
            rows.push(row(
                "ALTERED OR FORGED",
                &format!("the ledger says otherwise of {}", contradictions.join(", ")),
            ));
        }
        print_table(&["token", ""], rows)?;
        print("")?;
        let reason = |is: &str, reason: &Reason| {
            let remedy = reason.remedy.as_ref().map(|remedy| format!(" {remedy}")).unwrap_or_default();
            [
                reason.unit_primitive.clone(),
                is.to_owned(),
                reason.code.clone(),
                format!("{}{remedy}", reason.detail),
            ]
        };
        let granted = self.granted.iter().map(|one| reason("in it", one));
        print_table(
            &["unit primitive", "is", "since", "as it was then"],
            granted.chain(self.left_out.iter().map(|one| reason("left out", one))),
        )
    }
}

/// The claims in which a token says something else than the ledger.
fn contradictions(row: &IssuedTokenRow, claims: &Value) -> Vec<&'static str> {
    let texts = |value: &Value| -> Vec<String> {
        let items = value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
        items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let audiences: Vec<String> = row.audience.split(' ').map(str::to_owned).collect();
    let checks = [
        ("aud", texts(&claims["aud"]) == audiences),
        ("exp", claims["exp"] == row.expires_at.timestamp()),
        ("gitlab_instance_uid", claims["gitlab_instance_uid"] == row.instance_uid.to_string()),
        ("iat", claims["iat"] == row.issued_at.timestamp()),
        ("scopes", texts(&claims["scopes"]) == row.scopes),
    ];
    checks.into_iter().filter(|(_, agrees)| !agrees).map(|(claim, _)| claim).collect()
}
