//! The commands for keys as an operator types them: what each says, to people and to programs.

use std::path::PathBuf;
use std::process::{Command, Output};

use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tempfile::TempDir;
use token_authority::keystore::kek_file;

use crate::support::database::Database;

#[tokio::test]
async fn a_key_goes_through_its_life_command_by_command_and_each_says_what_comes_next() {
    let operator = Operator::new("development").await;
    let made = operator.json(&["keys", "generate", "--not-after", "2027-11-01"]);
    let kid = made["kid"].as_str().unwrap();
    assert_eq!((&made["state"], &made["not_after"]), (&json!("generated"), &json!("2027-11-01T00:00:00Z")));
    assert_eq!(made["next"], format!("token-authority keys publish {kid}"));
    let step = operator.step(kid);
    assert_eq!((&step["step"], &step["blockers"]), (&json!("publish"), &json!([])));

    let published = operator.json(&["keys", "publish", kid]);
    assert_eq!((&published["outcome"], &published["version"]), (&json!("published"), &json!(2)));
    assert_eq!(published["published"], json!([kid]));
    let again = operator.json(&["keys", "publish", kid]);
    assert_eq!(
        (&again["outcome"], &again["version"], &again["written"]),
        (&json!("unchanged"), &json!(2), &json!([]))
    );
    assert_eq!(operator.step(kid)["step"], "arm");

    operator.refused(&["keys", "activate", kid], "keys/not_armed");
    let armed = operator.json(&["keys", "arm", kid]);
    assert_eq!((&armed["changed"], &armed["floor"]), (&json!(true), &json!(2)));
    assert_eq!(operator.json(&["keys", "arm", kid])["changed"], false);
    assert_eq!(operator.step(kid)["step"], "activate");
    let status = operator.json(&["keys", "status"]);
    let slot =
        status["slots"].as_array().unwrap().iter().find(|slot| slot["purpose"] == "access_tokens").unwrap();
    assert_eq!(slot["standby_coverage"], 1, "nobody has to prove it: no backend is registered");

    let activated = operator.json(&["keys", "activate", kid]);
    let demoted = activated["demoted"].as_str().unwrap();
    assert_eq!((&activated["state"], &activated["changed"]), (&json!("active"), &json!(true)));
    operator.refused(&["keys", "retire", demoted], "keys/not_drained");
    operator.refused(&["keys", "retire", kid], "keys/wrong_state");
    operator.refused(&["keys", "abandon", kid, "--yes"], "keys/wrong_state");

    let spare = operator.json(&["keys", "generate"])["kid"].as_str().unwrap().to_owned();
    operator.refused(&["keys", "abandon", &spare], "--yes");
    let abandoned = operator.json(&["keys", "abandon", &spare, "--yes", "--reason", "made by mistake"]);
    assert_eq!((&abandoned["state"], &abandoned["denied"]), (&json!("abandoned"), &json!(false)));
    operator.refused(&["keys", "publish", &spare], "keys/wrong_state");

    operator.refused(&["keys", "compromise", kid], "--yes");
    let ended = operator.json(&["keys", "compromise", kid, "--yes", "--reason", "on a lost laptop"]);
    assert_eq!(ended["keys"][0]["state"], "revoked");
    assert_eq!(ended["silenced"], json!(["access_tokens (EdDSA)"]), "its standby was not armed");
    assert_eq!(operator.json(&["keys", "compromise", kid, "--yes"])["changed"], false);
}

