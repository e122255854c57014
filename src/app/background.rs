//! The work that one replica does for all: who does it now, and how it is handed over.
//!
//! Every step is harmless when it is done twice, and safe whoever does it: the lease is there so that it is not done
//! twice all day. It lives in the database, so that a pooler, a failover or a host that is gone leave it as it is.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::MissedTickBehavior;
use uuid::Uuid;

use super::App;
use crate::domain::ids::RequestUuid;
use crate::storage::{StorageError, background_leases, webhook_positions};
use crate::telemetry::metric_names::BACKGROUND_WORK;

/// This replica's part in the work that one does for all.
pub struct Background {
    holder: Uuid,
    name: String,
    standing: watch::Sender<Standing>,
    turns: Arc<Semaphore>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Standing {
    /// Somebody else's, or nobody's yet.
    Elsewhere,
    /// Ours until then, by this process's own clock.
    Ours(Instant),
    /// This replica stops: never again.
    Retired,
}

/// A step of the work that has begun. A hand-over waits for its end.
#[derive(Debug)]
pub struct Turn {
    standing: watch::Receiver<Standing>,
    _permit: OwnedSemaphorePermit,
}

impl Turn {
    /// Whether the work is still this replica's: what is long asks between two parts.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        self.standing.borrow().is_ours()
    }
}

impl Standing {
    fn is_ours(self) -> bool {
        matches!(self, Self::Ours(until) if Instant::now() < until)
    }
}

impl Background {
    pub(super) fn new() -> Self {
        let host = nix::unistd::gethostname().unwrap_or_default();
        Self {
            holder: RequestUuid::generate(chrono::DateTime::UNIX_EPOCH).as_uuid(),
            name: format!("{}:{}", host.to_string_lossy(), std::process::id()),
            standing: watch::Sender::new(Standing::Elsewhere),
            turns: Arc::new(Semaphore::new(MOST_TURNS as usize)),
        }
    }

    /// Begins a step, if the work is this replica's.
    #[must_use]
    pub fn turn(&self) -> Option<Turn> {
        let permit = Arc::clone(&self.turns).try_acquire_owned().ok()?;
        let standing = self.standing.subscribe();
        let is_ours = standing.borrow().is_ours();
        is_ours.then_some(Turn { standing, _permit: permit })
    }

    /// Returns when this replica stops.
    pub(super) async fn retired(&self) {
        // The sender lives as long as this value.
        let _ = self.standing.subscribe().wait_for(|standing| *standing == Standing::Retired).await;
    }

    fn has_retired(&self) -> bool {
        *self.standing.borrow() == Standing::Retired
    }

    /// Returns whether the work was not this replica's before.
    fn set(&self, standing: Standing) -> bool {
        let mut is_new = false;
        self.standing.send_if_modified(|now| {
            if *now == Standing::Retired {
                return false;
            }
            is_new = standing.is_ours() && !now.is_ours();
            *now = standing;
            true
        });
        is_new
    }
}

impl App {
    /// Takes the work if nobody does it, or says that it is still this replica's. Called every few seconds by
    /// [`hold_background`].
    ///
    /// # Errors
    /// The database cannot be reached: what was this replica's stays so until its time is over.
    pub async fn hold_background_once(&self) -> Result<(), StorageError> {
        let background = &self.background;
        let asked = Instant::now();
        let mut tx = self.database.begin().await?;
        let is_ours =
            background_leases::take_or_renew(&mut tx, background.holder, &background.name, LEASE).await?;
        if is_ours && !background.standing.borrow().is_ours() {
            // Whoever had it may have died with endpoints in hand. If it lives, its next step finds its lease gone.
            webhook_positions::end_leases(&mut tx).await?;
        }
        tx.commit().await?;
        let standing = if is_ours { Standing::Ours(asked + LEASE) } else { Standing::Elsewhere };
        if background.set(standing) {
            tracing::info!("the work that one replica does for all is done here from now on");
        }
        gauge!(BACKGROUND_WORK).set(f64::from(u8::from(is_ours)));
        Ok(())
    }

    /// Begins no more steps, waits for those that have begun, and gives the work to whoever asks next.
    pub async fn hand_background_over(&self) {
        let was_ours = self.background.standing.borrow().is_ours();
        self.background.set(Standing::Retired);
        let waiting = self.background.turns.acquire_many(MOST_TURNS);
        if tokio::time::timeout(self.settings.shutdown_timeout, waiting).await.is_err() {
            tracing::warn!("background work did not come to its end; another replica does it again");
        }
        gauge!(BACKGROUND_WORK).set(0.0);
        if !was_ours {
            return;
        }
        let released = async {
            let mut tx = self.database.begin().await?;
            background_leases::release(&mut tx, self.background.holder).await?;
            tx.commit().await.map_err(StorageError::from)
        };
        match released.await {
            Ok(()) => tracing::info!("the work that one replica does for all is handed over"),
            Err(error) => {
                tracing::info!(%error, "the background work could not be handed over; its lease runs out")
            }
        }
    }
}

/// Holds the work, or waits for it, until it is dropped or this replica stops.
pub async fn hold_background(app: Arc<App>) {
    let mut renew = tokio::time::interval(RENEW_EVERY);
    renew.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !app.background.has_retired() {
        renew.tick().await;
        let held = tokio::time::timeout(LEASE, app.hold_background_once()).await;
        // The database may be away for a while; readiness and every request say so already.
        match held {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the background work could not be held"),
            Err(_) => {
                tracing::warn!(
                    "the database says nothing for {} s; going on with new connections",
                    LEASE.as_secs()
                );
                app.database.renew_pool();
            }
        }
    }
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Background")
            .field("name", &self.name)
            .field("standing", &*self.standing.borrow())
            .finish()
    }
}

/// How long nobody does the work after its replica was killed, at most, and a renewal more.
const LEASE: Duration = Duration::from_secs(6);
const RENEW_EVERY: Duration = Duration::from_secs(2);

/// Far more than there are steps at the same time.
const MOST_TURNS: u32 = 1024;
