//! Who runs the server: ourselves, or an unprivileged account when we are root, since PostgreSQL refuses root.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::{Gid, Uid, User, geteuid};

use super::ClusterError;

/// Accounts that may run the server for root: the one that PostgreSQL packages make, its name on macOS, and
/// the one that every system has.
const ACCOUNTS: [&str; 3] = ["postgres", "_postgres", "nobody"];

/// The account that runs the server and owns its files.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Account {
    name: String,
    uid: Uid,
    /// Its group, when it is another account than ours.
    other: Option<Gid>,
}

impl Account {
    /// This process's own account; for root the first of `postgres`, `_postgres` and `nobody`.
    ///
    /// # Errors
    /// We are root and there is none of them, or we may not become it.
    pub fn for_server() -> Result<Self, ClusterError> {
        let ours = geteuid();
        if !ours.is_root() {
            return Ok(Self { name: format!("user {ours}"), uid: ours, other: None });
        }
        let found = ACCOUNTS.iter().find_map(|name| User::from_name(name).ok().flatten());
        let user = found.ok_or(ClusterError::NoAccount { tried: ACCOUNTS.join("`, `") })?;
        let account = Self { name: user.name, uid: user.uid, other: Some(user.gid) };
        account.try_to_become()?;
        Ok(account)
    }

    /// Who runs the server of a cluster that exists: its owner, since no other account can.
    ///
    /// # Errors
    /// It is not ours, and we are not root.
    pub(super) fn owning(data: &Path) -> Result<Self, ClusterError> {
        let metadata = fs::metadata(data).map_err(ClusterError::io("look at", data))?;
        let (uid, ours) = (Uid::from_raw(metadata.uid()), geteuid());
        let name = || match User::from_uid(uid).ok().flatten() {
            Some(user) => user.name,
            None => format!("user {uid}"),
        };
        if uid == ours && !ours.is_root() {
            return Ok(Self { name: name(), uid, other: None });
        }
        if !ours.is_root() || uid.is_root() {
            return Err(ClusterError::OwnedByAnother { data: data.to_owned(), owner: name() });
        }
        let account = Self { name: name(), uid, other: Some(Gid::from_raw(metadata.gid())) };
        account.try_to_become()?;
        Ok(account)
    }

    /// Its name, for people.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn uid(&self) -> Uid {
        self.uid
    }

    /// The group of an account that is not ours, which must be let in where only we may go.
    pub(super) fn other_group(&self) -> Option<Gid> {
        self.other
    }

    /// A command that runs as this account, at `/`, and in an environment that says nothing: `PG*` variables
    /// and locales of ours must not leak into a cluster.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir("/").env_clear();
        command.env("PATH", "/usr/bin:/bin").env("LC_ALL", "C").env("TZ", "UTC");
        if let Some(gid) = self.other {
            // The standard library then drops our supplementary groups as well.
            command.uid(self.uid.as_raw()).gid(gid.as_raw());
        }
        command
    }

    /// Makes it the owner of `path`. Nothing to do for our own account.
    pub(super) fn own(&self, path: &Path) -> io::Result<()> {
        match self.other {
            Some(gid) => chown(path, Some(self.uid.as_raw()), Some(gid.as_raw())),
            None => Ok(()),
        }
    }

    /// Whether it can go into `directory`. Asked by going there as that account: rights of parents, access
    /// lists and mount options are too many to reason about.
    pub(super) fn can_enter(&self, directory: &Path) -> bool {
        if self.other.is_none() {
            return directory.is_dir();
        }
        let mut shell = self.command(Path::new("/bin/sh"));
        shell.arg("-c").arg(r#"cd "$1""#).arg("sh").arg(directory);
        shell.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        shell.status().is_ok_and(|status| status.success())
    }

    fn try_to_become(&self) -> Result<(), ClusterError> {
        let mut shell = self.command(Path::new("/bin/sh"));
        shell.arg("-c").arg(":").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        match shell.status() {
            Ok(_) => Ok(()),
            Err(source) => Err(ClusterError::CannotBecome { account: self.name.clone(), source }),
        }
    }
}
