//! Verifications per second, side by side in one run: this crate with and without its memory, jsonwebtoken, PyJWT and
//! npm jose, all with the same token, the same key and every check that they offer. Quote the ratios.
//!
//! `cargo bench -p token-authority-verifier --bench verify` (`-- --json` for programs). PyJWT and jose are fetched on
//! first use, as the tests do; without Python or Node.js their rows are left out with `-- --rust-only`.

#![expect(clippy::print_stdout, reason = "the figures are what this program is for")]
#![expect(clippy::unwrap_used, reason = "a measurement that cannot go on fails where it stands")]

#[path = "../../../tests/api/foreign/library.rs"]
#[expect(dead_code, reason = "the tests ask for verdicts, this only measures")]
mod library;
#[path = "../../../tests/api/foreign/packages.rs"]
mod packages;

use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{DecodingKey, Validation};
use serde_json::{Value, json};
use token_authority_verifier::{LiveVerifier, SignedManifest, SignedRoot, Verifier};

use library::Library;

/// Rounds; in each, every contender runs once, so that a slow moment of the machine hits all of them.
const ROUNDS: usize = 7;
const TURN: Duration = Duration::from_millis(400);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let given = |name: &str| arguments.iter().any(|argument| argument == name);
    let subject = Subject::read();
    let contenders = contenders(&subject, given("--rust-only"));

    let mut rates: Vec<Vec<f64>> = vec![Vec::new(); contenders.len()];
    for _ in 0..ROUNDS {
        for ((_, turn), rates) in contenders.iter().zip(&mut rates) {
            rates.push(turn());
        }
    }
    let rows: Vec<(&str, f64)> = contenders
        .iter()
        .zip(&mut rates)
        .map(|((name, _), rates)| {
            rates.sort_by(f64::total_cmp);
            (*name, rates[ROUNDS / 2])
        })
        .collect();
    report(&rows, given("--json"));
}

type Contender<'a> = (&'static str, Box<dyn Fn() -> f64 + 'a>);

fn contenders(subject: &Subject, rust_only: bool) -> Vec<Contender<'_>> {
    let mut contenders: Vec<Contender<'_>> = vec![
        (
            VERIFY,
            Box::new(|| {
                rate(|| {
                    drop(black_box(subject.verifier.verify(black_box(&subject.token), subject.now).unwrap()))
                })
            }),
        ),
        (
            REMEMBERED,
            Box::new(|| {
                rate(|| drop(black_box(subject.live.verify(black_box(&subject.token), subject.now).unwrap())))
            }),
        ),
        (
            JSONWEBTOKEN,
            Box::new(|| {
                let (key, validation) = (&subject.decoding_key, &subject.validation);
                rate(|| {
                    drop(black_box(
                        jsonwebtoken::decode::<Value>(black_box(&subject.token), key, validation).unwrap(),
                    ))
                })
            }),
        ),
    ];
    if !rust_only {
        for (name, library) in [(PYJWT, Library::PyJwt), (JOSE, Library::Jose)] {
            contenders.push((name, Box::new(move || foreign(library, subject))));
        }
    }
    contenders
}

const VERIFY: &str = "verify";
const REMEMBERED: &str = "verify, remembered";
const JSONWEBTOKEN: &str = "jsonwebtoken decode";
const PYJWT: &str = "PyJWT decode";
const JOSE: &str = "npm jose jwtVerify";

/// What must hold, and what is aimed at, between two rows.
const RATIOS: [(&str, &str, f64, f64); 2] =
    [(VERIFY, JSONWEBTOKEN, 1.05, 2.2), (REMEMBERED, VERIFY, 40.0, 200.0)];

fn report(rows: &[(&str, f64)], as_json: bool) {
    let rate = |name: &str| rows.iter().find(|(found, _)| *found == name).map(|(_, rate)| *rate).unwrap();
    let verify = rate(VERIFY);
    if as_json {
        let rates: serde_json::Map<_, _> =
            rows.iter().map(|(name, rate)| ((*name).to_owned(), json!(rate.round()))).collect();
        let ratios: Vec<_> = RATIOS
            .iter()
            .map(|(of, to, must, aim)| json!({"of": of, "to": to, "ratio": rate(of) / rate(to), "must": must, "aim": aim}))
            .collect();
        println!("{}", json!({"per_second": rates, "ratios": ratios}));
        return;
    }
    println!("{:<24} {:>12} {:>14}", "", "per second", "verify / this");
    for (name, rate) in rows {
        println!("{name:<24} {rate:>12.0} {:>14.2}", verify / rate);
    }
    println!();
    for (of, to, must, aim) in RATIOS {
        println!("{of} / {to}: {:.2} (must {must}, aim {aim})", rate(of) / rate(to));
    }
}

