//! The rules of the ring that a model check takes away one at a time, to see that each of them is needed.

/// A rule without which something goes wrong that no test of single commands would show.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Guard {
    /// Evidence from before a key was armed counts for nothing.
    ArmedAt,
    /// A retiring key stays until its last token is dead.
    Drain,
    /// Arming keeps builds from before the key from starting again.
    Floor,
    /// A key signs only once its verifiers have proved it.
    Gate,
    /// A kid never comes back.
    KidReuse,
    /// Whoever was ever seen is asked, not only who has shown up for this key.
    RememberedProcesses,
    /// Whoever signed stops when another starts.
    SingleActive,
    /// Only a proved standby takes over from a compromised key.
    StandbyReadiness,
}

/// Which rules hold: all of them, except in a model that wants to see what one is for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Guards {
    #[cfg(test)]
    without: Option<Guard>,
}

impl Guards {
    #[cfg(test)]
    pub(super) fn without(guard: Guard) -> Self {
        Self { without: Some(guard) }
    }

    #[cfg(test)]
    pub(super) fn keep(self, guard: Guard) -> bool {
        self.without != Some(guard)
    }

    #[cfg(not(test))]
    pub(super) const fn keep(self, _guard: Guard) -> bool {
        true
    }
}
