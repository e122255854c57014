//! The verifier's own golden and hostile tokens, shown to libraries that we did not write.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::library::Library;
use super::question::{Case, Question};

/// Rewrites the table of what each of them does otherwise than our verifier, and fails, when it is stale.
#[test]
fn other_libraries_take_every_good_token_and_deviate_exactly_as_documented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/api/foreign/deviations.json");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let recorded: BTreeMap<String, Value> = serde_json::from_str(&text).unwrap_or_default();
    let libraries = [Library::Jose, Library::Joserfc, Library::PyJwt, Library::RubyJwt];
    let table: BTreeMap<String, Value> = libraries
        .into_iter()
        .filter_map(|library| {
            let name = format!("{library:?}");
            // Of one that is not here, what was found out before stands.
            let found = deviations(library).map(|found| serde_json::to_value(found).unwrap());
            found.or_else(|| recorded.get(&name).cloned()).map(|found| (name, found))
        })
        .collect();
    let fresh = serde_json::to_string_pretty(&table).unwrap() + "\n";
    if text != fresh {
        fs::write(&path, fresh).unwrap();
        panic!("{} was stale and is rewritten: look at the difference", path.display());
    }
}

/// Where a library differs from our verifier, by the names of tokens.
#[derive(Debug, Default, Serialize)]
struct Deviations {
    /// It ends with an error of the language and not with a refusal of its own: a backend would answer 500.
    accidents: BTreeSet<String>,
    /// It takes what ours refuses.
    takes: BTreeSet<String>,
}

/// What any library must refuse when it is given our key set, issuer and audience. The other codes are for rules
/// beyond RFC 7519 that only our own verifier knows, such as the longest life and members that are given twice.
const REFUSED_BY_ALL: &[&str] = &[
    "alg_mismatch",
    "audience_mismatch",
    "crit_unsupported",
    "expired",
    "issuer_mismatch",
    "kid_missing",
    "kid_unknown",
    "not_yet_valid",
    "signature_invalid",
];

/// The holder of the private half alone can make this one; strict verification refuses it, others need not.
const ONLY_STRICTLY_REFUSED: &str = "R of small order, where the equation holds";

/// `None` where the library's language is not here.
fn deviations(library: Library) -> Option<Deviations> {
    let mut deviations = Deviations::default();
    let plain = vectors();
    assert!(plain.len() > 150, "only {} tokens: are the vectors all there?", plain.len());
    for (jwks, vectors) in [("jwks.json", plain), ("rs256_jwks.json", of("rs256.json").collect())] {
        deviations.add(library, &read(jwks), &vectors)?;
    }
    Some(deviations)
}

impl Deviations {
    fn add(&mut self, library: Library, jwks: &Value, vectors: &[Vector]) -> Option<()> {
        let setup: Setup = read("setup.json");
        let cases: Vec<Case> = vectors
            .iter()
            .enumerate()
            .map(|(index, vector)| Case {
                name: index.to_string(),
                token: vector.token.clone(),
                audience: setup.audience.clone(),
                now: Some(vector.now),
            })
            .collect();
        let question = Question { jwks, issuer: &setup.issuer, leeway: setup.leeway, cases: &cases };

        let verdicts = library.ask(&question)?;

        for (index, Vector { file, name, expect, .. }) in vectors.iter().enumerate() {
            let named = format!("{file}: {name}");
            match verdicts[&index.to_string()].as_deref() {
                Some(why) if expect == "valid" => panic!("{library:?} refuses {named:?}: {why}"),
                Some(why) if why.starts_with("accident: ") => {
                    self.accidents.insert(named);
                }
                None if expect != "valid" => {
                    assert!(!must_be_refused(name, expect), "{library:?} takes {named:?} ({expect})");
                    self.takes.insert(named);
                }
                _ => {}
            }
        }
        Some(())
    }
}

/// Whether no library may take the token, however much it leaves out.
pub(crate) fn must_be_refused(name: &str, expect: &str) -> bool {
    REFUSED_BY_ALL.contains(&expect) && name != ONLY_STRICTLY_REFUSED
}

/// The files of tokens.
pub(crate) const FILES: [&str; 6] =
    ["text.json", "headers.json", "keys.json", "signatures.json", "claims.json", "times.json"];

/// Every token whose verdict a plain key set suffices for: it says nothing of denials and of the ends of keys.
pub(crate) fn vectors() -> Vec<Vector> {
    FILES.into_iter().flat_map(of).filter(|vector| vector.trust != "manifest").collect()
}

fn of(file: &'static str) -> impl Iterator<Item = Vector> {
    read::<Vectors>(file).cases.into_iter().map(move |vector| Vector { file, ..vector })
}

#[derive(Deserialize)]
struct Setup {
    issuer: String,
    audience: String,
    leeway: u64,
}

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Vector>,
}

/// One token, and what our own verifier says to it.
#[derive(Deserialize)]
pub(crate) struct Vector {
    #[serde(skip)]
    pub(crate) file: &'static str,
    pub(crate) name: String,
    trust: String,
    now: u64,
    token: String,
    pub(crate) expect: String,
}

fn read<T: serde::de::DeserializeOwned>(file: &str) -> T {
    serde_json::from_slice(&fs::read(directory().join(file)).unwrap()).unwrap()
}

pub(crate) fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("verifier/tests/vectors")
}
