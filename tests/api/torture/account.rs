//! The account of every token: what callers were answered, what the ledger and the audit say, and whether it fits.

use std::collections::{BTreeMap, BTreeSet};

/// Everything that is known after a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    /// What callers were answered, in milliseconds of their clock.
    pub(super) answers: Vec<Answer>,
    /// What callers know to have been taken away, by the same clock.
    pub(super) taken: Vec<Taken>,
    /// The ledger.
    pub(super) rows: Vec<Row>,
    /// From when to when each key signed, by the database's clock, as the audit says.
    pub(super) reigns: BTreeMap<String, Reign>,
    /// What each instance could be granted, by the database's clock, as the records say.
    pub(super) grants: BTreeMap<String, Vec<Grant>>,
    /// When nothing could be granted to an instance: revoked, or suspended.
    pub(super) stops: BTreeMap<String, Vec<Span>>,
    /// What the program says of the audit's chain; `None`: it is whole.
    pub(super) broken_chain: Option<String>,
}

/// What one request came to.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) uid: String,
    pub(super) asked: u64,
    pub(super) answered: u64,
    pub(super) outcome: Outcome,
}

#[derive(Clone, Debug)]
pub(super) enum Outcome {
    /// No answer, or half of one.
    Broken,
    Refused {
        status: u16,
        code: String,
        has_hint: bool,
    },
    Tokens(Vec<Held>),
}

/// A token as its holder reads it.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) jti: String,
    pub(super) kid: String,
    pub(super) scopes: BTreeSet<String>,
}

/// Something that is gone once its removal was answered, until somebody asks for it again.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub(super) uid: String,
    /// `None`: everything.
    pub(super) scopes: Option<BTreeSet<String>>,
    pub(super) from: u64,
    pub(super) until: Option<u64>,
    pub(super) is_final: bool,
}

/// A token as the ledger has it.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) jti: String,
    pub(super) uid: String,
    /// To the millisecond.
    pub(super) at: i64,
    pub(super) kid: String,
    pub(super) scopes: BTreeSet<String>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) from: i64,
    pub(super) until: Option<i64>,
}

/// A key signs from one instant to another.
pub(super) type Reign = Span;

/// Scopes that could be granted for a time.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    pub(super) scopes: BTreeSet<String>,
    pub(super) span: Span,
}

/// What must never be.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Violation {
    /// Somebody holds a token that the ledger does not know.
    AnsweredWithoutRow {
        jti: String,
    },
    BrokenChain(String),
    /// Somebody holds another token than the ledger has under its id.
    DiffersFromRow {
        jti: String,
    },
    /// An error that does not say when to come again, or a refusal that nothing explains.
    ErrorWithoutHint {
        uid: String,
        status: u16,
        code: String,
    },
    /// A key signed before it was let, or after it was demoted or revoked.
    KidOutsideItsTime {
        jti: String,
        kid: String,
    },
    /// A record of a scope that nothing granted at that time.
    NeverGrantable {
        jti: String,
        scope: String,
    },
    /// Somebody was answered a scope who asked after its removal had been answered.
    ScopeAfterRemoval {
        jti: String,
        scope: String,
    },
    /// A record from a time in which its instance could be granted nothing.
    WhileStopped {
        jti: String,
    },
}

/// Everything that does not fit, sorted.
pub(super) fn check(account: &Account) -> Vec<Violation> {
    let mut violations = BTreeSet::new();
    let rows: BTreeMap<&str, &Row> = account.rows.iter().map(|row| (row.jti.as_str(), row)).collect();
    for answer in &account.answers {
        match &answer.outcome {
            Outcome::Broken => {}
            Outcome::Refused { status, code, has_hint } => {
                if !account.explains(answer, *status, code, *has_hint) {
                    let (uid, status, code) = (answer.uid.clone(), *status, code.clone());
                    violations.insert(Violation::ErrorWithoutHint { uid, status, code });
                }
            }
            Outcome::Tokens(tokens) => {
                for token in tokens {
                    violations.extend(account.of_token(answer, token, rows.get(token.jti.as_str()).copied()));
                }
            }
        }
    }
    violations.extend(account.rows.iter().flat_map(|row| account.of_row(row)));
    violations.extend(account.broken_chain.clone().map(Violation::BrokenChain));
    violations.into_iter().collect()
}

