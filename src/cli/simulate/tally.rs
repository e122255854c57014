//! What a simulated fleet saw.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// Sums over all instances.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Tally {
    pub(super) instances: u64,
    /// Syncs that were answered with tokens, and whose answer arrived.
    pub(super) syncs: u64,
    /// Syncs that were answered, and whose answer was lost.
    pub(super) lost_answers: u64,
    /// Requests that were not answered at all: the service was away, or too slow.
    pub(super) unanswered: u64,
    pub(super) restarts: u64,
    /// By code.
    pub(super) refusals: BTreeMap<String, u64>,
    /// Instances that were told that another one uses their identity.
    pub(super) contested: u64,
    /// The longest time that any instance was without a valid token after its first, in milliseconds.
    pub(super) worst_gap_ms: u64,
    /// How many instances were ever without one.
    pub(super) instances_with_a_gap: u64,
}

impl Tally {
    /// Adds what one instance saw.
    pub(super) fn add(&mut self, one: Self, gap: Duration) {
        self.instances += 1;
        self.syncs += one.syncs;
        self.lost_answers += one.lost_answers;
        self.unanswered += one.unanswered;
        self.restarts += one.restarts;
        self.contested += one.contested;
        for (code, times) in one.refusals {
            *self.refusals.entry(code).or_default() += times;
        }
        let gap = u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
        self.worst_gap_ms = self.worst_gap_ms.max(gap);
        self.instances_with_a_gap += u64::from(gap > 0);
    }

    pub(super) fn rows(&self) -> Vec<Vec<String>> {
        let row = |what: &str, how_much: u64| vec![what.to_owned(), how_much.to_string()];
        let mut rows = vec![
            row("instances", self.instances),
            row("syncs with tokens", self.syncs),
            row("lost answers", self.lost_answers),
            row("requests without an answer", self.unanswered),
            row("restarts", self.restarts),
            row("instances taken for copies", self.contested),
        ];
        rows.extend(self.refusals.iter().map(|(code, times)| row(&format!("refused: {code}"), *times)));
        rows.push(row("worst gap without a valid token (ms)", self.worst_gap_ms));
        rows.push(row("instances with a gap", self.instances_with_a_gap));
        rows
    }
}
