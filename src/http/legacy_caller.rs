//! Who asks on the older surface: a license key alone, and what headers tell of the installation.

use std::net::IpAddr;

use actix_web::HttpRequest;
use uuid::Uuid;

use super::authentication::{Claimed, client_address, slow_down};
use super::error::ApiError;
use crate::app::App;
use crate::domain::credential::{Credential, CredentialKind};
use crate::domain::ids::InstanceUid;
use crate::issuing::CallerProof;
use crate::storage::instance_credentials;

/// What the headers of a request tell.
#[derive(Clone, Debug)]
pub(crate) struct LegacyCaller {
    pub(crate) address: IpAddr,
    /// `X-Gitlab-Instance-Id`
    pub(crate) instance_id: Option<String>,
    /// `X-Gitlab-Host-Name`
    pub(crate) hostname: Option<String>,
}

impl LegacyCaller {
    /// # Errors
    /// 429 where too many attempts from the address failed before.
    pub(crate) fn of(app: &App, request: &HttpRequest) -> Result<Self, ApiError> {
        let address = client_address(app, request);
        app.failed_authentications.admit(address, None).map_err(slow_down)?;
        let header = |name: &str| {
            let value = request.headers().get(name).and_then(|value| value.to_str().ok()).map(str::trim);
            value.filter(|text| (1..=255).contains(&text.len())).map(str::to_owned)
        };
        Ok(Self {
            address,
            instance_id: header("x-gitlab-instance-id"),
            hostname: header("x-gitlab-host-name"),
        })
    }

    /// Whose the license key claims to be. An unknown key, and one that another installation than its own sends,
    /// claim to be of an instance that does not exist: whoever is asked next does the same work for each.
    ///
    /// # Errors
    /// 401 for what was never a license key; 429; 503.
    pub(crate) async fn claim(&self, app: &App, license_key: &str) -> Result<Claimed, ApiError> {
        let Some(key) = Credential::parse(CredentialKind::LicenseKey, license_key) else {
            app.failed_authentications.failed(self.address, None);
            return Err(ApiError::unauthenticated(CHALLENGE));
        };
        let digest = app.keystore.digest(&key);
        let nobody = InstanceUid::from(Uuid::from_u128(u128::from_be_bytes(first_half(&digest))));
        app.failed_authentications.admit(self.address, Some(nobody.as_uuid())).map_err(slow_down)?;
        let mut connection = app.database.begin().await?;
        let found =
            instance_credentials::find_by_license_key(&mut connection, &digest, self.instance_id.as_deref())
                .await?;
        let proof = CallerProof::Secret { uid: found.unwrap_or(nobody), digest };
        Ok(Claimed { proof, address: self.address })
    }

    /// Counts a license key that did not do: against the address, and against the key from there.
    pub(crate) fn failed(&self, app: &App, claimed: &Claimed) -> ApiError {
        let CallerProof::Secret { digest, .. } = &claimed.proof else {
            return ApiError::unauthenticated(CHALLENGE);
        };
        let key = Uuid::from_u128(u128::from_be_bytes(first_half(digest)));
        app.failed_authentications.failed(self.address, Some(key));
        metrics::counter!(crate::telemetry::metric_names::AUTHENTICATION_FAILURES, "surface" => "older instances")
            .increment(1);
        ApiError::unauthenticated(CHALLENGE)
    }
}

fn first_half(digest: &[u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    half
}

const CHALLENGE: &str = "LicenseKey realm=\"instances\"";