impl Account {
    /// Whether a refusal says when to come again, or comes from what was taken away about then.
    fn explains(&self, answer: &Answer, status: u16, code: &str, has_hint: bool) -> bool {
        if matches!(status, 429 | 503) {
            return has_hint;
        }
        // It may have been taken when the answer to the removal was still on its way.
        let is_stopped = || self.stops.get(&answer.uid).is_some_and(|stops| !stops.is_empty());
        status == 403 && matches!(code, "license_revoked" | "subscription_suspended") && is_stopped()
    }

    fn of_token(&self, answer: &Answer, token: &Held, row: Option<&Row>) -> Vec<Violation> {
        let jti = || token.jti.clone();
        let mut violations = Vec::new();
        match row {
            None => violations.push(Violation::AnsweredWithoutRow { jti: jti() }),
            Some(row) if (&row.uid, &row.kid, &row.scopes) != (&answer.uid, &token.kid, &token.scopes) => {
                violations.push(Violation::DiffersFromRow { jti: jti() });
            }
            Some(_) => {}
        }
        for taken in self.taken.iter().filter(|taken| taken.uid == answer.uid) {
            // Asked after the removal was answered, and answered before anybody asked for it again.
            let is_within =
                answer.asked > taken.from && taken.until.is_none_or(|until| answer.answered < until);
            let gone = |scope: &&String| taken.scopes.as_ref().is_none_or(|scopes| scopes.contains(*scope));
            if is_within && let Some(scope) = token.scopes.iter().find(gone) {
                violations.push(Violation::ScopeAfterRemoval { jti: jti(), scope: scope.clone() });
            }
        }
        violations
    }

    fn of_row(&self, row: &Row) -> Vec<Violation> {
        let mut violations = Vec::new();
        if !self.reigns.get(&row.kid).is_some_and(|reign| reign.holds(row.at)) {
            let (jti, kid) = (row.jti.clone(), row.kid.clone());
            violations.push(Violation::KidOutsideItsTime { jti, kid });
        }
        let grants = self.grants.get(&row.uid).map_or(&[][..], Vec::as_slice);
        let granted = |scope: &String| {
            grants.iter().any(|grant| grant.span.holds(row.at) && grant.scopes.contains(scope))
        };
        violations.extend(
            row.scopes
                .iter()
                .filter(|scope| !granted(scope))
                .map(|scope| Violation::NeverGrantable { jti: row.jti.clone(), scope: scope.clone() }),
        );
        if self.stops.get(&row.uid).is_some_and(|stops| stops.iter().any(|stop| stop.is_inside(row.at))) {
            violations.push(Violation::WhileStopped { jti: row.jti.clone() });
        }
        violations
    }
}

impl Span {
    /// Whether something of this instant may belong to it. A change and a token of one millisecond are not told apart.
    fn holds(self, at: i64) -> bool {
        self.from <= at && self.until.is_none_or(|until| at <= until)
    }

