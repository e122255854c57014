//! `init`, `keys` and `key-set` on the command line, as an operator and a backend team use them.

use std::path::Path;
use std::process::{Command, Output};

use secrecy::ExposeSecret;
use serde_json::Value;
use tempfile::TempDir;
use token_authority::keystore::kek_file;

use crate::support::database::Database;

#[tokio::test]
async fn an_operator_makes_the_first_keys_and_looks_at_them() {
    let operator = Operator::new().await;
    assert_refused(&operator.run(&["keys", "list"]), "run `token-authority init`");

    let made = operator.json(&["init"]);
    assert_eq!((&made["made"], &made["environment"]), (&Value::Bool(true), &Value::from("development")));
    assert_eq!(made["written"].as_array().map(Vec::len), Some(3));
    let again = operator.json(&["init"]);
    assert_eq!((&again["made"], &again["key_set"]), (&Value::Bool(false), &made["key_set"]));

    let listed = operator.json(&["keys", "list"]);
    let keys = listed["keys"].as_array().unwrap();
    let active =
        keys.iter().filter(|key| key["purpose"] == "access_tokens" && key["state"] == "active").count();
    assert_eq!((keys.len(), active), (6, 1));
    assert!(keys.iter().all(|key| key["kid"] == key["public_key"]["kid"] && key["published_in"] == 1));

    let status = operator.json(&["keys", "status"]);
    assert_eq!((&status["head"], &status["floor"]), (&Value::from(1), &Value::from(1)));
    let slots = status["slots"].as_array().unwrap();
    assert_eq!(slots.len(), 3);
    assert!(
        slots
            .iter()
            .all(|slot| slot["active"].is_object() && slot["standbys"].as_array().unwrap().len() == 1)
    );
}

#[tokio::test]
async fn no_output_of_a_key_command_holds_a_private_half() {
    let operator = Operator::new().await;
    let root = || std::fs::read_to_string(operator.path("root.pem")).unwrap();
    for arguments in [["init", "--format=json"], ["init", "--format=table"]] {
        assert_holds_no_secret(&operator, &operator.run(&arguments), &root());
    }
    for command in ["list", "status"] {
        for format in ["json", "table"] {
            let output = operator.run(&["keys", command, "--format", format]);
            assert!(output.status.success());
            assert_holds_no_secret(&operator, &output, &root());
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(!text.contains("\"d\"") && !text.contains("sealed"), "{text}");
        }
    }
}

#[tokio::test]
async fn a_backend_team_verifies_a_key_set_without_a_database() {
    let operator = Operator::new().await;
    let made = operator.json(&["init"]);
    let (root, published) = (made["root_digest"].as_str().unwrap(), operator.path("keys/development"));
    let team = Team { key_sets: &published };

    for file in ["0001.manifest.json", "0001.jwks.json"] {
        let verified = team.verify(file, &["--trust-root", root]);
        assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));
        let document: Value = serde_json::from_slice(&verified.stdout).unwrap();
        assert_eq!(document["digest"], made["key_set"]["digest"]);
        assert_eq!(document["root"]["development"], true);
    }
    let by_file =
        team.verify("0001.manifest.json", &["--root", published.join("root/1.root.json").to_str().unwrap()]);
    assert!(by_file.status.success());

    let other_root = format!("sha256:{}", "0".repeat(64));
    assert_refused(&team.verify("0001.manifest.json", &["--trust-root", &other_root]), root);
    assert_eq!(team.verify("0001.manifest.json", &[]).status.code(), Some(2), "trust has to begin somewhere");
    assert_refused(&team.verify("0002.manifest.json", &["--trust-root", root]), "could not read");

    let jwks = published.join("0001.jwks.json");
    let text = std::fs::read_to_string(&jwks).unwrap();
    std::fs::write(&jwks, format!("{text} ")).unwrap();
    assert_refused(&team.verify("0001.manifest.json", &["--trust-root", root]), "is not to be trusted");
}

