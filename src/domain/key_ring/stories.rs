//! The ring told as stories: each rule seen holding and each refusal seen.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::*;

#[test]
fn birth_makes_one_key_sign_and_keeps_one_beside_it() {
    let ring = born();
    assert_eq!(ring.active(SLOT).map(|key| key.kid), Some(kid(1)));
    assert_eq!(state(&ring, 2), KeyState::Published);
    assert_eq!((ring.head_version(), ring.floor(), ring.deny_list_serial()), (1, 1, 0));
}

#[test]
fn birth_is_over_once_a_token_was_issued_or_a_key_was_active() {
    let ring = published_pair();
    assert_eq!(code(&ring, Command::Birth { kid: kid(1), ever_issued: true }, T0), "keys/tokens_issued");

    let ring = apply(&born(), compromise([1]), T0);
    assert_eq!(code(&ring, Command::Birth { kid: kid(2), ever_issued: false }, T0), "keys/tokens_issued");
    let second = Command::Birth { kid: kid(2), ever_issued: false };
    assert_eq!(code(&born(), second, T0), "keys/already_active");
}

#[test]
fn a_key_is_not_born_alone() {
    let ring = apply(&KeyRing::default(), generate(1), T0);
    let ring = apply(&ring, publish(&ring, [1], []), T0);
    assert_eq!(code(&ring, Command::Birth { kid: kid(1), ever_issued: false }, T0), "keys/no_standby");
}

#[test]
fn a_whole_rotation_moves_both_keys_along_their_edges() {
    let ring = born();
    let ring = apply(&ring, Command::Arm { kid: kid(2) }, T0);
    assert_eq!(ring.floor(), 1);

    let (ring, events) = run(&ring, activate(2, 1, proved_by_all(2, at(1)), None), at(1));
    assert_eq!(
        events,
        [
            Event::Demoted { kid: kid(1) },
            Event::Denied { kid: kid(1), denial: Denial::IssuedAfter(at(1)) },
            Event::Activated { kid: kid(2), grounds: Grounds::Proved { silent: BTreeSet::new() } },
        ]
    );
    assert_eq!(ring.deny_list_serial(), 1);

    let drained = [(1, LastToken::ExpiresAt(at(10)))];
    let (ring, events) = run(&ring, publish(&ring, [], drained), at(11));
    assert_eq!(
        events,
        [
            Event::KeySetRecorded { version: 2 },
            Event::Retired { kid: kid(1) },
            Event::Denied { kid: kid(1), denial: Denial::Always },
        ]
    );
    assert_eq!(ring.active(SLOT).map(|key| key.kid), Some(kid(2)));
}

#[test]
fn a_key_no_backend_proved_cannot_become_active() {
    let ring = born();
    let nobody = Fleet { backends: vec![backend("ai_gateway", [process("a", at(1), [])])] };
    assert_eq!(code(&ring, activate(2, 1, nobody.clone(), None), at(1)), "keys/not_armed");
    let ring = apply(&ring, Command::Arm { kid: kid(2) }, T0);
    let refusal = step(&ring, activate(2, 1, nobody, None), at(1)).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        format!(
            "{} is not proved everywhere: ai_gateway/a has not proved it; \
             ai_gateway: 0 of at least 1 live processes have proved it",
            kid(2)
        )
    );
}

#[test]
fn a_proof_from_before_the_key_was_armed_counts_for_nothing() {
    let ring = apply(&born(), Command::Arm { kid: kid(2) }, at(5));
    for (proved_at, outcome) in [(4, Some("keys/not_ready")), (5, Some("keys/not_ready")), (6, None)] {
        let reporting = process("a", at(6), [(2, at(proved_at))]);
        let fleet = Fleet { backends: vec![backend("ai_gateway", [reporting])] };
        let refused = step(&ring, activate(2, 1, fleet, None), at(6)).err();
        assert_eq!(refused.map(|refusal| refusal.code()), outcome, "proved at {proved_at}");
    }
}

#[test]
fn one_process_that_runs_without_the_key_blocks_it_until_it_is_gone_for_an_hour() {
    let ring = apply(&born(), Command::Arm { kid: kid(2) }, T0);
    let fleet = |lagging: Process| Fleet {
        backends: vec![backend("ai_gateway", [process("new", at(9), [(2, at(1))]), lagging])],
    };
    let lagging = process("old", at(9), [(1, at(9))]);
    assert_eq!(code(&ring, activate(2, 1, fleet(lagging.clone()), None), at(9)), "keys/not_ready");
    for gone in [
        Process { standing: Standing::SignedOff, ..lagging.clone() },
        Process { standing: Standing::Forgotten, ..lagging.clone() },
        Process { last_seen: at(9) - FORGET_AFTER, ..lagging },
    ] {
        assert_eq!(state(&apply(&ring, activate(2, 1, fleet(gone), None), at(9)), 2), KeyState::Active);
    }
}

