//! Two replicas behind PgBouncer in transaction mode, with few sessions for many clients.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::Row;
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;
use token_authority::embedded_postgres::Account;

use crate::deployment::{Activated, Client, admin_token};
use crate::support::debian;
use crate::support::load::{Load, Patience};
use crate::support::program::{Deployment, answer, complaint};

#[tokio::test(flavor = "multi_thread")]
async fn everything_goes_through_a_pooler_in_transaction_mode_but_one_connection_for_each_replica() {
    let mut deployment = Deployment::prepare().await;
    let direct = fs::read_to_string(deployment.path("database_url")).unwrap();
    let options: PgConnectOptions = direct.parse().unwrap();
    let pooler = PgBouncer::before(&options);
    fs::write(deployment.path("database_url"), pooler.url(&options)).unwrap();
    deployment.set("TOKEN_AUTHORITY_DIRECT_DATABASE_URL", &direct);
    deployment.initialize();

    // 1. What operators and instances do.
    let admin = admin_token(&deployment);
    let program = Path::new(env!("CARGO_BIN_EXE_token-authority"));
    let replicas = ["one", "two"].map(|name| deployment.serve_with(program, name));
    let client = Client::new(&replicas[0]);
    let mut instances: Vec<Activated> = Vec::new();
    for _ in 0..8 {
        instances.push(client.activate(&admin).await);
    }
    let targets = [replicas[0].base_url.as_str(), &replicas[1].base_url];
    let load = Load::start(&instances, &targets, Patience::OneRetry);
    for command in
        [&["keys", "list"][..], &["keys", "status"], &["keys", "plan"], &["audit", "verify"], &["maintain"]]
    {
        let output = deployment.run(command);
        assert!(output.status.success(), "{command:?}: {}", complaint(&output));
    }
    for page in ["customers", "instances", "audit-events", "issuances", "keys"] {
        let listed =
            client.http.get(client.url(&format!("/admin/v1/{page}"))).bearer_auth(&admin).send().await;
        assert_eq!(listed.unwrap().status(), 200, "{page}");
    }
    for page in ["/.well-known/jwks.json", "/v1/key-sets", "/v1/deny-list", "/health/ready"] {
        assert!(client.http.get(client.url(page)).send().await.unwrap().status().is_success(), "{page}");
    }

    // 2. A key changes under load, which takes the fence that mints share.
    let keys = answer(&deployment.run(&["keys", "list", "--format", "json"]));
    let kid = |state: &str| {
        let keys = keys["keys"].as_array().unwrap().iter();
        let found = keys.clone().find(|key| key["state"] == state && key["purpose"] == "access_tokens");
        found.unwrap()["kid"].as_str().unwrap().to_owned()
    };
    answer(&deployment.run(&["keys", "arm", &kid("published"), "--format", "json"]));
    let compromise =
        ["keys", "compromise", &kid("active"), "--reason", "stolen", "--yes", "--format", "json"];
    answer(&deployment.run(&compromise));
    load.answer_more(100).await;
    let synced = client.sync(&instances[0]).await;
    let token = synced["tokens"][0]["token"].as_str().unwrap();
    let inspected = answer(&deployment.run(&["token", "inspect", token, "--format", "json"]));
    assert!(inspected.to_string().contains(&kid("published")), "{inspected}");

    // 3. Each replica has one session of its own, which listens; all else shares the pooler's few.
    let mut connection = deployment.connection().await;
    let sessions = sqlx::query(
        "select count(*) filter (where query ilike 'listen%') as listening, count(*) as all \
         from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid() \
           and backend_type = 'client backend'",
    );
    let sessions = sessions.fetch_one(&mut connection).await.unwrap();
    assert_eq!(sessions.get::<i64, _>("listening"), 2);
    assert!(sessions.get::<i64, _>("all") <= 2 + POOL_SIZE, "{}", sessions.get::<i64, _>("all"));
    let found = answer_even_if_refused(&deployment, &["doctor", "--format", "json"]);
    let finding = |code: &str| {
        let findings = found["findings"].as_array().unwrap().iter();
        findings
            .clone()
            .find(|finding| finding["code"] == code)
            .unwrap_or_else(|| panic!("{code}: {found}"))
            .clone()
    };
    assert_eq!(finding("direct_connection")["level"], json!("good"), "{found}");

    let tally = load.finish().await;
    assert!(tally.failures.is_empty(), "{:?}", tally.failures.first());
    println!("{} syncs through the pooler, {} at the second attempt", tally.answered, tally.retried);
    for mut replica in replicas {
        replica.terminate();
        assert_eq!(replica.wait(), Some(0), "{}", replica.log_text());
        let log = replica.log_text();
        assert!(!log.contains("\"level\":\"ERROR\""), "{log}");
    }
}

fn answer_even_if_refused(deployment: &Deployment, arguments: &[&str]) -> serde_json::Value {
    let output = deployment.run(arguments);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", complaint(&output)))
}

/// The distribution's PgBouncer, in front of one database.
struct PgBouncer {
    child: Child,
    port: u16,
    _directory: TempDir,
}

impl PgBouncer {
    fn before(options: &PgConnectOptions) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (database, socket) = (options.get_database().unwrap(), options.get_socket().unwrap());
        let mut configuration = format!(
            "[databases]\n{database} = host={} port=5432 dbname={database} user=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             pool_mode = transaction\ndefault_pool_size = {POOL_SIZE}\nmax_client_conn = 200\n",
            socket.display()
        );
        if nix::unistd::geteuid().is_root() {
            // It refuses root, as its server does; and only this account may open the server's socket.
            configuration += &format!("user = {}\n", Account::for_server().unwrap().name());
        }
        let file = directory.path().join("pgbouncer.ini");
        fs::write(&file, configuration).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        let log = directory.path().join("log");
        let stderr = File::create(&log).unwrap();
        let mut command = program();
        command.arg(&file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr);
        let mut child = command.spawn().unwrap();
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let said = fs::read_to_string(&log).unwrap();
            let ended = child.try_wait().unwrap();
            assert!(
                ended.is_none() && begun.elapsed() < Duration::from_secs(30),
                "it does not listen: {said}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { child, port, _directory: directory }
    }

    fn url(&self, options: &PgConnectOptions) -> String {
        format!(
            "postgres://postgres@127.0.0.1:{}/{}?sslmode=disable",
            self.port,
            options.get_database().unwrap()
        )
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The one on this machine, or from its packages.
fn program() -> Command {
    if let Some(found) = debian::on_this_machine("pgbouncer") {
        return Command::new(found);
    }
    let why = "this test needs PgBouncer 1.18 or later; on Debian: apt-get install pgbouncer";
    let root = debian::unpacked("pgbouncer", &PACKAGES, why);
    let mut command = Command::new(root.join("usr/sbin/pgbouncer"));
    debian::with_libraries(&mut command, &root);
    command
}

/// Sessions that all of the two replicas and the commands share.
const POOL_SIZE: i64 = 5;

/// PgBouncer, and the libraries that a bare machine may lack.
const PACKAGES: [&str; 6] =
    ["pgbouncer", "libc-ares2", "libevent-2.1-7", "libpam0g", "libssl3", "libsystemd0"];
