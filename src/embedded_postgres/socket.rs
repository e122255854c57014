//! Where the server's Unix socket is: beside the cluster, or in a short place when that path is too long.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Account, ClusterError};

/// The name that a server on port 5432 gives to its socket.
pub(super) const SOCKET: &str = ".s.PGSQL.5432";

/// The longest path of a socket, in bytes: `sun_path` without its final zero.
const LONGEST_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// The folder of a socket.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct SocketDirectory {
    pub(super) path: PathBuf,
    /// Whether it is apart from the cluster, and must be removed with the server.
    pub(super) apart: bool,
}

impl SocketDirectory {
    /// `beside`, which `account` owns, if a socket can be there; else a folder under `/tmp` that `account`
    /// owns and nobody else can enter.
    pub(super) fn choose(beside: &Path, account: &Account) -> Result<Self, ClusterError> {
        if is_usable(beside) {
            return Ok(Self { path: beside.to_owned(), apart: false });
        }
        // The same cluster gets the same name again, unless somebody took it.
        let digest = Sha256::digest(beside.as_os_str().as_bytes());
        let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let stable = Path::new("/tmp").join(format!("token-authority-{name}"));
        match make_private(&stable, account) {
            Err(ClusterError::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => {}
            made => return made.map(|()| Self { path: stable, apart: true }),
        }
        if is_private(&stable, account) {
            return Ok(Self { path: stable, apart: true });
        }
        let random = Path::new("/tmp").join(format!("token-authority-{}", super::folders::random_name()?));
        make_private(&random, account).map(|()| Self { path: random, apart: true })
    }
}

/// The URL of a database behind a socket.
///
/// Port and TLS mode are said outright, or `PGPORT` and `PGSSLMODE` of whoever uses it would apply.
pub(super) fn url(directory: &Path, database: &str) -> String {
    let host = encode(directory.as_os_str().as_bytes());
    let database = encode(database.as_bytes());
    format!("postgres://{USER}@{host}:5432/{database}?sslmode=disable")
}

/// The cluster's superuser.
pub(super) const USER: &str = "postgres";

/// Whether a socket can be made there, and the server's setting, a list with rules of its own, can name it.
fn is_usable(directory: &Path) -> bool {
    let path = directory.as_os_str().as_bytes();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-+@=~".contains(byte);
    path.len() + "/".len() + SOCKET.len() <= LONGEST_PATH && path.iter().all(plain)
}

fn make_private(directory: &Path, account: &Account) -> Result<(), ClusterError> {
    DirBuilder::new().mode(0o700).create(directory).map_err(ClusterError::io("create", directory))?;
    account.own(directory).map_err(ClusterError::io("hand over", directory))
}

/// Whether it is a folder (no link) that the account owns and nobody else can use.
fn is_private(directory: &Path, account: &Account) -> bool {
    fs::symlink_metadata(directory).is_ok_and(|metadata| {
        metadata.is_dir() && metadata.uid() == account.uid().as_raw() && metadata.mode() & 0o077 == 0
    })
}

/// Percent-encodes all that is not unreserved (RFC 3986, section 2.3).
fn encode(bytes: &[u8]) -> String {
    let one = |byte: &u8| match byte {
        b'-' | b'.' | b'_' | b'~' => char::from(*byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(*byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    bytes.iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_path_may_fill_the_limit_and_not_exceed_it() {
        let longest = LONGEST_PATH - "/".len() - SOCKET.len();
        let path = |length: usize| PathBuf::from(format!("/{}", "a".repeat(length - 1)));
        assert!(is_usable(&path(longest)));
        assert!(!is_usable(&path(longest + 1)));
    }

    #[test]
    fn paths_that_the_servers_setting_would_misread_are_not_used() {
        for path in ["/tmp/a b", "/tmp/a,b", "/tmp/\"a\"", "/tmp/é"] {
            assert!(!is_usable(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn a_url_hides_slashes_and_says_port_and_tls_mode() {
        assert_eq!(
            url(Path::new("/var/lib/a b"), "t_1"),
            "postgres://postgres@%2Fvar%2Flib%2Fa%20b:5432/t_1?sslmode=disable"
        );
    }

    #[test]
    fn a_folder_that_others_could_use_is_passed_over() {
        let account = Account::for_server().unwrap();
        let beside = PathBuf::from(format!("/{}/{}", "long".repeat(40), std::process::id()));
        let first = SocketDirectory::choose(&beside, &account).unwrap();
        assert!(first.apart && is_private(&first.path, &account));
        assert_eq!(SocketDirectory::choose(&beside, &account).unwrap(), first);

        fs::remove_dir(&first.path).unwrap();
        std::os::unix::fs::symlink("/tmp", &first.path).unwrap();
        let second = SocketDirectory::choose(&beside, &account).unwrap();
        assert_ne!(second, first);
        fs::remove_file(&first.path).unwrap();
        fs::remove_dir(&second.path).unwrap();
    }
}
