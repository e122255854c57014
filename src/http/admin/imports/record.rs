//! Reads one line of an import, and records what it says, by the same rules as the route that it stands for.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use sqlx::PgConnection;

use super::lines::Line;
use super::run::Sender;
use crate::domain::credential::Credential;
use crate::domain::ids::{CustomerId, SubscriptionId};
use crate::domain::import::{LineOutcome, RecordType};
use crate::fulfillment::imports::{self, Imported};
use crate::fulfillment::{Changed, Circumstances};
use crate::http::admin::change::Done;
use crate::http::admin::effects::EffectsView;
use crate::http::admin::resource::Resource;
use crate::http::admin::{add_on_purchases, customers, licenses, subscriptions};
use crate::http::body;
use crate::http::error::{ApiError, InvalidValue};
use crate::http::parameters::Invalid;
use crate::http::problems;
use crate::storage::{customers as customer_rows, subscriptions as subscription_rows};

/// What became of a line.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) outcome: LineOutcome,
    /// As it is told, less any secret.
    pub(super) result: Value,
    pub(super) secret: Option<Credential>,
}

/// A line that was read, as far as it could be.
#[derive(Debug, Default)]
pub(super) struct Words {
    record_type: Option<RecordType>,
    external_ref: Option<String>,
    members: Map<String, Value>,
}

impl Words {
    /// Reads a line.
    ///
    /// # Errors
    /// It is too long, no JSON object, or says not what it is and how another system calls it.
    pub(super) fn read(line: &Line, longest: usize) -> (Self, Result<(), ApiError>) {
        let mut words = Self::default();
        let outcome = words.read_line(line, longest);
        (words, outcome)
    }

    fn read_line(&mut self, line: &Line, longest: usize) -> Result<(), ApiError> {
        let Some(content) = &line.content else {
            let detail = format!("A line may have {longest} bytes at the most.");
            return Err(ApiError::refused(&problems::TOO_LARGE, detail));
        };
        self.members = match serde_json::from_slice(content) {
            Ok(Value::Object(members)) => members,
            Ok(_) => {
                let detail = "a line must be an object".to_owned();
                let wrong = InvalidValue { pointer: String::new(), code: "wrong_type", detail };
                return Err(ApiError::invalid(vec![wrong]));
            }
            Err(error) => return Err(body::malformed(&error)),
        };
        let mut invalid = Invalid::default();
        let record_type = self.members.remove("type");
        self.record_type = match record_type.as_ref().map(Value::as_str) {
            // As the admin API calls them in full.
            Some(Some("purchase")) => Some(RecordType::AddOnPurchase),
            Some(Some(word)) => invalid.parse("/type", word),
            Some(None) => {
                invalid.add("/type", "wrong_type", "must be a string");
                None
            }
            None => invalid.present("/type", None),
        };
        match self.members.get("external_ref") {
            Some(Value::String(text)) => self.external_ref = invalid.name("/external_ref", text.clone()),
            Some(Value::Null) | None => {
                invalid.add("/external_ref", "missing", "is required: by it the record is found again");
            }
            Some(_) => invalid.add("/external_ref", "wrong_type", "must be a string"),
        }
        invalid.done()
    }

    /// What a refusal of this line is told as.
    pub(super) fn refused(&self, sender: &Sender, line: i64, refusal: &ApiError) -> Told {
        let problem = refusal.document(sender.desk.app.issuer(), sender.desk.request_id.as_str());
        let mut result = self.named(line, LineOutcome::Refused);
        result["problem"] = serde_json::to_value(problem).unwrap_or_default();
        Told { outcome: LineOutcome::Refused, result, secret: None }
    }

    fn named(&self, line: i64, outcome: LineOutcome) -> Value {
        let mut result = json!({ "line": line, "outcome": outcome.as_str() });
        if let Some(record_type) = self.record_type {
            result["type"] = record_type.as_str().into();
        }
        if let Some(external_ref) = &self.external_ref {
            result["external_ref"] = external_ref.clone().into();
        }
        result
    }

    /// Records what a line says, with its row in the audit.
    ///
    /// # Errors
    /// What the route of this kind of record would refuse; a fault.
    pub(super) async fn record(
        &self,
        sender: &Sender,
        connection: &mut PgConnection,
        circumstances: &Circumstances<'_>,
        line: i64,
    ) -> Result<Told, ApiError> {
        let (Some(record_type), Some(external_ref)) = (self.record_type, self.external_ref.as_deref()) else {
            return Err(ApiError::fault("a line without its type and reference"));
        };
        let members = self.members.clone();
        let because = |sender: &Sender| format!("import {}, line {line}", sender.id);
        match record_type {
            RecordType::Customer => {
                let new = customers::parse_new(members_as(members)?)?;
                let imported = imports::customer(connection, circumstances, external_ref, new).await?;
                self.told(sender, connection, line, imported, "customer.create", because).await
            }
            RecordType::Subscription => {
                let members = customer_of(connection, members).await?;
                let new = subscriptions::parse_new(members_as(members)?)?;
                let imported = imports::subscription(connection, circumstances, external_ref, new).await?;
                let imported = match imported {
                    Imported::Created(changed) => Imported::Created(changed),
                    Imported::Unchanged(row) => {
                        return Ok(self.unchanged(line, &row.id.to_string()));
                    }
                };
                self.told(sender, connection, line, imported, "subscription.create", because).await
            }
            RecordType::AddOnPurchase => {
                let (members, subscription) = subscription_of(connection, members).await?;
                let new = add_on_purchases::parse_new(members_as(members)?)?;
                let imported =
                    imports::purchase(connection, circumstances, external_ref, subscription, new).await?;
                self.told(sender, connection, line, imported, "add_on_purchase.create", because).await
            }
            RecordType::License => {
                let (mut members, subscription) = subscription_of(connection, members).await?;
                members.insert("subscription_id".to_owned(), subscription.to_string().into());
                let new = licenses::parse_new(members_as(members)?)?;
                let imported = imports::license(connection, circumstances, external_ref, new).await?;
                self.told(sender, connection, line, imported, "license.create", because).await
            }
        }
    }

