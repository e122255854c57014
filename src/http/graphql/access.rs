//! `cloudConnectorAccess`: the joint token, and what there is.

use std::sync::Arc;

use async_graphql::{Context, Json, Object, Result, SimpleObject};

use super::super::legacy_caller::LegacyCaller;
use super::{OneCredential, refusal, refused};
use crate::app::App;
use crate::domain::catalog::Catalog;
use crate::domain::catalog::available_services::available_services;
use crate::domain::version::Version;
use crate::http::error::ApiError;
use crate::issuing::{CallerProof, SyncError, SyncRequest, TokenForm};

/// What can be read.
pub(crate) struct Query;

#[Object]
impl Query {
    /// The token of the instance whose license key this is, for everything that is granted now.
    #[graphql(complexity = "50 + child_complexity")]
    async fn cloud_connector_access(
        &self,
        context: &Context<'_>,
        license_key: String,
        gitlab_version: String,
    ) -> Result<CloudConnectorAccess> {
        let app = context.data::<Arc<App>>()?;
        let caller = context.data::<LegacyCaller>()?;
        let version: Version = gitlab_version
            .parse()
            .map_err(|error| refusal("invalid_parameters", format!("gitlabVersion: {error}")))?;
        let claimed = caller.claim(app, &license_key).await.map_err(|error| refused(&error))?;
        if let CallerProof::Secret { digest, .. } = &claimed.proof {
            context.data::<Arc<OneCredential>>()?.admit(*digest)?;
        }
        let asked = SyncRequest {
            caller: claimed.proof.clone(),
            version: Some(version),
            hostname: caller.hostname.clone(),
            usage: None,
            backends: None,
            scopes: None,
            form: TokenForm::Joint { lifetime: app.joint_token_lifetime() },
            explain: true,
            line: None,
            idempotency: None,
        };
        let answer = match app.issuing.sync(asked).await {
            Ok(answer) => answer,
            Err(SyncError::Unauthenticated) => return Err(refused(&caller.failed(app, &claimed))),
            Err(SyncError::Refused(obstacle)) => return Err(refusal(obstacle.code(), obstacle.detail())),
            Err(SyncError::Unavailable(why)) => return Err(refusal("unavailable", why)),
            Err(error @ (SyncError::Fault(_) | SyncError::NotGranted(_))) => {
                return Err(refused(&ApiError::fault(error)));
            }
        };
        let catalog = &answer.catalog.catalog;
        let realm = answer.explained.as_ref().map(|explained| explained.0.instance.realm);
        let services = realm.map(|realm| available_services(catalog, realm)).unwrap_or_default();
        Ok(CloudConnectorAccess {
            service_token: answer.tokens.first().map(|issued| ServiceToken {
                token: issued.token.clone(),
                expires_at: instant(issued.expires_at),
            }),
            available_services: services
                .into_iter()
                .map(|service| ServiceView {
                    name: service.name,
                    service_start_time: service.service_start_time.map(instant),
                    bundled_with: Json(serde_json::json!(service.bundled_with)),
                })
                .collect(),
            catalog: Json(public(catalog)?),
        })
    }
}

/// What an instance may use.
#[derive(SimpleObject)]
struct CloudConnectorAccess {
    /// Missing where nothing is granted.
    service_token: Option<ServiceToken>,
    available_services: Vec<ServiceView>,
    /// `backend_services`, `unit_primitives`, `add_ons` and `license_types`.
    catalog: Json<serde_json::Value>,
}

/// One token for all backends.
#[derive(SimpleObject)]
struct ServiceToken {
    token: String,
    /// ISO 8601
    expires_at: String,
}

/// The older view of what is sold.
#[derive(SimpleObject)]
#[graphql(name = "AvailableService")]
struct ServiceView {
    name: String,
    /// When free access ends; ISO 8601.
    service_start_time: Option<String>,
    /// For each add-on, the unit primitives that it brings.
    bundled_with: Json<serde_json::Value>,
}

fn public(catalog: &Catalog) -> Result<serde_json::Value> {
    let mut records: serde_json::Value =
        serde_json::from_str(catalog.canonical_json()).map_err(|error| refused(&ApiError::fault(error)))?;
    if let Some(records) = records.as_object_mut() {
        records.retain(|name, _| {
            ["backend_services", "unit_primitives", "add_ons", "license_types"].contains(&name.as_str())
        });
    }
    Ok(records)
}

pub(super) fn instant(at: chrono::DateTime<chrono::Utc>) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}
