//! What strangers can send, over the committed corpus and what is near it: a bounded run of what is fuzzed.
//!
//! `TOKEN_AUTHORITY_FUZZ_ROUNDS=100000 cargo test --release --test untrusted` runs longer; `fuzz/README.md` says how the
//! same functions are fuzzed with coverage.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed, and may say so")]

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use token_authority::untrusted::ENTRANCES;

/// The corpus of a parser, in the order of its files.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Numbers that are the same at each run (SplitMix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % u64::try_from(below.max(1)).unwrap()).unwrap()
    }
}

/// One of the bytes that parsers stumble over, more often than any other.
const SHARP: &[u8] = b"\0\n\r\"\\{}[]:,.-_=+/ \xc3\x28\xff\x7f09eE$@#()!";

/// Something near `seed`: bytes changed, cut out, doubled, or taken from `other`.
fn near(seed: &[u8], other: &[u8], numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=numbers.next(4) {
        let place = numbers.next(bytes.len() + 1);
        let end = (place + 1 + numbers.next(24)).min(bytes.len());
        match numbers.next(6) {
            0 if place < bytes.len() => bytes[place] ^= 1 << numbers.next(8),
            1 => bytes.insert(place, SHARP[numbers.next(SHARP.len())]),
            2 if place < end => drop(bytes.drain(place..end)),
            3 if place < end => {
                let again = bytes[place..end].repeat(1 + numbers.next(40));
                bytes.splice(place..place, again);
            }
            4 if !other.is_empty() => {
                let from = numbers.next(other.len());
                bytes.splice(place..place, other[from..].iter().copied().take(64));
            }
            _ => bytes.truncate(place),
        }
        bytes.truncate(LONGEST);
    }
    bytes
}

const LONGEST: usize = 65_536;

#[test]
fn nothing_that_strangers_send_makes_a_parser_panic_or_believe_it() {
    let rounds = std::env::var("TOKEN_AUTHORITY_FUZZ_ROUNDS").map_or(1_000, |text| text.parse().unwrap());
    for entrance in ENTRANCES {
        let corpus = corpus(entrance.name);
        assert!(corpus.len() >= 5, "{}: {} files are no corpus", entrance.name, corpus.len());
        let run = |what: &dyn Fn() -> String, bytes: &[u8]| {
            let outcome = catch_unwind(AssertUnwindSafe(|| (entrance.read)(bytes)));
            let kept = || {
                let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.crash", entrance.name));
                fs::write(&path, bytes).unwrap();
                path
            };
            assert!(outcome.is_ok(), "{}: {}; its bytes are in {}", entrance.name, what(), kept().display());
        };
        for (path, bytes) in &corpus {
            run(&|| path.display().to_string(), bytes);
        }
        let mut numbers = Numbers(42);
        for round in 0..rounds {
            let seed = &corpus[numbers.next(corpus.len())].1;
            let other = &corpus[numbers.next(corpus.len())].1;
            let bytes = near(seed, other, &mut numbers);
            run(&|| format!("round {round}"), &bytes);
        }
    }
}

#[test]
fn each_parser_has_its_target_and_each_corpus_its_parser() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let mut names: Vec<_> = ENTRANCES.iter().map(|entrance| entrance.name.to_owned()).collect();
    names.sort();
    let listed = |folder: &str| {
        let entries = fs::read_dir(fuzz.join(folder)).unwrap().map(|entry| entry.unwrap().path());
        let mut found: Vec<_> =
            entries.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        found.sort();
        found
    };
    assert_eq!(listed("fuzz_targets"), names);
    assert_eq!(listed("corpus"), names);
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).unwrap();
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is no target in fuzz/Cargo.toml");
    }
}