    /// Whether it does for certain.
    fn is_inside(self, at: i64) -> bool {
        self.from < at && self.until.is_none_or(|until| at < until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scopes(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn row(jti: &str, at: i64, kid: &str, granted: &[&str]) -> Row {
        Row { jti: jti.into(), uid: "i".into(), at, kid: kid.into(), scopes: scopes(granted) }
    }

    fn answer(asked: u64, outcome: Outcome) -> Answer {
        Answer { uid: "i".into(), asked, answered: asked + 10, outcome }
    }

    fn tokens(jti: &str, kid: &str, granted: &[&str]) -> Outcome {
        Outcome::Tokens(vec![Held { jti: jti.into(), kid: kid.into(), scopes: scopes(granted) }])
    }

    fn refused(status: u16, code: &str, has_hint: bool) -> Outcome {
        Outcome::Refused { status, code: code.into(), has_hint }
    }

    /// A run in which nothing went wrong: a key follows another at 500, the add-on ends at 300 and is suspended from
    /// 600 to 700.
    fn innocent() -> Account {
        let span = |from, until| Span { from, until };
        Account {
            answers: vec![
                answer(100, tokens("a", "first", &["bought", "free"])),
                answer(350, tokens("b", "first", &["free"])),
                answer(360, Outcome::Broken),
                answer(370, refused(503, "unavailable", true)),
                answer(550, tokens("c", "second", &["free"])),
                answer(650, refused(403, "subscription_suspended", false)),
                answer(750, tokens("d", "second", &["free"])),
            ],
            taken: vec![
                Taken {
                    uid: "i".into(),
                    scopes: Some(scopes(&["bought"])),
                    from: 310,
                    until: Some(900),
                    is_final: false,
                },
                Taken { uid: "i".into(), scopes: None, from: 610, until: Some(690), is_final: false },
            ],
            rows: vec![
                row("a", 105, "first", &["bought", "free"]),
                row("b", 355, "first", &["free"]),
                // Recorded, and never answered: the connection broke.
                row("x", 362, "first", &["free"]),
                row("c", 555, "second", &["free"]),
                row("d", 755, "second", &["free"]),
            ],
            reigns: [("first".into(), span(0, Some(500))), ("second".into(), span(500, None))].into(),
            grants: [(
                "i".into(),
                vec![
                    Grant { scopes: scopes(&["free"]), span: span(0, None) },
                    Grant { scopes: scopes(&["bought"]), span: span(0, Some(300)) },
                ],
            )]
            .into(),
            stops: [("i".into(), vec![span(600, Some(700))])].into(),
            broken_chain: None,
        }
    }

    #[test]
    fn a_run_in_which_everything_fits_has_no_violation() {
        assert_eq!(check(&innocent()), []);
    }

    /// Each kind of violation is planted into the innocent run, and found; and nothing else is.
    #[test]
    fn each_kind_of_violation_is_found() {
        let jti = |name: &str| name.to_owned();
        type Plant = fn(&mut Account);
        let planted: Vec<(Plant, Violation)> = vec![
            (|account| drop(account.rows.remove(0)), Violation::AnsweredWithoutRow { jti: jti("a") }),
            (
                |account| account.answers[1].outcome = tokens("b", "first", &[]),
                Violation::DiffersFromRow { jti: jti("b") },
            ),
            (
                |account| account.answers[0].outcome = tokens("a", "second", &["bought", "free"]),
                Violation::DiffersFromRow { jti: jti("a") },
            ),
            (
                |account| account.rows.push(row("y", 400, "first", &["bought"])),
                Violation::NeverGrantable { jti: jti("y"), scope: "bought".into() },
            ),
            (
                |account| account.rows.push(row("y", 400, "first", &["unheard_of"])),
                Violation::NeverGrantable { jti: jti("y"), scope: "unheard_of".into() },
            ),
            (
                // The token is from before, as far as the ledger says; but who asked for it asked after.
                |account| account.answers.push(answer(320, tokens("a", "first", &["bought", "free"]))),
                Violation::ScopeAfterRemoval { jti: jti("a"), scope: "bought".into() },
            ),
            (
                |account| account.answers.push(answer(620, tokens("c", "second", &["free"]))),
                Violation::ScopeAfterRemoval { jti: jti("c"), scope: "free".into() },
            ),
            (
                |account| account.rows.push(row("y", 650, "second", &["free"])),
                Violation::WhileStopped { jti: jti("y") },
            ),
            (
                |account| account.rows.push(row("y", 501, "first", &["free"])),
                Violation::KidOutsideItsTime { jti: jti("y"), kid: "first".into() },
            ),
            (
                |account| account.rows.push(row("y", 499, "second", &["free"])),
                Violation::KidOutsideItsTime { jti: jti("y"), kid: "second".into() },
            ),
            (
                |account| account.rows.push(row("y", 499, "unknown", &["free"])),
                Violation::KidOutsideItsTime { jti: jti("y"), kid: "unknown".into() },
            ),
            (
                |account| account.answers.push(answer(10, refused(503, "unavailable", false))),
                Violation::ErrorWithoutHint { uid: "i".into(), status: 503, code: "unavailable".into() },
            ),
            (
                |account| account.answers.push(answer(10, refused(500, "internal", true))),
                Violation::ErrorWithoutHint { uid: "i".into(), status: 500, code: "internal".into() },
            ),
            (
                |account| account.answers.push(answer(10, refused(401, "unauthenticated", false))),
                Violation::ErrorWithoutHint { uid: "i".into(), status: 401, code: "unauthenticated".into() },
            ),
            (
                |account| account.broken_chain = Some("event 7 was altered".into()),
                Violation::BrokenChain("event 7 was altered".into()),
            ),
        ];
        for (plant, violation) in planted {
            let mut account = innocent();
            plant(&mut account);
            assert_eq!(check(&account), [violation]);
        }
        // A refusal of somebody from whom nothing was ever taken has no reason.
        let mut account = innocent();
        account.stops.clear();
        assert!(matches!(&check(&account)[..], [Violation::ErrorWithoutHint { status: 403, .. }]));
    }
}
