//! Tells the issuer what runs here, proves which keys it believes, and follows the deny list.
//!
//! Nothing here is needed to serve: while the issuer cannot be reached, the backend goes on with what it has.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actix_web::rt::time::sleep;
use reqwest::{Client, StatusCode, Url};
use serde::{Deserialize, Serialize};
use token_authority_verifier::{LiveVerifier, Lock, OpenKeySet};

use crate::{embedded, now};

/// Whether this build may serve: unknown until the first report is answered, and good until then.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fitness(Arc<AtomicU32>);

impl Fitness {
    /// The floor, if this build is below it.
    pub(crate) fn below_floor(&self) -> Option<u32> {
        Some(self.0.load(Ordering::Relaxed)).filter(|floor| *floor > 0)
    }
}

/// Reports this process.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    client: Client,
    authority: Url,
    token: String,
    process_id: String,
    build: String,
    lock: Lock,
    verifier: Arc<LiveVerifier>,
    fitness: Fitness,
}

/// The verdict on one probe.
#[derive(Debug, Serialize)]
struct Verdict {
    kid: String,
    nonce: String,
    accepted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'static str>,
}

#[derive(Serialize)]
struct Report<'a> {
    build: &'a str,
    key_set_version: u32,
    key_set_digest: String,
    verifier: &'static str,
    algorithms: [&'static str; 1],
    deny_list_serial: Option<u64>,
    enforces: &'static [&'static str],
    probe_results: &'a [Verdict],
}

/// What the issuer answers. What else it says is not for this version.
#[derive(Debug, Deserialize)]
struct Beat {
    beat_seconds: u64,
    floor: u32,
    deny_list_serial: u64,
    probes: Vec<Probe>,
}

#[derive(Debug, Deserialize)]
struct Probe {
    kid: String,
    nonce: String,
    token: String,
}

impl Reporter {
    /// From `AUTHORITY_URL`, `BACKEND_TOKEN_FILE` and `BUILD`; `None` without the first.
    pub(crate) fn from_environment(
        keys: &OpenKeySet,
        verifier: Arc<LiveVerifier>,
        fitness: Fitness,
    ) -> Result<Option<Self>, Box<dyn Error>> {
        let Ok(authority) = std::env::var("AUTHORITY_URL") else { return Ok(None) };
        let token = std::fs::read_to_string(std::env::var("BACKEND_TOKEN_FILE")?)?;
        Ok(Some(Self {
            client: Client::builder().timeout(Duration::from_secs(10)).build()?,
            authority: authority.parse()?,
            token: token.trim().to_owned(),
            process_id: process_id(),
            build: std::env::var("BUILD").unwrap_or_else(|_| env!("CARGO_PKG_VERSION").to_owned()),
            lock: keys.lock().clone(),
            verifier,
            fitness,
        }))
    }

    /// Reports until it is told to stop.
    pub(crate) async fn run(self) {
        let mut verdicts = Vec::new();
        let mut first = true;
        let mut retry_seconds = SHORTEST_RETRY_SECONDS;
        loop {
            let wait = match self.beat(&verdicts, first).await {
                Ok(beat) => {
                    verdicts = self.judge(&beat.probes);
                    // The first verdicts are told at once: a deployment is proved in seconds.
                    let wait = if first { 1 } else { beat.beat_seconds };
                    first = false;
                    retry_seconds = SHORTEST_RETRY_SECONDS;
                    wait
                }
                Err(error) => {
                    tracing::warn!("could not report, going on with what there is: {error}");
                    // Verdicts that did not arrive are told again: the issuer remembers its last questions.
                    if !error.is::<reqwest::Error>() {
                        verdicts.clear();
                    }
                    let wait = retry_seconds;
                    retry_seconds = (retry_seconds * 2).min(LONGEST_RETRY_SECONDS);
                    wait
                }
            };
            sleep(Duration::from_secs(wait)).await;
        }
    }

    /// Says that this process serves no more.
    pub(crate) async fn sign_off(&self) {
        let Ok(url) = self.deployment() else { return };
        if let Err(error) = self.client.delete(url).bearer_auth(&self.token).send().await {
            tracing::warn!("could not sign off: {error}");
        }
    }

    async fn beat(&self, verdicts: &[Verdict], first: bool) -> Result<Beat, Box<dyn Error>> {
        let report = Report {
            build: &self.build,
            key_set_version: self.lock.key_set_version,
            key_set_digest: self.lock.key_set_digest.to_string(),
            verifier: "token-authority-verifier (Rust)",
            algorithms: ["EdDSA"],
            deny_list_serial: self.verifier.deny_list(now()).serial,
            enforces: embedded::ENFORCES,
            probe_results: verdicts,
        };
        let request = self.client.put(self.deployment()?).bearer_auth(&self.token).json(&report);
        let response = request.send().await?;
        if response.status() != StatusCode::OK {
            let status = response.status();
            return Err(format!("{status}: {}", response.text().await?).into());
        }
        let beat: Beat = response.json().await?;
        // Below the floor, a process does not begin to serve; one that serves already goes on.
        if first && self.lock.key_set_version < beat.floor {
            tracing::error!(
                "key set {} is below the floor {}: this process does not begin to serve",
                self.lock.key_set_version,
                beat.floor
            );
            self.fitness.0.store(beat.floor, Ordering::Relaxed);
        }
        // An unchanged list is signed anew every hour: an old one is a sign that the path is broken.
        let held = self.verifier.deny_list(now());
        let is_newer = held.serial.is_none_or(|serial| serial < beat.deny_list_serial);
        if is_newer || held.age.is_none_or(|age| age > DENY_LIST_AGE) {
            // The next beat tries again.
            if let Err(error) = self.fetch_deny_list().await {
                tracing::warn!("could not read the deny list, going on with the last one: {error}");
            }
        }
        Ok(beat)
    }

    /// The very function that verifies tokens, with the `typ` as the only difference.
    fn judge(&self, probes: &[Probe]) -> Vec<Verdict> {
        let judged = probes.iter().map(|probe| {
            let verdict = self.verifier.verify_probe(&probe.token, now());
            Verdict {
                kid: probe.kid.clone(),
                nonce: probe.nonce.clone(),
                accepted: verdict.is_ok(),
                detail: verdict.err().map(|refusal| refusal.code()),
            }
        });
        judged.collect()
    }

    async fn fetch_deny_list(&self) -> Result<(), Box<dyn Error>> {
        let response = self.client.get(self.authority.join("v1/deny-list")?).send().await?;
        let list = response.error_for_status()?.text().await?;
        self.verifier.take_deny_list(&list, now())?;
        Ok(())
    }

    fn deployment(&self) -> Result<Url, Box<dyn Error>> {
        let path = format!("v1/backends/{}/deployments/{}", embedded::BACKEND, self.process_id);
        Ok(self.authority.join(&path)?)
    }
}

/// New at each start: a process that was started again has to prove its keys again.
#[expect(clippy::disallowed_methods, reason = "a process names itself")]
fn process_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Twice as long after each failure, up to a usual beat.
const SHORTEST_RETRY_SECONDS: u64 = 1;
const LONGEST_RETRY_SECONDS: u64 = 30;
/// As often as the issuer signs it anew.
const DENY_LIST_AGE: Duration = Duration::from_secs(3600);
