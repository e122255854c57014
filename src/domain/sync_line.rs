//! The line of one-time values by which two installations with one identity are noticed, and a lost answer is not.
//!
//! Each answer hands out a value, and the next request brings it back. A value names the one that the request had
//! brought: values form a tree, and one installation walks along one branch of it. An answer that was lost leaves a
//! twig that nobody takes. Two installations walk along two branches, and the second one to come back shows it.

/// A value that was handed out.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Link {
    pub id: LinkId,
    /// The value that the request brought which this one answers.
    pub parent: LinkId,
}

/// The random name of a value.
pub type LinkId = [u8; 16];

/// What a request that takes part brings along.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Brought {
    /// Nothing, or nothing that was ever handed out: its first time.
    Nothing,
    Value(Link),
}

/// What a value says of its installation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// It is the next one: from now on only it and what answers it are of the line.
    Continues,
    /// It does not go on from the newest one that came back: another installation did.
    Forks,
    /// It came before: an answer was lost.
    Repeats,
}

/// Judges a value against the newest one that came back; `None` where a line starts anew.
#[must_use]
pub fn judge(seen: Option<LinkId>, value: Link) -> Verdict {
    match seen {
        Some(seen) if value.id == seen => Verdict::Repeats,
        Some(seen) if value.parent != seen => Verdict::Forks,
        Some(_) | None => Verdict::Continues,
    }
}

impl Brought {
    /// The value that answers this one.
    #[must_use]
    pub fn next(self, id: LinkId) -> Link {
        match self {
            Self::Nothing => Link { id, parent: START },
            Self::Value(link) => Link { id, parent: link.id },
        }
    }
}

impl Link {
    /// The bytes that are sealed and handed out.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.id);
        bytes[16..].copy_from_slice(&self.parent);
        bytes
    }

    /// Reads what [`Link::to_bytes`] wrote.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (id, parent) = bytes.split_at_checked(16)?;
        Some(Self { id: id.try_into().ok()?, parent: parent.try_into().ok()? })
    }
}

/// The parent of a first value.
const START: LinkId = [0; 16];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What the service keeps, and how many values it has handed out.
    #[derive(Default)]
    struct Service {
        seen: Option<LinkId>,
        handed_out: u128,
        forks: u32,
    }

    impl Service {
        fn answer(&mut self, brought: Brought) -> Link {
            if let Brought::Value(link) = brought {
                match judge(self.seen, link) {
                    Verdict::Continues => self.seen = Some(link.id),
                    Verdict::Forks => self.forks += 1,
                    Verdict::Repeats => {}
                }
            }
            self.handed_out += 1;
            brought.next(self.handed_out.to_be_bytes())
        }
    }

    proptest! {
        /// However many answers are lost, and whenever.
        #[test]
        fn one_installation_is_never_taken_for_two(lost in prop::collection::vec(any::<bool>(), 0..60)) {
            let (mut service, mut holds) = (Service::default(), Brought::Nothing);
            for is_lost in lost {
                let value = service.answer(holds);
                if !is_lost {
                    holds = Brought::Value(value);
                }
            }
            prop_assert_eq!(service.forks, 0);
        }

        /// A copy that was made at any time: once both have come back with what they were given, it shows.
        #[test]
        fn two_installations_are_noticed_when_both_have_come_back(
            before in 0_usize..10,
            order in prop::collection::vec(any::<bool>(), 0..20),
        ) {
            let (mut service, mut original) = (Service::default(), Brought::Nothing);
            for _ in 0..before {
                original = Brought::Value(service.answer(original));
            }
            let mut installations = [original, original];
            let turns = order.into_iter().map(usize::from).chain([0, 1, 0, 1, 0, 1]);
            for turn in turns {
                installations[turn] = Brought::Value(service.answer(installations[turn]));
            }
            prop_assert!(service.forks > 0);
        }
    }

    #[test]
    fn a_line_that_starts_anew_takes_whatever_comes_first() {
        let link = Link { id: [2; 16], parent: [1; 16] };
        assert_eq!(judge(None, link), Verdict::Continues);
        assert_eq!(judge(Some([1; 16]), link), Verdict::Continues);
        assert_eq!(judge(Some([2; 16]), link), Verdict::Repeats);
        assert_eq!(judge(Some([3; 16]), link), Verdict::Forks);
        assert_eq!(Link::from_bytes(&link.to_bytes()), Some(link));
        assert_eq!(Link::from_bytes(&[0; 31]), None);
    }
}
