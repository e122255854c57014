//! `cloudActivationActivate`: an activation code becomes a license key.

use std::sync::Arc;

use async_graphql::{Context, InputObject, Object, Result, SimpleObject};

use super::access::instant;
use super::{OneCredential, refusal, refused};
use crate::activation::{self, Activation, ActivationError, Bearer, Circumstances};
use crate::app::App;
use crate::domain::credential::{Credential, CredentialKind};
use crate::domain::ids::InstanceId;
use crate::domain::instance::Deployment;
use crate::domain::version::Version;
use crate::http::error::ApiError;
use crate::http::legacy_caller::LegacyCaller;
use crate::http::request_id::RequestId;
use crate::storage::StorageError;
use crate::storage::subscriptions::{self, FutureSubscriptionRow};

/// What can be changed.
pub(crate) struct Mutation;

#[Object]
impl Mutation {
    /// Activates an installation, or activates it again: with a new license key.
    #[graphql(complexity = "50 + child_complexity")]
    async fn cloud_activation_activate(
        &self,
        context: &Context<'_>,
        input: CloudActivationActivateInput,
    ) -> Result<CloudActivationActivatePayload> {
        let client_mutation_id = input.client_mutation_id.clone();
        match activate(context, input).await {
            Ok(activated) => Ok(CloudActivationActivatePayload { client_mutation_id, ..activated }),
            // The payload has a member for what stands against it, which is where older instances look.
            Err(Refused::Told(why)) => Ok(CloudActivationActivatePayload {
                license_key: None,
                future_subscriptions: Vec::new(),
                new_subscription: None,
                errors: vec![why],
                client_mutation_id,
            }),
            Err(Refused::Request(error)) => Err(error),
        }
    }
}

/// What an installation sends.
#[derive(InputObject)]
struct CloudActivationActivateInput {
    activation_code: String,
    /// The id that the installation gave itself: a UUID.
    instance_identifier: String,
    /// A second id of the installation.
    unique_instance_id: Option<String>,
    /// Whether a program activates, and no person; nothing depends on it.
    #[graphql(name = "automated")]
    _automated: Option<bool>,
    gitlab_version: Option<String>,
    hostname: Option<String>,
    client_mutation_id: Option<String>,
}

#[derive(SimpleObject)]
struct CloudActivationActivatePayload {
    /// Shown here only. The credential of this one installation.
    license_key: Option<String>,
    /// Of the same customer, those that start later.
    future_subscriptions: Vec<FutureSubscription>,
    /// Whether the installation is new under this license.
    new_subscription: Option<bool>,
    errors: Vec<String>,
    client_mutation_id: Option<String>,
}

#[derive(SimpleObject)]
struct FutureSubscription {
    cloud_license_enabled: bool,
    offline_cloud_license_enabled: bool,
    plan: String,
    company: String,
    email: Option<String>,
    name: String,
    starts_at: String,
    expires_at: String,
    users_in_license_count: i32,
}

impl From<FutureSubscriptionRow> for FutureSubscription {
    fn from(row: FutureSubscriptionRow) -> Self {
        Self {
            cloud_license_enabled: true,
            offline_cloud_license_enabled: false,
            plan: row.license_type,
            company: row.customer.clone(),
            email: row.email,
            name: row.customer,
            starts_at: instant(row.starts_at),
            expires_at: instant(row.ends_at),
            users_in_license_count: row.seats,
        }
    }
}

/// Why there is no license key.
enum Refused {
    /// The request as a whole fails.
    Request(async_graphql::Error),
    /// Told in the payload.
    Told(String),
}

impl From<async_graphql::Error> for Refused {
    fn from(error: async_graphql::Error) -> Self {
        Self::Request(error)
    }
}

impl From<StorageError> for Refused {
    fn from(error: StorageError) -> Self {
        Self::Request(refused(&error.into()))
    }
}