/// A good token of the vectors, and everything that verifies it.
struct Subject {
    token: String,
    jwks: String,
    issuer: String,
    audience: String,
    now: SystemTime,
    seconds: u64,
    verifier: Verifier,
    live: LiveVerifier,
    decoding_key: DecodingKey,
    validation: Validation,
}

impl Subject {
    fn read() -> Self {
        let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
        let read = |name: &str| std::fs::read_to_string(vectors.join(name)).unwrap();
        let setup: Value = serde_json::from_str(&read("setup.json")).unwrap();
        let text: Value = serde_json::from_str(&read("text.json")).unwrap();
        let of = |value: &Value| value.as_str().unwrap().to_owned();
        let (token, jwks) = (of(&text["cases"][0]["token"]), read("jwks.json"));
        let (issuer, audience) = (of(&setup["issuer"]), of(&setup["audience"]));
        let seconds = setup["now"].as_u64().unwrap();

        let digest = setup["root_digest"].as_str().unwrap().parse().unwrap();
        let root = SignedRoot::parse(read("root.json").as_bytes()).unwrap().verify_pinned(digest).unwrap();
        let manifest =
            SignedManifest::parse(read("manifest.json").as_bytes()).unwrap().verify(&root).unwrap();
        let verifier = Verifier::from_manifest(&manifest, jwks.as_bytes(), &*audience).unwrap();
        let live = LiveVerifier::new(manifest, jwks.as_bytes(), &*audience).unwrap();

        let header = jsonwebtoken::decode_header(&token).unwrap();
        let keys: jsonwebtoken::jwk::JwkSet = serde_json::from_str(&jwks).unwrap();
        let decoding_key = DecodingKey::from_jwk(keys.find(&header.kid.unwrap()).unwrap()).unwrap();
        let mut validation = Validation::new(jsonwebtoken::Algorithm::EdDSA);
        validation.set_issuer(&[&issuer]);
        validation.set_audience(&[&audience]);
        validation.set_required_spec_claims(&["iss", "sub", "aud", "exp", "nbf"]);
        validation.validate_nbf = true;
        // It reads the system's clock, for which the token is from the future.
        validation.leeway = 1_000_000_000;
        Self {
            token,
            jwks,
            issuer,
            audience,
            now: UNIX_EPOCH + Duration::from_secs(seconds),
            seconds,
            verifier,
            live,
            decoding_key,
            validation,
        }
    }
}

/// How often per second, over one turn.
fn rate(once: impl Fn()) -> f64 {
    const BATCH: u32 = 200;
    for _ in 0..BATCH {
        once();
    }
    let (started, mut done) = (Instant::now(), 0.0);
    while started.elapsed() < TURN {
        for _ in 0..BATCH {
            once();
        }
        done += f64::from(BATCH);
    }
    done / started.elapsed().as_secs_f64()
}

/// A process of its own, which measures itself and prints the rate.
fn foreign(library: Library, subject: &Subject) -> f64 {
    let folder = library.install();
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/verify");
    let mut command = match library {
        Library::Jose => {
            let mut node = Command::new("node");
            node.arg(scripts.join("jose.mjs")).arg(&folder);
            node
        }
        _ => {
            let mut python = Command::new(folder.join("bin/python"));
            python.arg(scripts.join("pyjwt.py"));
            python
        }
    };
    let question = json!({
        "jwks": serde_json::from_str::<Value>(&subject.jwks).unwrap(), "token": subject.token, "issuer": subject.issuer,
        "audience": subject.audience, "now": subject.seconds, "seconds": TURN.as_secs_f64(),
    });
    let output = command.arg(question.to_string()).output().unwrap();
    assert!(output.status.success(), "{library:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().parse().unwrap()
}
