//! A running service, as a backend's pipeline asks it.

use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use token_authority_verifier::build::Published;
use token_authority_verifier::{Digest, KeySet, SignedManifest, SignedRoot};
use url::Url;

use crate::cli::CliError;

/// The public side of the service at a URL.
#[derive(Clone, Debug)]
pub(super) struct Service {
    client: Client,
    url: Url,
}

/// What the service says about its key sets.
#[derive(Debug, Deserialize)]
pub(super) struct KeySets {
    pub(super) items: Vec<KeySetItem>,
    pub(super) head: u32,
    /// The lowest version with which a process may start.
    pub(super) floor: u32,
}

#[derive(Debug, Deserialize)]
pub(super) struct KeySetItem {
    pub(super) version: u32,
    pub(super) digest: Digest,
}

impl Service {
    pub(super) fn new(url: &Url) -> Result<Self, CliError> {
        let client = Client::builder()
            .user_agent(concat!("token-authority/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .timeout(PATIENCE)
            .build()
            .map_err(CliError::fault("could not prepare the connection"))?;
        Ok(Self { client, url: url.clone() })
    }

    /// Everything that an embedding needs. What comes is not believed: it is verified like files.
    pub(super) async fn published(&self, version: Option<u32>) -> Result<Published, CliError> {
        #[derive(Deserialize)]
        struct Document {
            manifest: Value,
            jwks: Value,
        }
        #[derive(Deserialize)]
        struct Roots {
            items: Vec<RootItem>,
        }
        #[derive(Deserialize)]
        struct RootItem {
            root: Value,
        }
        let version = version.map_or_else(|| "latest".to_owned(), |version| version.to_string());
        let document: Document = self.read(&format!("v1/key-sets/{version}")).await?;
        let roots: Roots = self.read("v1/roots").await?;
        // The files have one spelling, which their digests and signatures prove.
        let unfit = |what: &str| format!("{} does not answer with {what}", self.url);
        let manifest = SignedManifest::parse(document.manifest.to_string().as_bytes())
            .map_err(CliError::fault(unfit("a manifest")))?
            .to_canonical_json();
        let jwks = KeySet::parse(document.jwks.to_string().as_bytes())
            .map_err(CliError::fault(unfit("a key set")))?
            .to_canonical_json();
        let roots = roots.items.into_iter().map(|item| {
            let root = SignedRoot::parse(item.root.to_string().as_bytes())
                .map_err(CliError::fault(unfit("a root")))?;
            Ok(root.to_canonical_json().into_bytes())
        });
        Ok(Published {
            roots: roots.collect::<Result<_, CliError>>()?,
            manifest: manifest.into_bytes(),
            jwks: jwks.into_bytes(),
            deny_list: self.deny_list().await?,
        })
    }

    pub(super) async fn key_sets(&self) -> Result<KeySets, CliError> {
        self.read("v1/key-sets").await
    }

    /// The `iss` of its tokens.
    pub(super) async fn issuer(&self) -> Result<String, CliError> {
        #[derive(Deserialize)]
        struct Discovery {
            issuer: String,
        }
        Ok(self.read::<Discovery>(".well-known/openid-configuration").await?.issuer)
    }

    /// `None` from a service that has none to offer.
    async fn deny_list(&self) -> Result<Option<Vec<u8>>, CliError> {
        let (status, text) = self.answer(self.request(Method::GET, "v1/deny-list")?).await?;
        match status {
            StatusCode::OK => Ok(Some(text.into_bytes())),
            StatusCode::NOT_FOUND => Ok(None),
            _ => Err(self.refused(status, &text)),
        }
    }

    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        let request = self.request(Method::GET, path)?;
        self.json(request).await
    }

    /// The JSON of a good answer.
    pub(super) async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, CliError> {
        let (status, text) = self.answer(request).await?;
        if status != StatusCode::OK {
            return Err(self.refused(status, &text));
        }
        serde_json::from_str(&text)
            .map_err(CliError::fault(format!("{} does not answer as this program expects", self.url)))
    }

    pub(super) async fn answer(&self, request: RequestBuilder) -> Result<(StatusCode, String), CliError> {
        let unreachable = || CliError::fault(format!("could not reach {}", self.url));
        let response = request.send().await.map_err(unreachable())?;
        let status = response.status();
        Ok((status, response.text().await.map_err(unreachable())?))
    }

    pub(super) fn request(&self, method: Method, path: &str) -> Result<RequestBuilder, CliError> {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/{path}", self.url.path().trim_end_matches('/')));
        Ok(self.client.request(method, url))
    }

    pub(super) fn refused(&self, status: StatusCode, text: &str) -> CliError {
        let problem: Value = serde_json::from_str(text).unwrap_or_default();
        let said = |member: &str| problem[member].as_str().unwrap_or_default().to_owned();
        let why = [said("detail"), said("remedy")].join(" ");
        CliError::refused(format!("{} answered {status}: {}", self.url, why.trim()))
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
