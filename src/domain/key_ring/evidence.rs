//! What the fleet of backends has shown, and whether it suffices to let a key sign.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Algorithm, Key, Kid, Purpose};
use crate::domain::words::words;

/// After this long without a report a process no longer counts as running.
pub const FORGET_AFTER: TimeDelta = TimeDelta::hours(1);

/// How much longer than its `max-age` a discovering backend may hold an old JWKS:
/// shared caches and clients that pin it for a day exist.
pub const DISCOVERY_MARGIN: TimeDelta = TimeDelta::hours(24);

/// Everything known of the processes that verify tokens, read once per decision.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Fleet {
    pub backends: Vec<Backend>,
}

/// A registered verifier of tokens.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Backend {
    pub name: String,
    pub alg: Algorithm,
    pub trust: Trust,
    /// How many live processes must have proved a key before it may sign.
    pub min_live: u32,
    pub processes: Vec<Process>,
    /// Builds checked in the deployment pipeline (`key-set check-deploy --record`),
    /// which speak for a backend that is scaled to zero.
    pub checked_builds: BTreeMap<Kid, DateTime<Utc>>,
}

/// How a backend learns of keys.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Trust {
    /// From the key set compiled into it; it reports and proves.
    Embedded,
    /// From the JWKS on the network, which it may keep for `max_age`.
    Discovery { max_age: TimeDelta },
}

/// One running copy of a backend.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Process {
    pub id: String,
    pub standing: Standing,
    pub last_seen: DateTime<Utc>,
    /// Per key: when it last accepted a true probe and refused every forged one.
    pub proofs: BTreeMap<Kid, DateTime<Utc>>,
}

words! {
    /// Whether a process still counts.
    Standing {
        /// An administrator named it, with a reason.
        Forgotten => "forgotten",
        Running => "running",
        SignedOff => "signed_off",
    }
}

/// Something that keeps a key from signing.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Blocker {
    /// A running process has not proved the key since it was armed.
    Process { backend: String, process: String },
    /// Fewer live processes than the backend's `min_live` have proved the key.
    TooFew { backend: String, proved: u32, needed: u32 },
    /// Nothing runs, and no build was checked since the key was armed.
    Unproven { backend: String },
    /// A discovering backend may still hold a JWKS from before the key.
    Cached { backend: String, until: DateTime<Utc> },
}

impl Blocker {
    /// The name by which an override accepts it: the backend, or `backend/process`.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Process { backend, process } => format!("{backend}/{process}"),
            Self::TooFew { backend, .. } | Self::Unproven { backend } | Self::Cached { backend, .. } => {
                backend.clone()
            }
        }
    }
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name();
        match self {
            Self::Process { .. } => write!(f, "{name} has not proved it"),
            Self::TooFew { proved, needed, .. } => {
                write!(f, "{name}: {proved} of at least {needed} live processes have proved it")
            }
            Self::Unproven { .. } => write!(f, "{name}: nothing runs, and no build was checked"),
            Self::Cached { until, .. } => write!(f, "{name} may hold an older JWKS until {until}"),
        }
    }
}

/// A process that reports no more, and may still serve.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SilentProcess {
    /// `backend/process`.
    pub name: String,
    /// When it was last heard of.
    pub since: DateTime<Utc>,
}

impl fmt::Display for SilentProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let since = self.since.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        write!(f, "{} (silent since {since})", self.name)
    }
}

/// Whether silence counts against a proof.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Silence {
    /// Rotation has time: only a process that still reports stands for `min_live`.
    Counts,
    /// In an emergency the last proof counts, however long ago: an outage of the
    /// reports must not keep a compromised key in use.
    IsForgiven,
}

impl Fleet {
    /// Who keeps `key` from signing; empty when every verifier of what it signs has
    /// shown that it holds the key.
    pub(super) fn blockers(&self, key: &Key, silence: Silence, now: DateTime<Utc>) -> BTreeSet<Blocker> {
        // While nobody reports, nobody falls silent either: an outage of the
        // reports stops the time in which processes are forgotten.
        let as_of = match silence {
            Silence::Counts => now,
            Silence::IsForgiven => self.last_sign_of_life().map_or(now, |seen| seen.min(now)),
        };
        let verifiers = self.backends.iter().filter(|backend| backend.verifies(key));
        verifiers
            .flat_map(|backend| match backend.trust {
                Trust::Embedded => backend.unproven(key, silence, as_of),
                Trust::Discovery { max_age } => backend.still_cached(key, max_age, now),
            })
            .collect()
    }