async fn activate(
    context: &Context<'_>,
    input: CloudActivationActivateInput,
) -> std::result::Result<CloudActivationActivatePayload, Refused> {
    let app = context.data::<Arc<App>>()?;
    let caller = context.data::<LegacyCaller>()?;
    let request_id = context.data::<RequestId>()?;
    let told = |error: &ApiError| Refused::Told(error.detail().to_owned());

    // 1. Read it.
    let asked = match parse(&input, caller)? {
        Ok(asked) => asked,
        Err(()) => {
            app.failed_authentications.failed(caller.address, None);
            return Err(Refused::Told(UNKNOWN_CODE.to_owned()));
        }
    };
    context.data::<Arc<OneCredential>>()?.admit(app.keystore.digest(&asked.code))?;

    // 2. Activate.
    let circumstances = Circumstances { now: app.now(), grace: app.grace(), request_id: request_id.as_str() };
    let mut tx = app.database.begin().await?;
    let activated = match activation::activate(&mut tx, &app.keystore, asked, circumstances).await {
        Ok(activated) => activated,
        Err(ActivationError::UnknownCode) => {
            app.failed_authentications.failed(caller.address, None);
            return Err(Refused::Told(UNKNOWN_CODE.to_owned()));
        }
        Err(error) => {
            let error = ApiError::from(error);
            return Err(if !error.status().is_server_error() {
                told(&error)
            } else {
                Refused::Request(refused(&error))
            });
        }
    };
    let future = subscriptions::list_future_of_customer_of(
        &mut tx,
        activated.license.subscription_id,
        circumstances.now,
    )
    .await?;
    tx.commit().await.map_err(StorageError::from)?;

    // 3. Show the key, once.
    Ok(CloudActivationActivatePayload {
        license_key: activated.secret.map(|key| key.expose().to_owned()),
        future_subscriptions: future.into_iter().map(Into::into).collect(),
        new_subscription: Some(activated.is_new),
        errors: Vec::new(),
        client_mutation_id: None,
    })
}

/// The activation; `Err(())` within for a text that was never an activation code.
fn parse(
    input: &CloudActivationActivateInput,
    caller: &LegacyCaller,
) -> std::result::Result<std::result::Result<Activation, ()>, Refused> {
    let wrong =
        |member: &str, why: &str| Refused::Request(refusal("invalid_parameters", format!("{member}: {why}")));
    let instance_id: InstanceId =
        input.instance_identifier.parse().map_err(|_| wrong("instanceIdentifier", "must be a UUID"))?;
    let version: Version = input
        .gitlab_version
        .as_deref()
        .ok_or_else(|| wrong("gitlabVersion", "is required"))?
        .parse()
        .map_err(|_| wrong("gitlabVersion", "must be a version such as 17.6.1"))?;
    let fits = |text: &&str| (1..=255).contains(&text.chars().count()) && !text.contains('\0');
    let hostname = input.hostname.as_deref().or(caller.hostname.as_deref()).unwrap_or("unknown");
    let hostname =
        Some(hostname).filter(fits).ok_or_else(|| wrong("hostname", "must have 1 to 255 characters"))?;
    let unique_instance_id = input.unique_instance_id.as_deref();
    if unique_instance_id.is_some_and(|id| !fits(&id)) {
        return Err(wrong("uniqueInstanceId", "must have 1 to 255 characters"));
    }
    let Some(code) = Credential::parse(CredentialKind::ActivationCode, &input.activation_code) else {
        return Ok(Err(()));
    };
    Ok(Ok(Activation {
        code,
        instance_id,
        hostname: hostname.to_owned(),
        version,
        deployment: Deployment::SelfManaged,
        kind: None,
        key: None,
        bearer: Bearer::LicenseKey { unique_instance_id: unique_instance_id.map(str::to_owned) },
    }))
}

/// The same for a wrong one.
const UNKNOWN_CODE: &str = "The activation code is not valid.";
