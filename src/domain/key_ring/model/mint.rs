//! Mints against a revocation, with PostgreSQL's snapshots made explicit: why the lock, and why a statement of its own.

use std::fmt::Debug;
use std::hash::Hash;

use stateright::{Checker, HasDiscoveries, Model, Property};

/// How a mint reads which key is active.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Reading {
    /// The shared lock first, then a statement whose snapshot is taken afterwards.
    LockThenRead,
    /// One statement locks and reads: its snapshot is from before the wait.
    OneStatement,
    /// No lock.
    Unlocked,
}

/// Two mints and one revocation, which makes the standby active.
struct Protocol(Reading);

const MINTS: usize = 2;

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Kid {
    Compromised,
    Standby,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Database {
    /// What is committed.
    active: Kid,
    mints: [Mint; MINTS],
    revocation: Revocation,
    /// The first rule that a commit broke.
    broken: Option<&'static str>,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Mint {
    Begun,
    /// Its statement has a snapshot and waits for the lock.
    Waiting(Kid),
    /// Holds the lock, has not read.
    Locked,
    /// Has read, and recorded what it is going to sign.
    Recorded(Kid),
    Committed(Kid),
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Revocation {
    Begun,
    /// Holds the lock exclusively; its change is not committed.
    Locked,
    Committed,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Step {
    Advance(usize),
    Revoke,
}

impl Database {
    fn is_shared(&self) -> bool {
        self.mints.iter().any(|mint| matches!(mint, Mint::Locked | Mint::Recorded(_)))
    }

    fn is_done(&self) -> bool {
        self.revocation == Revocation::Committed
            && self.mints.iter().all(|mint| matches!(mint, Mint::Committed(_)))
    }

    fn advance(&mut self, index: usize, reading: Reading) -> Option<()> {
        let is_free = self.revocation != Revocation::Locked;
        self.mints[index] = match (self.mints[index], reading) {
            (Mint::Begun, Reading::Unlocked) => Mint::Recorded(self.active),
            (Mint::Begun, Reading::OneStatement) => Mint::Waiting(self.active),
            (Mint::Waiting(seen), _) if is_free => Mint::Recorded(seen),
            (Mint::Begun, Reading::LockThenRead) if is_free => Mint::Locked,
            (Mint::Locked, _) => Mint::Recorded(self.active),
            (Mint::Recorded(kid), _) => {
                if kid != self.active {
                    let is_revoked = self.revocation == Revocation::Committed;
                    self.broken.get_or_insert(if is_revoked { "S6 and S7" } else { "S6" });
                }
                Mint::Committed(kid)
            }
            _ => return None,
        };
        Some(())
    }

    fn revoke(&mut self, reading: Reading) -> Option<()> {
        match self.revocation {
            // Mints that take no lock do not hold it off.
            Revocation::Begun if reading == Reading::Unlocked || !self.is_shared() => {
                self.revocation = Revocation::Locked;
            }
            Revocation::Locked => {
                self.revocation = Revocation::Committed;
                self.active = Kid::Standby;
            }
            _ => return None,
        }
        Some(())
    }
}

impl Model for Protocol {
    type State = Database;
    type Action = Step;

    fn init_states(&self) -> Vec<Database> {
        vec![Database {
            active: Kid::Compromised,
            mints: [Mint::Begun; MINTS],
            revocation: Revocation::Begun,
            broken: None,
        }]
    }

    fn actions(&self, _: &Database, steps: &mut Vec<Step>) {
        steps.extend((0..MINTS).map(Step::Advance));
        steps.push(Step::Revoke);
    }

    fn next_state(&self, database: &Database, step: Step) -> Option<Database> {
        let mut next = database.clone();
        match step {
            Step::Advance(index) => next.advance(index, self.0)?,
            Step::Revoke => next.revoke(self.0)?,
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("S6 and S7", |_, database: &Database| database.broken.is_none()),
            Property::always("nobody waits forever", |protocol: &Self, database: &Database| {
                let mut steps = vec![];
                protocol.actions(database, &mut steps);
                database.is_done()
                    || steps.into_iter().any(|step| protocol.next_state(database, step).is_some())
            }),
            Property::sometimes("one signs before and one after", |_, database: &Database| {
                database.mints.contains(&Mint::Committed(Kid::Compromised))
                    && database.mints.contains(&Mint::Committed(Kid::Standby))
            }),
        ]
    }
}

#[test]
fn no_mint_commits_under_a_revoked_key() {
    let checked =
        Protocol(Reading::LockThenRead).checker().finish_when(HasDiscoveries::All).spawn_bfs().join();
    checked.assert_properties();
}

#[test]
fn without_the_lock_or_with_one_statement_a_mint_commits_under_a_revoked_key() {
    for reading in [Reading::OneStatement, Reading::Unlocked] {
        let checked = Protocol(reading).checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
        let path = checked.assert_any_discovery("S6 and S7");
        println!("{reading:?}: {:?}", path.into_actions());
    }
}