    /// Who keeps `key` from being activated now, as [`super::Command::Activate`] judges it.
    #[must_use]
    pub fn blocking(&self, key: &Key, now: DateTime<Utc>) -> BTreeSet<Blocker> {
        self.blockers(key, Silence::Counts, now)
    }

    /// Who keeps `key` from taking over in an emergency, where silence is forgiven.
    #[must_use]
    pub fn lacking(&self, key: &Key, now: DateTime<Utc>) -> BTreeSet<Blocker> {
        self.blockers(key, Silence::IsForgiven, now)
    }

    /// Processes that the gate passes over since they were silent for [`FORGET_AFTER`], and never proved the key since
    /// it was armed: should they serve all the same, they refuse what it signs until they are deployed anew.
    #[must_use]
    pub fn silent(&self, key: &Key, now: DateTime<Utc>) -> Vec<SilentProcess> {
        let embedded = self.backends.iter().filter(|one| one.trust == Trust::Embedded && one.verifies(key));
        let unproven = |process: &&Process| {
            let has_proved = key
                .armed_at
                .is_some_and(|armed_at| process.proofs.get(&key.kid).is_some_and(|at| *at > armed_at));
            process.standing == Standing::Running && now - process.last_seen >= FORGET_AFTER && !has_proved
        };
        embedded
            .flat_map(|backend| {
                backend.processes.iter().filter(unproven).map(|process| SilentProcess {
                    name: format!("{}/{}", backend.name, process.id),
                    since: process.last_seen,
                })
            })
            .collect()
    }

    fn last_sign_of_life(&self) -> Option<DateTime<Utc>> {
        self.backends.iter().flat_map(|backend| &backend.processes).map(|process| process.last_seen).max()
    }
}

impl Backend {
    /// Whether this backend meets what the key signs.
    fn verifies(&self, key: &Key) -> bool {
        match key.purpose {
            Purpose::AccessTokens => self.alg == key.alg,
            Purpose::DenyList => self.trust == Trust::Embedded,
            // Checkpoints are read by auditors.
            _ => false,
        }
    }

    fn unproven(&self, key: &Key, silence: Silence, as_of: DateTime<Utc>) -> Vec<Blocker> {
        let counts = |at: DateTime<Utc>| key.armed_at.is_some_and(|armed_at| at > armed_at);
        let has_proved = |process: &Process| process.proofs.get(&key.kid).copied().is_some_and(counts);
        let is_live = |process: &Process| as_of - process.last_seen < FORGET_AFTER;

        let running = || self.processes.iter().filter(|process| process.standing == Standing::Running);
        let mut blockers: Vec<_> = running()
            .filter(|process| is_live(process) && !has_proved(process))
            .map(|process| Blocker::Process { backend: self.name.clone(), process: process.id.clone() })
            .collect();

        let stands =
            |process: &&Process| has_proved(process) && (is_live(process) || silence == Silence::IsForgiven);
        let proved = u32::try_from(running().filter(stands).count()).unwrap_or(u32::MAX);
        let build_checked = self.checked_builds.get(&key.kid).copied().is_some_and(counts);
        if !running().any(is_live) && proved == 0 {
            if !build_checked {
                blockers.push(Blocker::Unproven { backend: self.name.clone() });
            }
        } else if proved < self.min_live {
            blockers.push(Blocker::TooFew { backend: self.name.clone(), proved, needed: self.min_live });
        }
        blockers
    }

    fn still_cached(&self, key: &Key, max_age: TimeDelta, now: DateTime<Utc>) -> Vec<Blocker> {
        let since = key.published.map_or(now, |published| published.at);
        let until = since + max_age + DISCOVERY_MARGIN;
        if now > until { vec![] } else { vec![Blocker::Cached { backend: self.name.clone(), until }] }
    }
}