#[test]
fn a_backend_scaled_to_zero_is_proved_by_a_checked_build() {
    let ring = apply(&born(), Command::Arm { kid: kid(2) }, T0);
    let mut asleep = backend("ai_gateway", []);
    let fleet = |backend: &Backend| Fleet { backends: vec![backend.clone()] };
    assert_eq!(code(&ring, activate(2, 1, fleet(&asleep), None), at(1)), "keys/not_ready");
    asleep.checked_builds.insert(kid(2), at(1));
    assert_eq!(state(&apply(&ring, activate(2, 1, fleet(&asleep), None), at(1)), 2), KeyState::Active);
}

#[test]
fn a_discovering_backend_is_waited_for_until_no_cache_can_lack_the_key() {
    let ring = apply(&born(), Command::Arm { kid: kid(2) }, T0);
    let max_age = TimeDelta::hours(1);
    let discovering = Backend { trust: Trust::Discovery { max_age }, ..backend("edge", []) };
    let fleet = Fleet { backends: vec![discovering] };
    assert_eq!(code(&ring, activate(2, 1, fleet.clone(), None), at(25)), "keys/not_ready");
    assert_eq!(state(&apply(&ring, activate(2, 1, fleet, None), at(26)), 2), KeyState::Active);
}

#[test]
fn backends_of_another_algorithm_have_no_say() {
    let ring = apply(&born(), Command::Arm { kid: kid(2) }, T0);
    let other = Backend { alg: Algorithm::Rs256, ..backend("edge", [process("a", at(1), [])]) };
    let fleet = Fleet { backends: vec![other] };
    assert_eq!(state(&apply(&ring, activate(2, 1, fleet, None), at(1)), 2), KeyState::Active);
}

#[test]
fn an_override_has_to_name_every_blocker_and_is_remembered() {
    let ring = apply(&born(), Command::Arm { kid: kid(2) }, T0);
    let fleet = Fleet { backends: vec![backend("ai_gateway", [process("a", at(1), [])])] };
    let waiver = |names: &[&str]| {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Some(Waiver { names, reason: "known bad host".to_owned() })
    };
    let partly = activate(2, 1, fleet.clone(), waiver(&["ai_gateway/a"]));
    assert_eq!(code(&ring, partly, at(1)), "keys/not_ready");
    let (_, events) = run(&ring, activate(2, 1, fleet, waiver(&["ai_gateway/a", "ai_gateway"])), at(1));
    let grounds = events.iter().find_map(|event| match event {
        Event::Activated { grounds, .. } => Some(grounds),
        _ => None,
    });
    assert!(matches!(grounds, Some(Grounds::Overridden { blockers, .. }) if blockers.len() == 2));
}

#[test]
fn a_key_that_ends_before_the_next_rotation_does_not_start_to_sign() {
    let ring = apply(&born(), Command::Arm { kid: kid(2) }, T0);
    let late = not_after() - LEFT_AT_ACTIVATION + TimeDelta::seconds(1);
    assert_eq!(code(&ring, activate(2, 1, Fleet::default(), None), late), "keys/ends_too_soon");
    assert_eq!(code(&KeyRing::default(), generate(1), late), "keys/ends_too_soon");
}

#[test]
fn whoever_looked_before_the_head_moved_has_to_look_again() {
    let ring = apply(&born(), Command::Arm { kid: kid(2) }, T0);
    let ring = apply(&ring, generate(3), T0);
    let ring = apply(&ring, publish(&ring, [3], []), T0);
    assert_eq!(code(&ring, activate(2, 1, Fleet::default(), None), T0), "keys/head_moved");
}

#[test]
fn a_retiring_key_stays_until_its_last_token_is_dead() {
    let ring = apply(&born(), Command::Arm { kid: kid(2) }, T0);
    let ring = apply(&ring, activate(2, 1, Fleet::default(), None), T0);
    let last_moment = at(10) + LEEWAY;
    for (last_token, until) in [
        (LastToken::ExpiresAt(at(10)), last_moment),
        (LastToken::NeverIssued, T0 + LEEWAY),
        (LastToken::Unknown, T0 + TimeDelta::hours(72) + LEEWAY),
    ] {
        let retire = publish(&ring, [], [(1, last_token)]);
        assert_eq!(code(&ring, retire.clone(), until), "keys/not_drained");
        let ring = apply(&ring, retire, until + TimeDelta::microseconds(1));
        assert_eq!(state(&ring, 1), KeyState::Retired);
    }
}

#[test]
fn a_key_set_may_leave_out_only_what_was_drained() {
    let ring = born();
    for lost in [1, 2] {
        let lossy = publish(&ring, [], [(lost, LastToken::NeverIssued)]);
        assert_eq!(code(&ring, lossy, at(99)), "keys/key_left_out");
    }
}

