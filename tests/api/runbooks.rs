//! The commands of `docs/runbooks.md`, run as they stand there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sqlx::AssertSqlSafe;

use crate::support::database::Database;
use crate::support::program::{Deployment, answer};

#[tokio::test(flavor = "multi_thread")]
async fn the_root_changes_hands_and_a_key_is_rotated() {
    let mut scene = Scene::new().await;
    let root = Section::named("The root, in the hands of several people");
    scene.run_all(&root);
    scene.without_local_root();

    let rotation = Section::named("Rotate a signing key");
    let [generate, sign, arm, activate, retire] = rotation.steps();
    scene.run_first_line(generate);
    scene.set("NEW", &scene.kid("generated", "access_tokens"));
    scene.run_rest(generate);
    scene.set("DRAFT", &scene.draft(2));
    // Holders know the root that they signed themselves.
    scene.run(sign);
    assert_eq!(scene.state("NEW"), "published");
    scene.run(arm);
    scene.run(activate);
    assert_eq!((scene.state("NEW").as_str(), scene.state("OLD").as_str()), ("active", "retiring"));
    scene.drain().await;
    scene.set("DRAFT", &scene.draft(3));
    scene.run(retire);
    assert_eq!(scene.state("OLD"), "retired");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compromised_key_is_followed_by_the_standby_and_a_restored_backup_remembers_it() {
    let mut scene = Scene::new().await;
    let standby = scene.kid("published", "access_tokens");
    answer(&scene.deployment.run(&["keys", "arm", &standby, "--format", "json"]));
    let restore = Section::named("An old backup was restored");
    let [export, recover] = restore.steps();
    let backup: Database = scene.deployment.backup().await;

    scene.run_all(&Section::named("A private half may be in other hands"));
    assert_eq!(scene.state("OLD"), "revoked");
    answer(&scene.deployment.run(&["keys", "publish", "--format", "json"]));
    scene.run(export);
    scene.deployment.restore(backup);
    assert_eq!(scene.state("OLD"), "active", "the backup has forgotten it");
    scene.run(recover);
    assert_eq!(scene.state("OLD"), "revoked");
    assert_eq!(scene.kid("active", "access_tokens"), standby);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_key_encryption_key_costs_the_credentials_and_not_the_chain() {
    let mut scene = Scene::new().await;
    let lost = Section::named("The key-encryption key is lost");
    let [begin, generate, activate] = lost.steps();
    scene.run(begin);
    let kek = scene.deployment.path("new-kek").display().to_string();
    scene.deployment.set("TOKEN_AUTHORITY_KEK_FILE", &kek);
    scene.run(generate);
    scene.set("NEW_DENY_LIST", &scene.newest("published", "deny_list"));
    scene.set("NEW", &scene.newest("published", "access_tokens"));
    scene.run(activate);
    assert_eq!((scene.state("NEW").as_str(), scene.state("NEW_DENY_LIST").as_str()), ("active", "active"));
    let serving = scene.deployment.serve();
    let ready = reqwest::get(format!("{}/health/ready", serving.base_url)).await.unwrap();
    assert_eq!(ready.status(), 200, "{}", ready.text().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_root_is_replaced_without_its_consent_and_backends_have_to_be_told() {
    let mut scene = Scene::new().await;
    scene.without_local_root();
    let lost = Section::named("Too few holders of the root are left");
    let [replace, publish] = lost.steps();
    scene.run(replace);
    scene.set("NEW_TRUST", &scene.root_digest(2));
    scene.set("DRAFT", &scene.draft(2));
    scene.run(publish);
    let verify = |trust: &str| {
        let file = format!("{}/0002.manifest.json", scene.variables["KEYS"]);
        let digest = scene.variables[trust].clone();
        scene.deployment.run(&["key-set", "verify", "--key-set", &file, "--trust-root", &digest])
    };
    assert!(verify("NEW_TRUST").status.success());
    assert!(!verify("TRUST").status.success(), "the old root does not vouch for the new one");
}

/// Every block of the page belongs to a section that one of the tests runs.
#[test]
fn no_section_of_the_page_is_left_out() {
    let page = page();
    let sections: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let run = [
        "The root, in the hands of several people",
        "Rotate a signing key",
        "A private half may be in other hands",
        "An old backup was restored",
        "The key-encryption key is lost",
        "Too few holders of the root are left",
        "Back up, and restore into another database",
        "Back up, and restore the whole server",
    ];
    assert_eq!(sections, run);
}

/// One heading of the page, and the blocks of commands below it.
pub(crate) struct Section(Vec<String>);

impl Section {
    pub(crate) fn named(heading: &str) -> Self {
        let page = page();
        let (_, below) = page.split_once(&format!("## {heading}\n")).unwrap();
        let below = below.split("\n## ").next().unwrap();
        let blocks =
            below.split("```sh\n").skip(1).map(|block| block.split_once("```").unwrap().0.to_owned());
        Self(blocks.collect())
    }

    /// All of its blocks: a test that expects another number does not run every one of them.
    pub(crate) fn steps<const N: usize>(&self) -> [&str; N] {
        self.0.iter().map(String::as_str).collect::<Vec<_>>().try_into().unwrap()
    }
}

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks.md")).unwrap()
}

/// An operator at a shell, with what the page's variables stand for.
pub(crate) struct Scene {
    pub(crate) deployment: Deployment,
    variables: BTreeMap<String, String>,
}

impl Scene {
    async fn new() -> Self {
        Self::of(Deployment::initialized().await)
    }

    /// On a deployment that has its first keys.
    pub(crate) fn of(deployment: Deployment) -> Self {
        let made = answer(&deployment.run(&["init", "--format", "json"]));
        let path = |name: &str| deployment.path(name).display().to_string();
        let mut variables: BTreeMap<String, String> = [
            ("HOME", deployment.path("").display().to_string().trim_end_matches('/').to_owned()),
            ("KEYS", path("keys/staging")),
            ("HOLDER", path("root")),
            ("TRUST", made["root_digest"].as_str().unwrap().to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let binary = Path::new(env!("CARGO_BIN_EXE_token-authority"));
        let path = format!("{}:{}", binary.parent().unwrap().display(), std::env::var("PATH").unwrap());
        variables.insert("PATH".to_owned(), path);
        let mut scene = Self { deployment, variables };
        scene.set("OLD", &scene.kid("active", "access_tokens"));
        scene
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    /// Its commands find these programs first.
    pub(crate) fn put_first(&mut self, folder: &Path) {
        let path = format!("{}:{}", folder.display(), self.variables["PATH"]);
        self.set("PATH", &path);
    }

    /// From here on the root is with its holders alone.
    fn without_local_root(&mut self) {
        self.deployment.set("TOKEN_AUTHORITY_ROOT_KEY_FILE", "");
        self.deployment.set("TOKEN_AUTHORITY_ALLOW_LOCAL_ROOT", "");
    }

    fn run_all(&self, section: &Section) {
        assert!(!section.0.is_empty());
        section.0.iter().for_each(|block| self.run(block));
    }

    /// Runs a block as a shell does, and stops at the first command that fails.
    pub(crate) fn run(&self, block: &str) {
        let mut shell = Command::new("sh");
        shell.args(["-e", "-u", "-c", block]).env_clear();
        shell.envs(self.deployment.variables()).envs(&self.variables);
        let output = shell.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{block}\n{said}\n{}", String::from_utf8_lossy(&output.stdout));
    }

    fn run_first_line(&self, block: &str) {
        self.run(block.lines().next().unwrap());
    }

    fn run_rest(&self, block: &str) {
        self.run(block.split_once('\n').unwrap().1);
    }

    fn keys(&self) -> Vec<Value> {
        answer(&self.deployment.run(&["keys", "list", "--format", "json"]))["keys"]
            .as_array()
            .unwrap()
            .clone()
    }

    pub(crate) fn kid(&self, state: &str, purpose: &str) -> String {
        let keys = self.keys();
        let found = keys.iter().find(|key| key["state"] == state && key["purpose"] == purpose);
        found.unwrap_or_else(|| panic!("no {purpose} key is {state}: {keys:?}"))["kid"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    fn newest(&self, state: &str, purpose: &str) -> String {
        let keys = self.keys();
        let found = keys.iter().rfind(|key| key["state"] == state && key["purpose"] == purpose);
        found.unwrap()["kid"].as_str().unwrap().to_owned()
    }

    pub(crate) fn state(&self, variable: &str) -> String {
        let keys = self.keys();
        let kid = &self.variables[variable];
        keys.iter().find(|key| key["kid"] == *kid).unwrap()["state"].as_str().unwrap().to_owned()
    }

    fn root_digest(&self, version: u32) -> String {
        let file = format!("{}/root/{version}.root.json", self.variables["KEYS"]);
        let shown = answer(&self.deployment.run(&["keys", "root", "show", &file, "--format", "json"]));
        shown["document"]["digest"].as_str().unwrap().to_owned()
    }

    fn draft(&self, version: u32) -> String {
        format!("{}/drafts/{version:04}.manifest.json", self.variables["KEYS"])
    }

    /// Lets the minutes pass until the last token of a key that signed none has died.
    async fn drain(&self) {
        let mut connection = self.deployment.connection().await;
        let sql = format!(
            "set session_replication_role = replica; \
             update signing_keys set demoted_at = demoted_at - interval '1 hour', \
                    activated_at = activated_at - interval '1 hour' where kid = '{}'; \
             set session_replication_role = origin",
            self.variables["OLD"]
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    }
}
