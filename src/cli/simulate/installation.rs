//! One simulated instance: activates, syncs at a minute of its own, retries, loses answers, restarts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::fleet::Fleet;
use super::tally::Tally;
use crate::cli::CliError;
use crate::clock::Clock;
use crate::domain::ids::InstanceId;

/// What an instance has in its store, which survives a restart, and what it saw.
pub(super) struct Installation {
    fleet: Arc<Fleet>,
    number: usize,
    clock: Clock,
    uid: String,
    secret: String,
    interval: Duration,
    /// The value of the last answer that arrived.
    sync_value: Value,
    /// When the first of its tokens ends, on the service's clock; none before the first sync.
    covered_until: Option<DateTime<Utc>>,
    worst_gap: Duration,
    seen: Tally,
}

impl Installation {
    /// A whole life. Returns what it saw, and the longest time that it was without a valid token.
    pub(super) async fn live(fleet: Arc<Fleet>, number: usize) -> Result<(Tally, Duration), CliError> {
        let mut installation = Self::activated(fleet, number).await?;
        let (interval, intervals) = (installation.interval, installation.fleet.args.intervals);
        let begun = Instant::now();
        // A minute of its own: spread over the interval.
        let offset = interval * u32::from(installation.fleet.chance(number, 0, "offset")) / 1000;
        let mut turn = 0;
        while begun.elapsed() < interval * intervals {
            installation.sync(turn).await;
            turn += 1;
            let due = offset + interval * u32::try_from(turn).unwrap_or(u32::MAX).saturating_sub(1);
            tokio::time::sleep(due.saturating_sub(begun.elapsed()).max(interval / 10)).await;
        }
        installation.notice_gap(installation.clock.now());
        Ok((installation.seen, installation.worst_gap))
    }

    async fn activated(fleet: Arc<Fleet>, number: usize) -> Result<Self, CliError> {
        let clock = Clock::system();
        let body = json!({
            "activation_code": fleet.args.activation_code,
            "instance_id": InstanceId::generate(clock.now()),
            "hostname": format!("simulated-{number}.example.com"),
            "version": "17.6.1",
            "deployment": "self_managed",
        });
        let mut seen = Tally::default();
        for attempt in 0..RETRIES {
            let sent = fleet.client.post(fleet.address("/v1/instances")).json(&body).send().await;
            match sent {
                Ok(answer) if answer.status().is_success() => {
                    let answer: Value =
                        answer.json().await.map_err(CliError::fault("could not read an activation"))?;
                    let text = |name: &str| answer[name].as_str().unwrap_or_default().to_owned();
                    let seconds = answer["sync"]["interval_seconds"].as_u64().unwrap_or(3600).max(1);
                    return Ok(Self {
                        uid: text("instance_uid"),
                        secret: text("instance_secret"),
                        interval: Duration::from_secs(seconds),
                        sync_value: Value::Null,
                        covered_until: None,
                        worst_gap: Duration::ZERO,
                        fleet,
                        number,
                        clock,
                        seen,
                    });
                }
                Ok(answer) if answer.status().is_client_error() => {
                    let problem: Value = answer.json().await.unwrap_or_default();
                    let why = problem["detail"].as_str().unwrap_or("no reason was told");
                    return Err(CliError::refused(format!("instance {number} was not activated: {why}")));
                }
                Ok(_) | Err(_) => {
                    seen.unanswered += 1;
                    tokio::time::sleep(Duration::from_millis(200 * (attempt + 1))).await;
                }
            }
        }
        Err(CliError::refused("the service does not answer"))
    }

    /// One turn: up to three retries, as today's instances make them.
    async fn sync(&mut self, turn: u64) {
        let body = json!({
            "version": "17.6.1", "hostname": format!("simulated-{}.example.com", self.number),
            "usage": { "billable_users": turn }, "sync_value": self.sync_value,
        });
        for attempt in 0..=RETRIES_OF_A_SYNC {
            if attempt > 0 {
                tokio::time::sleep(self.interval / 20 * attempt).await;
            }
            let request = self.fleet.client.post(self.fleet.address("/v1/sync"));
            let sent = request.basic_auth(&self.uid, Some(&self.secret)).json(&body).send().await;
            let Ok(answer) = sent else {
                self.seen.unanswered += 1;
                continue;
            };
            let status = answer.status();
            let Ok(answer) = answer.json::<Value>().await else {
                self.seen.unanswered += 1;
                continue;
            };
            let chance = turn * 10 + u64::from(attempt);
            if self.fleet.chance(self.number, chance, "lost") < self.fleet.args.lost_per_mille {
                self.seen.lost_answers += 1;
                continue;
            }
            if status == StatusCode::OK {
                self.store(&answer);
                break;
            }
            let code = answer["code"].as_str().unwrap_or("unknown").to_owned();
            *self.seen.refusals.entry(code).or_default() += 1;
            if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
                break;
            }
        }
        if self.fleet.chance(self.number, turn, "restart") < self.fleet.args.restarts_per_mille {
            // What it had stored is what it starts with.
            self.seen.restarts += 1;
            tokio::time::sleep(self.interval / 4).await;
        }
    }

    fn store(&mut self, answer: &Value) {
        self.seen.syncs += 1;
        self.seen.contested += u64::from(answer["identity_contested"] == true);
        self.sync_value = answer["sync_value"].clone();
        let ends =
            answer["tokens"].as_array().into_iter().flatten().filter_map(|token| {
                token["expires_at"].as_str().and_then(|at| at.parse::<DateTime<Utc>>().ok())
            });
        let first_end = ends.min();
        self.notice_gap(self.clock.now());
        if let Some(end) = first_end {
            self.covered_until = Some(end);
        }
    }

    /// From the end of what it held until now it had nothing.
    fn notice_gap(&mut self, now: DateTime<Utc>) {
        if let Some(covered) = self.covered_until {
            self.worst_gap = self.worst_gap.max((now - covered).to_std().unwrap_or_default());
        }
    }
}

const RETRIES: u64 = 20;
const RETRIES_OF_A_SYNC: u32 = 3;