    async fn told<R: Resource, C: Into<Done<R>>>(
        &self,
        sender: &Sender,
        connection: &mut PgConnection,
        line: i64,
        imported: Imported<R, C>,
        action: &'static str,
        because: impl FnOnce(&Sender) -> String,
    ) -> Result<Told, ApiError> {
        let done = match imported {
            Imported::Created(created) => created.into().because(because(sender)),
            Imported::Unchanged(row) => return Ok(self.unchanged(line, &row.id())),
        };
        sender.desk.remember(connection, &sender.caller, action, &done).await?;
        let (Changed { after, effects, .. }, secret) = done.into_parts();
        let mut result = self.named(line, LineOutcome::Created);
        result["id"] = after.id().into();
        if !effects.gained.is_empty() || !effects.lost.is_empty() {
            result["effects"] = serde_json::to_value(EffectsView::from(effects)).map_err(ApiError::fault)?;
        }
        Ok(Told { outcome: LineOutcome::Created, result, secret })
    }

    fn unchanged(&self, line: i64, id: &str) -> Told {
        let mut result = self.named(line, LineOutcome::Unchanged);
        result["id"] = id.into();
        Told { outcome: LineOutcome::Unchanged, result, secret: None }
    }
}

fn members_as<T: DeserializeOwned>(members: Map<String, Value>) -> Result<T, ApiError> {
    body::from_members(members).map_err(ApiError::invalid)
}

/// Puts the id of the customer where a line names it by its reference.
async fn customer_of(
    connection: &mut PgConnection,
    mut members: Map<String, Value>,
) -> Result<Map<String, Value>, ApiError> {
    if let Some(external_ref) = reference(&mut members, "customer")? {
        let found = customer_rows::find_id_by_external_ref(connection, &external_ref).await?;
        let id: CustomerId = found.ok_or_else(|| unknown("customer", &external_ref))?;
        members.insert("customer_id".to_owned(), id.to_string().into());
    }
    Ok(members)
}

/// The subscription that a line names by its reference or its id, and what else it says.
async fn subscription_of(
    connection: &mut PgConnection,
    mut members: Map<String, Value>,
) -> Result<(Map<String, Value>, SubscriptionId), ApiError> {
    if let Some(external_ref) = reference(&mut members, "subscription")? {
        let found = subscription_rows::find_id_by_external_ref(connection, &external_ref).await?;
        let id = found.ok_or_else(|| unknown("subscription", &external_ref))?;
        return Ok((members, id));
    }
    let mut invalid = Invalid::default();
    let id = match members.remove("subscription_id") {
        Some(Value::String(id)) => invalid.parse::<SubscriptionId>("/subscription_id", &id),
        Some(_) => {
            invalid.add("/subscription_id", "wrong_type", "must be a string");
            None
        }
        None => {
            invalid.add("/subscription_external_ref", "missing", "is required, or subscription_id");
            None
        }
    };
    let id = id.ok_or_else(|| invalid.refuse())?;
    match subscription_rows::find(connection, id).await? {
        Some(_) => Ok((members, id)),
        None => {
            let detail = format!("{id} is no subscription");
            let pointer = "/subscription_id".to_owned();
            Err(ApiError::invalid(vec![InvalidValue { pointer, code: "unknown", detail }]))
        }
    }
}

/// How a line names the record that it belongs to, unless it does so by the id.
fn reference(members: &mut Map<String, Value>, kind: &str) -> Result<Option<String>, ApiError> {
    let member = format!("{kind}_external_ref");
    let pointer = format!("/{member}");
    let mut invalid = Invalid::default();
    let reference = match members.remove(&member) {
        None => return Ok(None),
        Some(Value::String(text)) => invalid.name(&pointer, text),
        Some(_) => {
            invalid.add(&pointer, "wrong_type", "must be a string");
            None
        }
    };
    if members.contains_key(&format!("{kind}_id")) {
        invalid.add(&pointer, "invalid", format!("cannot stand beside {kind}_id"));
    }
    invalid.done()?;
    Ok(reference)
}

fn unknown(kind: &str, external_ref: &str) -> ApiError {
    let detail =
        format!("no {kind} has the external_ref {external_ref}; a line may name only what came before");
    let pointer = format!("/{kind}_external_ref");
    ApiError::invalid(vec![InvalidValue { pointer, code: "unknown", detail }])
}