#[tokio::test]
async fn people_are_told_in_sentences_and_tables() {
    let operator = Operator::new("development").await;
    let said = |arguments: &[&str]| {
        let output = operator.run(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let made = said(&["keys", "generate"]);
    assert!(made.starts_with("Made ") && made.contains("\nNext: `token-authority keys publish "), "{made}");
    let published = said(&["keys", "publish"]);
    assert!(published.starts_with("Published key set 2 (sha256:"), "{published}");
    let plan = said(&["keys", "plan"]);
    assert!(plan.contains("blocked by") && plan.contains("arm"), "{plan}");
    let status = said(&["keys", "status"]);
    assert!(status.contains("No backend is registered"), "{status}");
    // What is at stake comes before the question, on stderr.
    let kid = operator.json(&["keys", "list"])["keys"][0]["kid"].as_str().unwrap().to_owned();
    let asked = operator.run(&["keys", "compromise", &kid]);
    let told = String::from_utf8(asked.stderr).unwrap();
    assert_eq!(asked.status.code(), Some(1));
    assert!(told.contains("no live token") && told.contains("NOTHING will sign"), "{told}");
}

#[tokio::test]
async fn wrong_usage_is_told_apart_from_refusals() {
    let operator = Operator::new("development").await;
    for arguments in [
        &["keys", "arm"][..],
        &["keys", "arm", "not-a-kid"],
        &["keys", "compromise"],
        &["keys", "activate", KID, "--override", "ai_gateway"],
        &["keys", "generate", "--alg", "HS256"],
        &["keys", "generate", "--not-after", "tomorrow"],
    ] {
        assert_eq!(operator.run(arguments).status.code(), Some(2), "{arguments:?}");
    }
    for verb in ["arm", "activate", "retire"] {
        operator.refused(&["keys", verb, KID], "keys/unknown_kid");
    }
    operator.refused(&["keys", "generate", "--not-after", "2026-12-01"], "keys/ends_too_soon");
    operator.refused(&["keys", "generate", "--not-after", "2099-01-01"], "may live until");
}

/// Elsewhere than in development the root is not here: the draft goes to its holders and comes back signed.
#[tokio::test]
async fn a_draft_goes_to_the_roots_holders_and_comes_back_as_the_next_key_set() {
    let operator = Operator::new("staging").await;
    let kid = operator.json(&["keys", "generate"])["kid"].as_str().unwrap().to_owned();
    let root = operator.path("root.pem");
    let away = operator.path("vault.pem");
    std::fs::rename(&root, &away).unwrap();

    let drafted = operator.json(&["keys", "publish", &kid]);
    assert_eq!((&drafted["outcome"], &drafted["version"]), (&json!("drafted"), &json!(2)));
    assert_eq!((&drafted["threshold"], &drafted["publishes"]), (&json!(1), &json!([kid])));
    let draft = drafted["draft"].as_str().unwrap();
    assert_eq!(operator.json(&["keys", "list"])["keys"].as_array().unwrap().len(), 7);
    assert_eq!(operator.key(&kid)["state"], "generated", "nothing is published yet");
    let again = operator.json(&["keys", "publish", &kid]);
    assert_eq!(
        again["manifest_digest"], drafted["manifest_digest"],
        "the draft that is out for signatures stays"
    );
    operator.refused(&["keys", "publish", "--signed", draft], "0 of the root's keys have signed, 1 must");

    let published = operator.path("keys/staging");
    let published = published.to_str().unwrap();
    let signed = operator.run(&[
        "keys",
        "root",
        "sign",
        draft,
        "--key",
        away.to_str().unwrap(),
        "--published",
        published,
        "--trust-root",
        &operator.root_digest,
        "--yes",
    ]);
    assert!(signed.status.success(), "{}", String::from_utf8_lossy(&signed.stderr));
    let recorded = operator.json(&["keys", "publish", "--signed", draft]);
    assert_eq!((&recorded["outcome"], &recorded["published"]), (&json!("published"), &json!([kid])));
    assert_eq!(operator.key(&kid)["state"], "published");
    assert!(operator.path("keys/staging/0002.manifest.json").exists());
}

/// Two operators at two keyboards: whatever both ask for happens once, and whoever comes second is told.
#[tokio::test(flavor = "multi_thread")]
async fn two_command_lines_at_once_change_everything_once() {
    let operator = Operator::new("development").await;
    let changed = |answers: [Value; 2]| answers.iter().filter(|answer| answer["changed"] == true).count();

    // Two keys are made; of two publications of all that waits, each key is in exactly one.
    let made = operator.at_once([&["keys", "generate"], &["keys", "generate"]]).map(|done| done.unwrap());
    let kids: Vec<String> = made.iter().map(|made| made["kid"].as_str().unwrap().to_owned()).collect();
    assert_ne!(kids[0], kids[1]);
    let published = operator.at_once([&["keys", "publish"], &["keys", "publish"]]);
    for refused in published.iter().filter_map(|done| done.as_ref().err()) {
        assert!(refused.contains("keys/") || refused.contains("changed"), "{refused}");
    }
    assert!(published.iter().any(Result::is_ok), "{published:?}");
    assert_eq!(operator.audited("key_set.recorded").await, 2, "key sets 1 and 2");
    for kid in &kids {
        assert_eq!(operator.key(kid)["state"], "published");
    }

    let [a, b] = [kids[0].as_str(), kids[1].as_str()];
    let armed = operator.at_once([&["keys", "arm", a], &["keys", "arm", a]]).map(|done| done.unwrap());
    assert_eq!(changed(armed), 1);
    operator.json(&["keys", "arm", b]);
    let before = operator.audited("key.activated").await;
    let activated = operator.at_once([&["keys", "activate", a], &["keys", "activate", a]]);
    assert_eq!(changed(activated.map(|done| done.unwrap())), 1);
    assert_eq!(operator.audited("key.activated").await, before + 1);

    // One takes the key away that the other lets sign: in whichever order, it ends revoked, and never signs.
    let raced = operator.at_once([&["keys", "compromise", b, "--yes"], &["keys", "activate", b]]);
    assert!(raced[0].is_ok(), "{raced:?}");
    assert_eq!(operator.key(b)["state"], "revoked");
    let keys = operator.json(&["keys", "list"]);
    let active = keys["keys"].as_array().unwrap().iter();
    let active = active.filter(|key| key["purpose"] == "access_tokens" && key["state"] == "active").count();
    assert!(active <= 1, "{keys}");
    let ended = operator.at_once([&["keys", "compromise", a, "--yes"], &["keys", "compromise", a, "--yes"]]);
    // It was demoted, and ended, by the activation that was raced, or is revoked now.
    assert!(changed(ended.map(|done| done.unwrap())) <= 1);
    let verified = operator.json(&["audit", "verify"]);
    assert_eq!(verified["valid"], true, "{verified}");
}

const KID: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// A deployment and whoever types its commands.
struct Operator {
    database: Database,
    folder: TempDir,
    environment: &'static str,
    root_digest: String,
}

impl Operator {
    async fn new(environment: &'static str) -> Self {
        let (database, folder) = (Database::fresh().await, tempfile::tempdir().unwrap());
        let mut operator = Self { database, folder, environment, root_digest: String::new() };
        kek_file::create(&operator.path("kek")).unwrap();
        let born = operator.json(&["init"]);
        operator.root_digest = born["root_digest"].as_str().unwrap().to_owned();
        operator
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_token-authority"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TOKEN_AUTHORITY_")) {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .env("TOKEN_AUTHORITY_DATABASE_URL", self.database.url().expose_secret())
            .env("TOKEN_AUTHORITY_ENVIRONMENT", self.environment)
            .env("TOKEN_AUTHORITY_ALLOW_LOCAL_ROOT", "true")
            .env("TOKEN_AUTHORITY_ISSUER", "https://licensing.example")
            .env("TOKEN_AUTHORITY_KEK_FILE", self.path("kek"))
            .env("TOKEN_AUTHORITY_KEYS_DIR", self.path("keys"))
            .env("TOKEN_AUTHORITY_ROOT_KEY_FILE", self.path("root.pem"))
            .output()
            .unwrap()
    }

    /// Runs two commands as two processes that start at the same time; the answer of each, or why it was refused.
    fn at_once(&self, commands: [&[&str]; 2]) -> [Result<Value, String>; 2] {
        let run = |arguments: &[&str]| {
            let output = self.run(&[arguments, &["--format", "json"]].concat());
            let told = String::from_utf8_lossy(&output.stderr).into_owned();
            match output.status.code() {
                Some(0) => Ok(serde_json::from_slice(&output.stdout).unwrap()),
                Some(1) => Err(told),
                other => panic!("{arguments:?}: {other:?}: {told}"),
            }
        };
        let [one, other] = commands;
        std::thread::scope(|scope| {
            let one = scope.spawn(|| run(one));
            let other = run(other);
            [one.join().unwrap(), other]
        })
    }

    /// How many rows the audit has of this change.
    async fn audited(&self, action: &str) -> i64 {
        let mut connection = self.database.connection().await;
        let count = sqlx::query_scalar("select count(*) from audit_events where action = $1").bind(action);
        count.fetch_one(&mut connection).await.unwrap()
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(&[arguments, &["--format", "json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn refused(&self, arguments: &[&str], reason: &str) {
        let output = self.run(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {told}");
        assert!(told.contains(reason), "{arguments:?}: {told}");
        assert!(output.stdout.is_empty());
    }

    fn key(&self, kid: &str) -> Value {
        let keys = self.json(&["keys", "list"]);
        keys["keys"].as_array().unwrap().iter().find(|key| key["kid"] == kid).unwrap().clone()
    }

    /// What lies ahead of this key.
    fn step(&self, kid: &str) -> Value {
        let plan = self.json(&["keys", "plan"]);
        plan["steps"].as_array().unwrap().iter().find(|step| step["kid"] == kid).unwrap().clone()
    }
}
