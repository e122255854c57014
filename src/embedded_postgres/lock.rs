//! One user at a time: a file lock, which the system releases when its holder ends, however that happens.

use std::fmt;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};

use super::ClusterError;

/// The right to use a directory, for as long as this value and its process live.
///
/// A file that a killed process left behind never blocks: what counts is the lock on it (`flock`), not that it
/// is there. Its text names the holder for others to read.
#[derive(Debug)]
pub struct DirectoryLock {
    _file: File,
}

/// Who uses a directory.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Holder {
    /// Its process id, as it sees itself; `None` in the instant before it has written that down.
    pub pid: Option<u32>,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid}")?,
            None => f.write_str("another process")?,
        }
        match self.since {
            Some(since) => write!(f, ", since {}", since.to_rfc3339_opts(SecondsFormat::Secs, true)),
            None => Ok(()),
        }
    }
}

impl DirectoryLock {
    /// Takes the lock `file`, which is made when it is not there. Its parent must exist.
    ///
    /// # Errors
    /// [`ClusterError::InUse`], with the file's parent as the directory, when another process has it.
    pub fn acquire(file: &Path) -> Result<Self, ClusterError> {
        let mut held = open(file)?;
        let begun = Instant::now();
        loop {
            match held.try_lock() {
                Ok(()) => {
                    let written = held.set_len(0).and_then(|()| writeln!(held, "{}", std::process::id()));
                    written.map_err(ClusterError::io("write", file))?;
                    return Ok(Self { _file: held });
                }
                Err(TryLockError::WouldBlock) if begun.elapsed() < FORK_PATIENCE => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(ClusterError::InUse {
                        directory: file.parent().unwrap_or(file).to_owned(),
                        holder: read_holder(&mut held),
                    });
                }
                Err(TryLockError::Error(source)) => return Err(ClusterError::io("lock", file)(source)),
            }
        }
    }
}

/// A process that another thread is about to start holds a copy of every lock until it runs its program.
const FORK_PATIENCE: Duration = Duration::from_secs(1);

/// Takes the lock `file`, and waits up to `patience` for a holder that is about to end. `None` when it did not.
pub(super) fn acquire_within(file: &Path, patience: Duration) -> Result<Option<File>, ClusterError> {
    let held = open(file)?;
    let begun = Instant::now();
    loop {
        match held.try_lock() {
            Ok(()) => return Ok(Some(held)),
            Err(TryLockError::WouldBlock) if begun.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(source)) => return Err(ClusterError::io("lock", file)(source)),
        }
    }
}

/// Opens without truncating: the text belongs to the holder.
fn open(file: &Path) -> Result<File, ClusterError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.open(file).map_err(ClusterError::io("open", file))
}

/// The time of the last write is when the holder took it: it writes once.
fn read_holder(file: &mut File) -> Holder {
    let mut text = String::new();
    let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
    let since = file.metadata().and_then(|metadata| metadata.modified()).ok().map(DateTime::from);
    Holder { pid, since }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_user_is_told_who_holds_it_and_since_when() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("lock");
        let held = DirectoryLock::acquire(&file).unwrap();
        let Err(ClusterError::InUse { directory: told, holder }) = DirectoryLock::acquire(&file) else {
            panic!("two hold the same lock");
        };
        assert_eq!(told, directory.path());
        assert_eq!(holder.pid, Some(std::process::id()));
        assert!(holder.since.is_some());
        drop(held);
        DirectoryLock::acquire(&file).unwrap();
    }

    #[test]
    fn a_file_that_was_left_behind_does_not_block() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("lock");
        std::fs::write(&file, "1\n").unwrap();
        let _held = DirectoryLock::acquire(&file).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), format!("{}\n", std::process::id()));
    }

    #[test]
    fn waiting_for_a_holder_has_an_end() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("lock");
        let held = acquire_within(&file, Duration::ZERO).unwrap().unwrap();
        assert!(acquire_within(&file, Duration::from_millis(30)).unwrap().is_none());
        drop(held);
        // Other tests of this process start programs meanwhile, which hold copies for a moment.
        assert!(acquire_within(&file, FORK_PATIENCE).unwrap().is_some());
    }
}
