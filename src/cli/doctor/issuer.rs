//! The issuer's address: whether clients find this deployment there, and see its keys.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Deserialize;

use super::finding::{Finding, codes};
use crate::config::Settings;

/// What a discovering client reads first (OpenID Connect Discovery §3), as far as it is compared.
#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<NamedKey>,
}

#[derive(Deserialize)]
struct NamedKey {
    kid: String,
}

/// Long enough for a distant edge, short enough for a person who waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks as a client would. `published` are the kids that it must see; `None` where they could not be read.
pub(super) async fn examine(settings: &Settings, published: Option<&BTreeSet<String>>) -> Finding {
    let code = codes::ISSUER;
    let issuer = match settings.issuer() {
        Ok(issuer) => issuer.as_str(),
        Err(error) => return Finding::problem(code, error.to_string(), "set `issuer`: `serve` needs it"),
    };
    let (discovery, jwks) = match ask(issuer).await {
        Ok(seen) => seen,
        Err(error) => {
            return Finding::warning(
                code,
                format!("nobody was reached at {issuer}: {}", chain(&error)),
                "start the service and its edge; if this machine cannot reach the address, ask from one that can",
            );
        }
    };
    if discovery.issuer != issuer {
        return Finding::problem(
            code,
            format!("{issuer} answers that it is `{}`", discovery.issuer),
            "let the address lead to this deployment, and let `issuer` be the same in all of its replicas",
        );
    }
    let seen: BTreeSet<String> = jwks.keys.into_iter().map(|key| key.kid).collect();
    match published {
        Some(published) if *published != seen => Finding::problem(
            code,
            format!(
                "{} shows {} keys, and the database has published {}, which differ",
                discovery.jwks_uri,
                seen.len(),
                published.len()
            ),
            "the address leads to another deployment, or a cache in between keeps an old answer",
        ),
        _ => Finding::good(code, format!("clients find {} keys at {issuer}", seen.len())),
    }
}

async fn ask(issuer: &str) -> Result<(Discovery, Jwks), reqwest::Error> {
    let client = reqwest::Client::builder().timeout(PATIENCE).build()?;
    let discovery: Discovery = client
        .get(format!("{issuer}/.well-known/openid-configuration"))
        .send()
        .await?
        .error_for_status()?
        .json()
        .await?;
    let jwks = client.get(&discovery.jwks_uri).send().await?.error_for_status()?.json().await?;
    Ok((discovery, jwks))
}

/// An error with what caused it: the outer one alone says only that something failed.
fn chain(error: &dyn std::error::Error) -> String {
    let mut says = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        says.push_str(": ");
        says.push_str(&source.to_string());
        next = source.source();
    }
    says
}