#[test]
fn key_sets_come_in_order_and_each_names_the_one_before() {
    let ring = born();
    let Command::Publish(next) = publish(&ring, [], []) else { unreachable!("`publish` makes a Publish") };
    let skipping = KeySetRecord { version: 3, ..next.clone() };
    assert_eq!(code(&ring, Command::Publish(skipping), T0), "keys/version_out_of_order");
    let again = KeySetRecord { version: 1, digest: digest(99), ..next.clone() };
    assert_eq!(code(&ring, Command::Publish(again), T0), "keys/version_out_of_order");
    let forked = KeySetRecord { prev: Some(digest(99)), ..next.clone() };
    assert_eq!(code(&ring, Command::Publish(forked), T0), "keys/broken_chain");
    let stray = KeySetRecord { carried: [kid(1), kid(2), kid(9)].into(), ..next };
    assert_eq!(code(&ring, Command::Publish(stray), T0), "keys/unknown_kid");
}

#[test]
fn a_compromised_key_hands_over_to_the_ready_standby_at_once() {
    let ring = apply(&born(), Command::Arm { kid: kid(2) }, T0);
    let long_silent = Command::Compromise(Compromise {
        kids: [kid(1)].into(),
        fleet: proved_by_all(2, at(1)),
        without_standby: WithoutStandby::StopMinting,
    });
    let (ring, events) = run(&ring, long_silent, at(500));
    assert_eq!(
        events,
        [
            Event::Revoked { kid: kid(1) },
            Event::Denied { kid: kid(1), denial: Denial::Always },
            Event::Activated { kid: kid(2), grounds: Grounds::Succession },
        ]
    );
    assert_eq!(state(&ring, 1), KeyState::Revoked);
}

#[test]
fn without_a_ready_standby_minting_stops_unless_it_is_forced() {
    let (ring, events) = run(&born(), compromise([1]), T0);
    assert_eq!(ring.active(SLOT), None);
    assert_eq!(events.last(), Some(&Event::MintingStopped { slot: SLOT }));

    let force = Command::Compromise(Compromise {
        kids: [kid(1)].into(),
        fleet: Fleet::default(),
        without_standby: WithoutStandby::Force { kid: kid(2), reason: "customers are down".to_owned() },
    });
    let ring = apply(&born(), force, T0);
    assert_eq!(ring.active(SLOT).map(|key| key.kid), Some(kid(2)));
}

#[test]
fn an_armed_standby_that_somebody_lacks_does_not_take_over() {
    let ring = apply(&born(), Command::Arm { kid: kid(2) }, T0);
    let lagging = Fleet {
        backends: vec![backend(
            "ai_gateway",
            [process("new", at(1), [(2, at(1))]), process("old", at(1), [])],
        )],
    };
    assert_eq!(ring.ready_standbys(SLOT, &lagging, at(1)).count(), 0);
    assert_eq!(ring.ready_standbys(SLOT, &proved_by_all(2, at(1)), at(500)).count(), 1);
    let without_standby = WithoutStandby::StopMinting;
    let compromise = Compromise { kids: [kid(1)].into(), fleet: lagging, without_standby };
    assert_eq!(apply(&ring, Command::Compromise(compromise), at(1)).active(SLOT), None);
}

#[test]
fn no_compromised_standby_takes_over() {
    let ring = apply(&born(), Command::Arm { kid: kid(2) }, T0);
    let ring = apply(&ring, compromise([1, 2]), T0);
    assert_eq!((state(&ring, 1), state(&ring, 2)), (KeyState::Revoked, KeyState::Revoked));
    assert_eq!(ring.deny_list_serial(), 1);
}

#[test]
fn a_key_that_retired_long_ago_can_still_be_killed() {
    let ring = apply(&born(), generate(3), T0);
    let ring = apply(&ring, Command::Abandon { kid: kid(3) }, T0);
    assert_eq!(ring.key(kid(3)).and_then(|key| key.denial), None);
    let ring = apply(&ring, compromise([3]), T0);
    assert_eq!(state(&ring, 3), KeyState::Abandoned);
    assert_eq!(ring.key(kid(3)).and_then(|key| key.denial), Some(Denial::Always));
}

#[test]
fn a_kid_never_comes_back() {
    let ring = apply(&born(), generate(3), T0);
    assert_eq!(code(&ring, generate(3), T0), "keys/kid_reused");
    let ring = apply(&ring, Command::Abandon { kid: kid(3) }, T0);
    assert_eq!(code(&ring, generate(3), T0), "keys/kid_reused");
    assert_eq!(code(&ring, Command::Arm { kid: kid(3) }, T0), "keys/wrong_state");
}

