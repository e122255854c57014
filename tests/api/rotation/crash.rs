//! Killed between any two statements of a command for keys: the same command, run again, finishes.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use secrecy::ExposeSecret;
use serde_json::Value;
use sqlx::{PgConnection, Row};
use tempfile::TempDir;
use token_authority::keystore::kek_file;

use crate::support::cutter::{Run, run_until_statement};
use crate::support::database::Database;

#[tokio::test(flavor = "multi_thread")]
async fn publish_killed_anywhere_is_finished_by_publish() {
    let files = |crashed: &Crashed| {
        let folder = crashed.path("keys").join("development");
        assert!(folder.join("0002.jwks.json").exists() && folder.join("0002.manifest.json").exists());
    };
    let prepare = async |crashed: &mut Crashed| {
        let made = crashed.json(&["keys", "generate"]);
        crashed.kid = made["kid"].as_str().unwrap().to_owned();
    };
    everywhere(prepare, |kid| vec!["keys", "publish", kid], "published", files).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn arm_killed_anywhere_is_finished_by_arm() {
    let prepare = async |crashed: &mut Crashed| crashed.kid = crashed.standby();
    everywhere(
        prepare,
        |kid| vec!["keys", "arm", kid],
        "published",
        |crashed| {
            let armed = crashed.keys().into_iter().find(|key| key["kid"] == crashed.kid.as_str()).unwrap();
            assert!(armed["armed_at"].is_string());
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn activate_killed_anywhere_is_finished_by_activate() {
    let prepare = async |crashed: &mut Crashed| {
        crashed.kid = crashed.standby();
        crashed.json(&["keys", "arm", &crashed.kid.clone()]);
    };
    everywhere(
        prepare,
        |kid| vec!["keys", "activate", kid],
        "active",
        |crashed| {
            let retiring = crashed.keys().iter().filter(|key| key["state"] == "retiring").count();
            assert_eq!(retiring, 1);
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compromise_killed_anywhere_is_finished_by_compromise() {
    let prepare = async |crashed: &mut Crashed| {
        let standby = crashed.standby();
        crashed.json(&["keys", "arm", &standby]);
        crashed.kid = crashed.in_state("active");
    };
    everywhere(
        prepare,
        |kid| vec!["keys", "compromise", kid, "--yes"],
        "revoked",
        |crashed| {
            let active = crashed.keys().iter().filter(|key| key["state"] == "active").count();
            assert_eq!(active, 3, "the standby signs");
        },
    )
    .await;
}

/// Kills the command after its first statement, its second, … until it comes to its end. A killed run has either
/// changed nothing, or has done all of it; either way the command, run again, leaves the key as wanted.
async fn everywhere(
    prepare: impl AsyncFn(&mut Crashed),
    command: fn(&str) -> Vec<&str>,
    wanted: &str,
    finished: fn(&Crashed),
) {
    let mut crashed = Crashed::new(&prepare).await;
    let (mut kills, mut nth) = (0, 1);
    let mut is_committed = false;
    loop {
        let before = crashed.rows().await;
        let arguments = command(&crashed.kid);
        let run = run_until_statement(&crashed.database, nth, |url| {
            let mut command = crashed.command(&arguments);
            command.env("TOKEN_AUTHORITY_DATABASE_URL", url).stdout(Stdio::null()).stderr(Stdio::null());
            command
        });
        if let Run::Ended(status) = run {
            assert!(status.success(), "killed nowhere, it failed");
            break;
        }
        kills += 1;
        let after = crashed.rows().await;
        assert!(after == before || is_whole(&after), "statement {nth} left half of it: {after:?}");
        if after != before {
            is_committed = true;
            crashed.json(&command(&crashed.kid));
            assert_eq!(crashed.state(), wanted, "killed after statement {nth}");
            assert_eq!(crashed.rows().await, after, "run again, it changed more");
            finished(&crashed);
            // What comes after its commit is tried on a deployment that has not made it yet.
            crashed = Crashed::new(&prepare).await;
        }
        nth += 1;
    }
    assert!(is_committed && kills > 5, "{kills} kills");
    assert_eq!(crashed.state(), wanted);
    finished(&crashed);
    crashed.json(&command(&crashed.kid));
    println!("{kills} kills");
}

/// Every state that a key is in has its row in the audit, and the ring's numbers have their documents.
fn is_whole(rows: &Rows) -> bool {
    rows.unaudited == 0 && rows.deny_list_serial == rows.signed_serial
}

/// What a command for keys may change.
#[derive(Debug, Eq, PartialEq)]
struct Rows {
    keys: Vec<(String, String, bool)>,
    key_sets: i64,
    floor: i64,
    deny_list_serial: i64,
    signed_serial: i64,
    audit: i64,
    unaudited: i64,
}

/// A deployment whose commands are killed.
struct Crashed {
    database: Database,
    folder: TempDir,
    /// The key that the command is about.
    kid: String,
}

impl Crashed {
    async fn new(prepare: &impl AsyncFn(&mut Self)) -> Self {
        let database = Database::fresh().await;
        let mut crashed = Self { database, folder: tempfile::tempdir().unwrap(), kid: String::new() };
        kek_file::create(&crashed.path("kek")).unwrap();
        crashed.json(&["init"]);
        prepare(&mut crashed).await;
        crashed
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.folder.path()).join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_token-authority"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TOKEN_AUTHORITY_")) {
            command.env_remove(name);
        }
        command
            .args(arguments)
            .args(["--format", "json"])
            .env("TOKEN_AUTHORITY_DATABASE_URL", self.database.url().expose_secret())
            .env("TOKEN_AUTHORITY_ENVIRONMENT", "development")
            .env("TOKEN_AUTHORITY_ISSUER", "http://127.0.0.1:8080")
            .env("TOKEN_AUTHORITY_KEK_FILE", self.path("kek"))
            .env("TOKEN_AUTHORITY_KEYS_DIR", self.path("keys"))
            .env("TOKEN_AUTHORITY_ROOT_KEY_FILE", self.path("root.pem"));
        command
    }

    fn json(&self, arguments: &[&str]) -> Value {
        let output: Output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn keys(&self) -> Vec<Value> {
        self.json(&["keys", "list"])["keys"].as_array().unwrap().clone()
    }

    fn in_state(&self, state: &str) -> String {
        let keys = self.keys();
        let key = keys.iter().find(|key| key["purpose"] == "access_tokens" && key["state"] == state).unwrap();
        key["kid"].as_str().unwrap().to_owned()
    }

    fn standby(&self) -> String {
        self.in_state("published")
    }

    fn state(&self) -> String {
        let keys = self.keys();
        let key = keys.iter().find(|key| key["kid"] == self.kid.as_str()).unwrap();
        key["state"].as_str().unwrap().to_owned()
    }

    async fn rows(&self) -> Rows {
        let mut connection: PgConnection = self.database.connection().await;
        let keys =
            sqlx::query("select kid, state, armed_at is not null as armed from signing_keys order by number")
                .fetch_all(&mut connection)
                .await
                .unwrap();
        let row = sqlx::query(
            "select floor, deny_list_serial, (select max(serial) from deny_lists) as signed, \
                    (select count(*) from key_sets) as key_sets, (select count(*) from audit_events) as audit, \
                    (select count(*) from signing_keys k where not exists ( \
                        select from audit_events e where e.subject_id = k.kid and e.action = \
                        case k.state when 'active' then 'key.activated' when 'retiring' then 'key.demoted' \
                                     else 'key.' || k.state end)) as unaudited \
             from key_rings",
        )
        .fetch_one(&mut connection)
        .await
        .unwrap();
        Rows {
            keys: keys.iter().map(|key| (key.get("kid"), key.get("state"), key.get("armed"))).collect(),
            key_sets: row.get("key_sets"),
            floor: row.get("floor"),
            deny_list_serial: row.get("deny_list_serial"),
            signed_serial: row.get("signed"),
            audit: row.get("audit"),
            unaudited: row.get("unaudited"),
        }
    }
}
