//! Why there is no server: what the reader can do about it, and what broke.

use std::io;
use std::path::{Path, PathBuf};

use super::lock::Holder;

/// Why a cluster could not be started, stopped or removed.
///
/// Its sentences are for the person at the terminal: what is wrong, and the remedy where there is one.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// The files say that they belong to another directory, which is still there.
    #[error(
        "the database of {} belongs to {}, of which this seems to be a copy; start anew with `--reset`",
        directory.display(), owner.display()
    )]
    BelongsElsewhere {
        /// The directory that was asked for.
        directory: PathBuf,
        /// The directory that the cluster names as its own.
        owner: PathBuf,
    },
    /// We are root, yet the system keeps us from running anything as somebody else.
    #[error(
        "PostgreSQL refuses to run as root, and it cannot be run as `{account}`; run this as a user that is \
         not root"
    )]
    CannotBecome {
        /// Whom we tried to become.
        account: String,
        /// What the system said.
        source: io::Error,
    },
    /// The cluster of this directory was kept elsewhere and is gone.
    #[error(
        "the database of {} was kept in {}, which is gone; start anew with `--reset`",
        directory.display(), home.display()
    )]
    Gone {
        /// The directory that was asked for.
        directory: PathBuf,
        /// Where its cluster should be.
        home: PathBuf,
    },
    /// Another process uses it.
    #[error("{} is in use by {holder}", directory.display())]
    InUse {
        /// What is in use.
        directory: PathBuf,
        /// By whom.
        holder: Holder,
    },
    /// A file or folder could not be read or written.
    #[error("could not {doing} {}", path.display())]
    Io {
        /// What we were doing: "create".
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// We are root, and there is nobody to run the server as.
    #[error(
        "PostgreSQL refuses to run as root, and there is none of the accounts `{tried}`; add one, or run this \
         as a user that is not root"
    )]
    NoAccount {
        /// The names that were looked for.
        tried: String,
    },
    /// We are root, and no folder was found that the server's account can reach.
    #[error(
        "the account `{account}` can reach neither {} nor {tried}; choose a data directory whose parents it \
         may enter",
        directory.display()
    )]
    NoPlace {
        /// The directory that was asked for.
        directory: PathBuf,
        /// Who must be able to go there.
        account: String,
        /// Where we looked besides.
        tried: String,
    },
    /// There are no programs to run. The text says how to get them.
    #[error("{0}")]
    NoPrograms(String),
    /// The cluster's files belong to an account that we cannot become.
    #[error("{} belongs to {owner}; run this as that user", data.display())]
    OwnedByAnother {
        /// The cluster.
        data: PathBuf,
        /// Whose it is.
        owner: String,
    },
    /// One of PostgreSQL's programs failed.
    #[error("{doing} failed:\n{}", indented(.said))]
    Program {
        /// What it was to do.
        doing: &'static str,
        /// What it wrote about it.
        said: String,
    },
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    Random,
    /// The cluster is where it was, but its owner cannot get there any more.
    #[error(
        "the account `{account}`, which owns the database in {}, cannot enter that folder; let it pass through \
         every folder above",
        home.display()
    )]
    Unreachable {
        /// Where the cluster is.
        home: PathBuf,
        /// Whose it is.
        account: String,
    },
    /// The server neither ran nor ended in time.
    #[error("PostgreSQL did not {what} within {seconds} s; its log is {}", log.display())]
    TooSlow {
        /// "start" or "stop".
        what: &'static str,
        /// How long we waited.
        seconds: u64,
        /// Where to read on.
        log: PathBuf,
    },
}

impl ClusterError {
    /// Says what we were doing to `path` when it failed; for `map_err`.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }
}

/// The last lines of what a program wrote, indented; the start of a long log rarely says why it ended.
fn indented(said: &str) -> String {
    let lines: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(12)..];
    last.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n")
}