#[test]
fn an_active_key_is_not_abandoned() {
    assert_eq!(code(&born(), Command::Abandon { kid: kid(1) }, T0), "keys/wrong_state");
}

#[test]
fn a_key_that_ended_while_its_set_was_being_signed_arrives_denied() {
    let ring = apply(&born(), generate(3), T0);
    let signed = publish(&ring, [3], []);
    let ring = apply(&ring, Command::Abandon { kid: kid(3) }, T0);
    let ring = apply(&ring, signed, T0);
    assert_eq!(state(&ring, 3), KeyState::Abandoned);
    assert_eq!(ring.key(kid(3)).and_then(|key| key.denial), Some(Denial::Always));
}

// What the stories are told with.

pub(super) const T0: DateTime<Utc> = DateTime::UNIX_EPOCH;
pub(super) const SLOT: Slot = Slot { purpose: Purpose::AccessTokens, alg: Algorithm::EdDsa };

pub(super) fn at(hours: i64) -> DateTime<Utc> {
    T0 + TimeDelta::hours(hours)
}

fn not_after() -> DateTime<Utc> {
    T0 + TimeDelta::days(400)
}

pub(super) fn kid(n: u8) -> Kid {
    Kid::new([n; 32])
}

pub(super) fn digest(version: u32) -> Digest {
    Digest::new([u8::try_from(version).unwrap_or(u8::MAX); 32])
}

pub(super) fn generate(n: u8) -> Command {
    let (purpose, alg) = (SLOT.purpose, SLOT.alg);
    Command::Generate(NewKey { kid: kid(n), purpose, alg, not_after: not_after() })
}

/// The next key set of `ring`, as a root would sign it.
pub(super) fn publish<const A: usize, const L: usize>(
    ring: &KeyRing,
    adding: [u8; A],
    leaving: [(u8, LastToken); L],
) -> Command {
    let drained: BTreeMap<_, _> = leaving.into_iter().map(|(n, last_token)| (kid(n), last_token)).collect();
    let carried = ring.next_carried(&adding.map(kid).into(), &drained.keys().copied().collect());
    let version = ring.head_version() + 1;
    Command::Publish(KeySetRecord {
        version,
        digest: digest(version),
        prev: ring.head().map(|head| head.digest),
        carried,
        max_token_ttl: TimeDelta::hours(72),
        drained,
    })
}

pub(super) fn activate(n: u8, head: u32, fleet: Fleet, waiver: Option<Waiver>) -> Command {
    Command::Activate(Activation { kid: kid(n), head, fleet, waiver })
}

fn compromise<const N: usize>(kids: [u8; N]) -> Command {
    // A backend that never proved anything: no standby is ready.
    let fleet = Fleet { backends: vec![backend("ai_gateway", [])] };
    let without_standby = WithoutStandby::StopMinting;
    Command::Compromise(Compromise { kids: kids.map(kid).into(), fleet, without_standby })
}

pub(super) fn process<const N: usize>(
    id: &str,
    last_seen: DateTime<Utc>,
    proofs: [(u8, DateTime<Utc>); N],
) -> Process {
    let proofs = proofs.into_iter().map(|(n, at)| (kid(n), at)).collect();
    Process { id: id.to_owned(), standing: Standing::Running, last_seen, proofs }
}

pub(super) fn backend<const N: usize>(name: &str, processes: [Process; N]) -> Backend {
    Backend {
        name: name.to_owned(),
        alg: SLOT.alg,
        trust: Trust::Embedded,
        min_live: 1,
        processes: processes.into(),
        checked_builds: BTreeMap::new(),
    }
}

fn proved_by_all(n: u8, proved_at: DateTime<Utc>) -> Fleet {
    let processes = ["a", "b"].map(|id| process(id, proved_at, [(n, proved_at)]));
    Fleet {
        backends: vec![backend("ai_gateway", processes.clone()), backend("duo_workflow_service", processes)],
    }
}

pub(super) fn run(ring: &KeyRing, command: Command, now: DateTime<Utc>) -> (KeyRing, Vec<Event>) {
    step(ring, command, now).unwrap()
}

fn apply(ring: &KeyRing, command: Command, now: DateTime<Utc>) -> KeyRing {
    run(ring, command, now).0
}

fn code(ring: &KeyRing, command: Command, now: DateTime<Utc>) -> &'static str {
    step(ring, command, now).unwrap_err().code()
}

fn state(ring: &KeyRing, n: u8) -> KeyState {
    ring.key(kid(n)).unwrap().state
}

fn published_pair() -> KeyRing {
    let ring = apply(&KeyRing::default(), generate(1), T0);
    let ring = apply(&ring, generate(2), T0);
    apply(&ring, publish(&ring, [1, 2], []), T0)
}

fn born() -> KeyRing {
    apply(&published_pair(), Command::Birth { kid: kid(1), ever_issued: false }, T0)
}