#[tokio::test]
async fn init_says_which_setting_is_missing_or_wrong() {
    let operator = Operator::new().await;
    let without = |variable: &str| operator.command(&["init"]).env(variable, "").output().unwrap();
    assert_refused(&without("TOKEN_AUTHORITY_KEK_FILE"), "`kek_file` is not set");
    assert_refused(&without("TOKEN_AUTHORITY_ISSUER"), "`issuer` is not set");
    assert_refused(&without("TOKEN_AUTHORITY_ROOT_KEY_FILE"), "`allow_local_root` and `root_key_file`");

    let missing =
        operator.command(&["init"]).env("TOKEN_AUTHORITY_KEK_FILE", "/nonexistent/kek").output().unwrap();
    assert_refused(&missing, "/nonexistent/kek");
    std::fs::write(operator.path("short"), "c2hvcnQ").unwrap();
    let short =
        operator.command(&["init"]).env("TOKEN_AUTHORITY_KEK_FILE", operator.path("short")).output().unwrap();
    assert_refused(&short, "32 random bytes");
    assert!(!operator.path("keys").exists(), "nothing was published");
}

#[tokio::test]
async fn outside_development_a_local_root_takes_an_explicit_setting() {
    let operator = Operator::new().await;
    let mut production = operator.command(&["init", "--format", "json"]);
    production.env("TOKEN_AUTHORITY_ENVIRONMENT", "production");
    production.env("TOKEN_AUTHORITY_ISSUER", "https://licensing.example");
    assert_refused(&production.output().unwrap(), "`root_key_file`");
    let made = production.env("TOKEN_AUTHORITY_ALLOW_LOCAL_ROOT", "true").output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let published = operator.path("keys/production");
    let made: Value = serde_json::from_slice(&made.stdout).unwrap();
    let verified = Team { key_sets: &published }
        .verify("0001.manifest.json", &["--trust-root", made["root_digest"].as_str().unwrap()]);
    let document: Value = serde_json::from_slice(&verified.stdout).unwrap();
    assert_eq!(document["root"]["development"], false);
}

/// A database, and the files beside it.
struct Operator {
    database: Database,
    folder: TempDir,
}

impl Operator {
    async fn new() -> Self {
        let operator = Self { database: Database::fresh().await, folder: tempfile::tempdir().unwrap() };
        kek_file::create(&operator.path("kek")).unwrap();
        operator
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = authority(arguments);
        command
            .env("TOKEN_AUTHORITY_DATABASE_URL", self.database.url().expose_secret())
            .env("TOKEN_AUTHORITY_ENVIRONMENT", "development")
            .env("TOKEN_AUTHORITY_ISSUER", "http://127.0.0.1:8080")
            .env("TOKEN_AUTHORITY_KEK_FILE", self.path("kek"))
            .env("TOKEN_AUTHORITY_KEYS_DIR", self.path("keys"))
            .env("TOKEN_AUTHORITY_ROOT_KEY_FILE", self.path("root.pem"));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.command(arguments).args(["--format", "json"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

/// Whoever has the published files and nothing else.
struct Team<'a> {
    key_sets: &'a Path,
}

impl Team<'_> {
    fn verify(&self, file: &str, trust: &[&str]) -> Output {
        let mut command = authority(&["key-set", "verify", "--format", "json", "--key-set"]);
        command.arg(self.key_sets.join(file)).args(trust).output().unwrap()
    }
}

fn authority(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_token-authority"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TOKEN_AUTHORITY_")) {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

fn assert_refused(output: &Output, reason: &str) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(told.contains(reason), "{told}");
    assert!(output.stdout.is_empty());
}

fn assert_holds_no_secret(operator: &Operator, output: &Output, root_pem: &str) {
    let kek = std::fs::read_to_string(operator.path("kek")).unwrap();
    let root = root_pem.lines().nth(1).unwrap();
    for said in [&output.stdout, &output.stderr] {
        let said = String::from_utf8_lossy(said);
        assert!(!said.contains(kek.trim()) && !said.contains(root), "{said}");
    }
}
