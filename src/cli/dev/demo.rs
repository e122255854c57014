//! The demonstration: a customer who bought something, an administrator's token, the backends.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use sqlx::PgConnection;

use super::CliError;
use super::data_directory::DataDirectory;
use super::state::{Credentials, State};
use crate::cli::admin_token;
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::admin_scope::AdminScope;
use crate::domain::backend::KeyTrust;
use crate::domain::catalog::Catalog;
use crate::domain::ids::AuditEventId;
use crate::domain::key_ring::Algorithm;
use crate::fulfillment::admin_tokens::{self, NewAdminToken};
use crate::fulfillment::backends::NewBackend;
use crate::fulfillment::{Circumstances, FulfillmentError, backends, demo};
use crate::keystore::Keystore;
use crate::storage::audit_events::{self, NewAuditEvent};
use crate::storage::{self, Database, StorageError, customers};

/// Who does this, for the audit.
const ACTOR: &str = "command_line:dev";

/// The deployment in which it takes place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demo<'a> {
    pub(super) clock: &'a Clock,
    pub(super) database: &'a Database,
    pub(super) keystore: &'a Keystore,
    pub(super) catalog: &'a Catalog,
    pub(super) settings: &'a Settings,
}

impl Demo<'_> {
    /// The credentials of the first start. Sells to the demo customer, and makes an administrator's token, when
    /// there are none, or when the start that wrote them down did not commit them.
    pub(super) async fn find_or_make(
        &self,
        directory: &DataDirectory,
        state: &mut State,
    ) -> Result<Credentials, CliError> {
        let mut tx = self.database.begin().await.map_err(fault)?;
        if let Some(credentials) = state.credentials() {
            let digest = self.keystore.digest(&credentials.admin_token);
            if storage::admin_tokens::find_by_digest(&mut tx, &digest).await.map_err(fault)?.is_some() {
                return Ok(credentials.clone());
            }
        }
        let credentials = self.make(&mut tx).await?;
        // Written down first: nobody can read them from the database afterwards.
        state.set_credentials(credentials.clone());
        state.save(directory)?;
        tx.commit().await.map_err(StorageError::from).map_err(fault)?;
        Ok(credentials)
    }

    /// Registers the backends of the catalog that are not yet, each with its keys compiled in.
    pub(super) async fn register_backends(&self) -> Result<(), CliError> {
        let circumstances = self.circumstances();
        let mut tx = self.database.begin().await.map_err(fault)?;
        for backend in self.catalog.backends() {
            if storage::backends::find(&mut tx, &backend.name).await.map_err(fault)?.is_some() {
                continue;
            }
            let new = NewBackend {
                name: backend.name.clone(),
                alg: Algorithm::EdDsa,
                trust: KeyTrust::Embedded,
                min_live: 1,
            };
            let made = backends::create(&mut tx, &circumstances, new).await.map_err(refusal_or_fault)?;
            let row = made.after;
            let record =
                json!({ "alg": row.alg.as_str(), "trust": row.trust.as_str(), "min_live": row.min_live });
            let event = event("backend.create", "backend", row.name.as_str(), record, made.at);
            audit_events::insert(&mut tx, &event).await.map_err(fault)?;
        }
        tx.commit().await.map_err(StorageError::from).map_err(fault)
    }

    async fn make(&self, connection: &mut PgConnection) -> Result<Credentials, CliError> {
        let circumstances = self.circumstances();
        let now = self.clock.now();
        let activation_code = match demo::sell(&mut *connection, &circumstances).await {
            Err(FulfillmentError::Conflict { existing: Some(_), .. }) => {
                return Err(CliError::refused(
                    "the credentials of the demo customer were lost with the directory's `dev.json`; start anew \
                     with `--reset`",
                ));
            }
            sold => sold.map_err(refusal_or_fault)?,
        };
        let customer =
            customers::find_id_by_external_ref(connection, demo::EXTERNAL_REF).await.map_err(fault)?;
        let customer = customer.map_or_else(String::new, |id| id.to_string());
        let record = json!({ "external_ref": demo::EXTERNAL_REF });
        let sold = event("demo.sell", "customer", &customer, record, now);
        audit_events::insert(connection, &sold).await.map_err(fault)?;

        let new =
            NewAdminToken { name: "dev".to_owned(), scopes: AdminScope::ALL.to_vec(), expires_at: None };
        let (made, admin_token) = admin_tokens::create(connection, self.keystore, now, None, new)
            .await
            .map_err(refusal_or_fault)?;
        let id = made.after.id.to_string();
        let event = NewAuditEvent { actor: ACTOR, ..admin_token::audit_event(&made.after, &id, now) };
        audit_events::insert(connection, &event).await.map_err(fault)?;
        Ok(Credentials { activation_code, admin_token })
    }

    fn circumstances(&self) -> Circumstances<'_> {
        Circumstances {
            clock: self.clock,
            catalog: self.catalog,
            environment: self.settings.environment.as_str(),
            grace: TimeDelta::days(self.settings.grace_days.into()),
            keystore: self.keystore,
        }
    }
}

fn event<'a>(
    action: &'a str,
    subject_kind: &'a str,
    subject_id: &'a str,
    after: serde_json::Value,
    at: DateTime<Utc>,
) -> NewAuditEvent<'a> {
    NewAuditEvent {
        id: AuditEventId::generate(at),
        at,
        actor: ACTOR,
        action,
        subject_kind,
        subject_id,
        reason: None,
        before: None,
        after: Some(after),
        request_id: None,
    }
}

fn fault(error: StorageError) -> CliError {
    CliError::fault("could not set up the demonstration")(error)
}

fn refusal_or_fault(error: FulfillmentError) -> CliError {
    match error {
        FulfillmentError::Storage(error) => fault(error),
        error => CliError::fault("could not set up the demonstration")(error),
    }
}
