//! What the verdicts of a process on its probes are worth.
//!
//! A process is asked about each key several times, and some of the questions are forged.
//! Only one that really verifies can tell which.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::key_ring::Kid;

/// The probes of one beat.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProbeSet {
    pub issued_at: DateTime<Utc>,
    pub probes: Vec<Probe>,
}

/// One question, without its token.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Probe {
    pub nonce: Uuid,
    pub kid: Kid,
    /// Whether the key really signed it.
    pub is_genuine: bool,
}

/// What a process says about one probe.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Verdict {
    pub kid: Kid,
    pub nonce: Uuid,
    pub accepted: bool,
}

/// What the verdicts of one beat show.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Judgement {
    /// Every true probe of these keys was accepted, and no forged one.
    pub proved: BTreeSet<Kid>,
    /// A true probe of these keys was refused.
    pub refused: BTreeSet<Kid>,
    /// Forged probes of these keys were accepted: the process verifies nothing.
    pub deceived: BTreeSet<Kid>,
    /// The places of those verdicts that answer no question of ours.
    pub foreign: Vec<usize>,
}

/// Verdicts on the probes of so many beats count: a beat whose answer was lost is sent again.
pub const REMEMBERED_BEATS: usize = 3;

/// How long a probe lives: longer than the beats that are remembered.
pub const PROBE_LIFE: TimeDelta = TimeDelta::minutes(5);

impl Judgement {
    /// Judges the verdicts of a beat on the probes of the last ones.
    ///
    /// A key is proved by one set of probes as a whole; what is missing of it proves nothing.
    #[must_use]
    pub fn of(asked: &[ProbeSet], verdicts: &[Verdict]) -> Self {
        let mut said: BTreeMap<(Uuid, Kid), bool> = BTreeMap::new();
        let mut judgement = Self::default();
        let is_ours = |verdict: &Verdict| {
            let mut probes = asked.iter().flat_map(|set| &set.probes);
            probes.any(|probe| (probe.nonce, probe.kid) == (verdict.nonce, verdict.kid))
        };
        for (place, verdict) in verdicts.iter().enumerate() {
            if !is_ours(verdict) {
                judgement.foreign.push(place);
                continue;
            }
            // Said twice in two ways, it is no verdict: the acceptance counts, which hurts where it is wrong.
            *said.entry((verdict.nonce, verdict.kid)).or_default() |= verdict.accepted;
        }
        for set in asked {
            let mut by_key: BTreeMap<Kid, Vec<(bool, Option<bool>)>> = BTreeMap::new();
            for probe in &set.probes {
                let verdict = said.get(&(probe.nonce, probe.kid)).copied();
                by_key.entry(probe.kid).or_default().push((probe.is_genuine, verdict));
            }
            for (kid, answers) in by_key {
                if answers.contains(&(false, Some(true))) {
                    judgement.deceived.insert(kid);
                }
                if answers.contains(&(true, Some(false))) {
                    judgement.refused.insert(kid);
                } else if answers.iter().all(|(is_genuine, verdict)| *verdict == Some(*is_genuine)) {
                    judgement.proved.insert(kid);
                }
            }
        }
        let Self { proved, refused, deceived, .. } = &mut judgement;
        proved.retain(|kid| !refused.contains(kid) && !deceived.contains(kid));
        judgement
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_accepts_the_true_and_refuses_the_forged_has_proved_anything() {
        let asked = [set(1)];
        let judged = |accept: fn(&Probe) -> bool| Judgement::of(&asked, &verdicts(&asked[0], accept));
        let honest = judged(|probe| probe.is_genuine);
        assert_eq!(honest, Judgement { proved: [kid(1), kid(2)].into(), ..Judgement::default() });
        let credulous = judged(|_| true);
        assert_eq!(credulous, Judgement { deceived: [kid(1), kid(2)].into(), ..Judgement::default() });
        let deaf = judged(|_| false);
        assert_eq!(deaf, Judgement { refused: [kid(1), kid(2)].into(), ..Judgement::default() });
        let lacks_the_second = judged(|probe| probe.is_genuine && probe.kid == kid(1));
        assert_eq!((lacks_the_second.proved, lacks_the_second.refused), ([kid(1)].into(), [kid(2)].into()));
    }

    #[test]
    fn a_stub_passes_by_no_pattern_that_leaves_the_signature_out() {
        // Whatever is accepted by place alone is wrong for some set of the same shape.
        let asked = [set(1), set(2)];
        let by_place = |set: &ProbeSet| -> Vec<Verdict> {
            let places = set.probes.iter().enumerate();
            places
                .map(|(place, probe)| Verdict {
                    kid: probe.kid,
                    nonce: probe.nonce,
                    accepted: place % 4 == 0,
                })
                .collect()
        };
        let verdicts: Vec<_> = asked.iter().flat_map(by_place).collect();
        assert!(Judgement::of(&asked, &verdicts).proved.is_empty());
    }

    #[test]
    fn what_is_missing_proves_nothing() {
        let asked = [set(1)];
        let mut verdicts = verdicts(&asked[0], |probe| probe.is_genuine);
        verdicts.retain(|verdict| verdict.kid == kid(1));
        verdicts.pop();
        assert_eq!(Judgement::of(&asked, &verdicts), Judgement::default());
    }

    #[test]
    fn a_verdict_on_another_nonce_or_key_is_foreign() {
        let asked = [set(1)];
        let mut verdicts = verdicts(&asked[0], |probe| probe.is_genuine);
        verdicts[0].nonce = Uuid::from_u128(99);
        verdicts[5].kid = kid(1);
        let judgement = Judgement::of(&asked, &verdicts);
        assert_eq!(judgement.foreign, [0, 5]);
        assert!(judgement.proved.is_empty());
    }

    #[test]
    fn of_two_answers_to_one_question_the_acceptance_counts() {
        let asked = [set(1)];
        let mut verdicts = verdicts(&asked[0], |probe| probe.is_genuine);
        let forged = asked[0].probes.iter().find(|probe| !probe.is_genuine).unwrap();
        verdicts.push(Verdict { kid: forged.kid, nonce: forged.nonce, accepted: true });
        assert_eq!(Judgement::of(&asked, &verdicts).deceived, [forged.kid].into());
    }

    fn kid(n: u8) -> Kid {
        Kid::new([n; 32])
    }

    /// Four probes of each of two keys, in an order of its own.
    fn set(n: u128) -> ProbeSet {
        let probes = (0..8).map(|place| Probe {
            nonce: Uuid::from_u128(n * 100 + place),
            kid: kid(if place < 4 { 1 } else { 2 }),
            is_genuine: (place + n).is_multiple_of(3),
        });
        ProbeSet { issued_at: DateTime::UNIX_EPOCH, probes: probes.collect() }
    }

    fn verdicts(set: &ProbeSet, accept: fn(&Probe) -> bool) -> Vec<Verdict> {
        let said = |probe: &Probe| Verdict { kid: probe.kid, nonce: probe.nonce, accepted: accept(probe) };
        set.probes.iter().map(said).collect()
    }
}
