//! `admin-token create`: the first credential of the admin API, from which others are made.

use chrono::{DateTime, TimeDelta, Utc};
use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;

use super::database::open_migrated;
use super::keystore::open_keystore;
use super::output::{print, print_json};
use super::runtime::block_on;
use super::{CliError, Format, GlobalArgs};
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::admin_scope::AdminScope;
use crate::domain::ids::AuditEventId;
use crate::fulfillment::admin_tokens::{NewAdminToken, create};
use crate::storage::admin_tokens::AdminTokenRow;
use crate::storage::audit_events::{self, NewAuditEvent};

/// Make credentials of the admin API.
#[derive(Debug, Subcommand)]
pub(crate) enum AdminTokenArgs {
    /// Make a token and show it, this once: what is stored is its digest.
    Create(CreateArgs),
}

#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// Who is to use it; the audit names it.
    #[arg(long)]
    name: String,
    /// What it may do; may be given several times. Everything when it is not given.
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<AdminScope>,
    /// In how many days it expires. Never when it is not given.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u16).range(1..=3650))]
    expires_in_days: Option<u16>,
}

impl AdminTokenArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let Self::Create(args) = self;
        let settings = global.settings()?;
        let made = block_on(args.create(&settings))?;
        match global.format {
            Format::Json => print_json(&made),
            Format::Table => print(&format!(
                "Made the admin token `{}` with {}. It is shown only here:\n\n{}",
                made.name,
                made.scopes.join(", "),
                made.token
            )),
        }
    }
}

/// The answer. Its `Debug` would show the token, so it has none.
#[derive(Serialize)]
struct Made {
    id: String,
    name: String,
    scopes: Vec<&'static str>,
    expires_at: Option<DateTime<Utc>>,
    token: String,
}

impl CreateArgs {
    async fn create(self, settings: &Settings) -> Result<Made, CliError> {
        let name = self.name.trim();
        if name.is_empty() || name.chars().count() > LONGEST_NAME || name.chars().any(char::is_control) {
            return Err(CliError::refused(format!(
                "`--name` must be 1 to {LONGEST_NAME} printable characters"
            )));
        }
        let database = open_migrated(settings).await?;
        let keystore = open_keystore(settings, &database).await?;
        let now = Clock::system().now();
        let new = NewAdminToken {
            name: name.to_owned(),
            scopes: if self.scopes.is_empty() { AdminScope::ALL.to_vec() } else { self.scopes },
            expires_at: self.expires_in_days.map(|days| now + TimeDelta::days(days.into())),
        };
        let mut tx = database.begin().await.map_err(CliError::fault("could not record the token"))?;
        let (made, credential) = create(&mut tx, &keystore, now, None, new)
            .await
            .map_err(CliError::fault("could not make the token"))?;
        let row = made.after;
        audit_events::insert(&mut tx, &audit_event(&row, &row.id.to_string(), now))
            .await
            .map_err(CliError::fault("could not record the token"))?;
        tx.commit().await.map_err(CliError::fault("could not record the token"))?;
        Ok(Made {
            id: row.id.to_string(),
            name: row.name,
            scopes: row.scopes.iter().map(|scope| scope.as_str()).collect(),
            expires_at: row.expires_at,
            token: credential.expose().to_owned(),
        })
    }
}

/// What the audit remembers of a new token.
pub(super) fn audit_event<'a>(row: &AdminTokenRow, id: &'a str, now: DateTime<Utc>) -> NewAuditEvent<'a> {
    NewAuditEvent {
        id: AuditEventId::generate(now),
        at: now,
        actor: ACTOR,
        action: "admin_token.create",
        subject_kind: "admin_token",
        subject_id: id,
        reason: None,
        before: None,
        after: Some(json!({
            "name": row.name,
            "scopes": row.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(),
            "expires_at": row.expires_at,
        })),
        request_id: None,
    }
}

/// Whoever may run commands on this deployment; the operating system knows more.
const ACTOR: &str = "command_line";

const LONGEST_NAME: usize = 255;
