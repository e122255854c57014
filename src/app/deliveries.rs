//! Delivers events to webhooks in the background, on the replica whose work that is.

use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::App;
use crate::storage::{StorageError, webhook_positions};
use crate::telemetry::metric_names::WEBHOOK_BACKLOG;
use crate::webhooks::delivery::Deliverer;

impl App {
    /// What delivers to webhooks.
    #[must_use]
    pub fn deliverer(&self) -> Deliverer<'_> {
        Deliverer {
            clock: &self.clock,
            database: &self.database,
            keystore: &self.keystore,
            courier: &self.courier,
        }
    }
}

/// Goes on until it is dropped, or this replica stops: then it delivers what it has begun.
pub async fn deliver_webhooks(app: Arc<App>) {
    let mut look = tokio::time::interval(EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut running = JoinSet::new();
    loop {
        tokio::select! {
            _ = look.tick() => {}
            () = app.background.retired() => break,
        }
        while running.try_join_next().is_some() {}
        // The database may be away for a while; readiness and every request say so already.
        match tokio::time::timeout(LONGEST_LOOK, begin(&app, &mut running)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "webhooks could not be looked at; it is tried again"),
            Err(_) => tracing::warn!("looking at webhooks took too long; it is tried again"),
        }
    }
    running.join_all().await;
}

/// Starts to deliver to each endpoint that waits, one slow endpoint beside the others.
async fn begin(app: &Arc<App>, running: &mut JoinSet<()>) -> Result<(), StorageError> {
    let mut tx = app.database.begin().await?;
    let backlog = webhook_positions::count_backlog(&mut tx).await?;
    drop(tx);
    gauge!(WEBHOOK_BACKLOG).set(backlog as f64);
    while backlog > 0 && running.len() < MOST_AT_ONCE {
        let Some(turn) = app.background.turn() else { break };
        let Some(leased) = app.deliverer().lease().await? else { break };
        let app = Arc::clone(app);
        running.spawn(async move {
            let webhook = leased.webhook;
            if let Err(error) = app.deliverer().deliver_while(leased, || turn.goes_on()).await {
                tracing::error!(%error, webhook.id = %webhook, "could not deliver to webhook {webhook}");
            }
        });
    }
    Ok(())
}

/// How soon an event sets out.
const EVERY: Duration = Duration::from_secs(1);

/// Longer than the database works on any statement of it.
const LONGEST_LOOK: Duration = Duration::from_secs(30);

/// Endpoints that one replica delivers to at the same time.
const MOST_AT_ONCE: usize = 16;
