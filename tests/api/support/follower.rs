//! Copies of a whole cluster, as `pg_basebackup` takes them: to be started as they are, or as a server that follows.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::unistd::{User, chown};
use tempfile::TempDir;
use token_authority::embedded_postgres::{Account, Cluster, Programs, Search};

/// A folder in which a cluster can be restored, and started with [`ClusterFolder::start`].
pub(crate) struct ClusterFolder {
    directory: TempDir,
    search: Search,
    programs: Programs,
}

impl ClusterFolder {
    /// An empty one, where the account that runs servers can go.
    pub(crate) fn new() -> Self {
        let directory = tempfile::Builder::new().tempdir_in("/var/tmp").unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open.clone()).unwrap();
        std::fs::create_dir(directory.path().join("postgres")).unwrap();
        std::fs::set_permissions(directory.path().join("postgres"), open).unwrap();
        let named = std::env::var_os("TOKEN_AUTHORITY_POSTGRES_BIN").map(PathBuf::from);
        let search = Search::everywhere(named, |line| println!("{line}"));
        let programs = Programs::find(&search, &Account::for_server().unwrap()).unwrap();
        Self { directory, search, programs }
    }

    /// Where the cluster's files belong.
    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("postgres").join(format!("data-{}", self.programs.major()))
    }

    /// PostgreSQL's own programs, of which a fetched copy lacks some: then those of the system.
    pub(crate) fn programs(&self) -> PathBuf {
        let near = self.programs.directory().to_owned();
        if near.join("pg_basebackup").is_file() { near } else { PathBuf::from("/usr/bin") }
    }

    /// Starts the server on what is there now.
    pub(crate) async fn start(&self) -> Cluster {
        self.hand_over();
        let (directory, search) = (self.directory.path().to_owned(), self.search.clone());
        let start = move || Cluster::start_in(&directory, &search).unwrap_or_else(|error| panic!("{error}"));
        tokio::task::spawn_blocking(start).await.unwrap()
    }

    /// Root restores, and the server's account owns.
    fn hand_over(&self) {
        let account = Account::for_server().unwrap();
        let Ok(Some(user)) = User::from_name(account.name()) else { return };
        hand_over(&self.directory.path().join("postgres"), &user);
    }

    /// Copies a running cluster into it. `follows`: it will go on to copy what that one does.
    pub(crate) fn copy(&self, url: &str, follows: bool) {
        let mut command = Command::new(self.programs().join("pg_basebackup"));
        command
            .args(["--checkpoint=fast", "--wal-method=stream", "--dbname", url, "--pgdata"])
            .arg(self.data());
        if follows {
            command.arg("--write-recovery-conf");
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn hand_over(path: &Path, user: &User) {
    chown(path, Some(user.uid), Some(user.gid)).unwrap();
    if path.is_dir() && !path.is_symlink() {
        for entry in std::fs::read_dir(path).unwrap() {
            hand_over(&entry.unwrap().path(), user);
        }
    }
}
