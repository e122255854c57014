//! Clusters that are kept apart from the directory that they belong to: who points where, and which of them
//! nobody points at any more.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::embedded_postgres::ClusterError;
use crate::embedded_postgres::folders::{is_ours_alone, write_whole};
use crate::embedded_postgres::lock::acquire_within;

/// A cluster elsewhere that was not started for so long is removed when its directory cannot be found, even
/// if that was on a disk that is no longer mounted.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30 * 24 * 60 * 60);

fn pointer_file(directory: &Path) -> PathBuf {
    directory.join("postgres/place")
}

pub(super) fn write_pointer(directory: &Path, home: &Path) -> Result<(), ClusterError> {
    write_whole(&pointer_file(directory), home.as_os_str().as_bytes())
}

pub(super) fn read_pointer_of(directory: &Path) -> Option<PathBuf> {
    let text = fs::read(pointer_file(directory)).ok()?;
    Some(PathBuf::from(OsStr::from_bytes(text.trim_ascii_end())))
}

/// Where the cluster of `directory` is kept. Only our own places count: we are root here, and remove what is
/// pointed at.
pub(super) fn read_pointer(directory: &Path, bases: &[&str]) -> Result<Option<PathBuf>, ClusterError> {
    let Some(home) = read_pointer_of(directory) else { return Ok(None) };
    let in_a_base = bases.iter().any(|base| home.parent() == Some(Path::new(base)));
    if in_a_base && is_random_name(home.file_name()) {
        return Ok(Some(home));
    }
    let file = pointer_file(directory);
    Err(ClusterError::io("believe", &file)(io::Error::other("it names none of the places that we use")))
}

/// The directory that a cluster belongs to, and the device that it was on.
pub(super) struct Owner {
    pub(super) directory: PathBuf,
    device: u64,
}

pub(super) fn write_owner(home: &Path, directory: &Path) -> Result<(), ClusterError> {
    let device = fs::metadata(directory).map_err(ClusterError::io("look at", directory))?.dev();
    let mut text = format!("{device}\n").into_bytes();
    text.extend_from_slice(directory.as_os_str().as_bytes());
    write_whole(&home.join("owner"), &text)
}

pub(super) fn read_owner(home: &Path) -> Option<Owner> {
    let text = fs::read(home.join("owner")).ok()?;
    let end = text.iter().position(|byte| *byte == b'\n')?;
    let device = std::str::from_utf8(&text[..end]).ok()?.parse().ok()?;
    Some(Owner { device, directory: PathBuf::from(OsStr::from_bytes(&text[end + 1..])) })
}

pub(super) fn belongs_to(home: &Path, directory: &Path) -> bool {
    read_owner(home).is_some_and(|owner| {
        owner.directory == directory
            || directory.canonicalize().is_ok_and(|directory| owner.directory == directory)
    })
}

/// Removes clusters that no directory points at any more. What cannot be looked at or removed stays.
pub(super) fn remove_orphans(bases: &[&str]) {
    for base in bases.iter().map(Path::new).filter(|base| is_ours_alone(base)) {
        for entry in fs::read_dir(base).into_iter().flatten().flatten() {
            let home = entry.path();
            if is_random_name(home.file_name()) && is_orphan(&home) {
                let unused = acquire_within(&home.join("server.lock"), Duration::ZERO);
                // Looked at again with the lock held: it may have been in the making.
                if unused.is_ok_and(|lock| lock.is_some()) && is_orphan(&home) {
                    let _ = fs::remove_dir_all(&home); // tried again by the next start
                }
            }
        }
    }
}

fn is_orphan(home: &Path) -> bool {
    let Some(owner) = read_owner(home) else { return unused_for(home, Duration::from_secs(60 * 60)) };
    if read_pointer_of(&owner.directory).as_deref() == Some(home) {
        return false;
    }
    // A directory on a disk that is not mounted now is away, not gone.
    let nearest = owner.directory.ancestors().find_map(|ancestor| fs::metadata(ancestor).ok());
    let same_device = nearest.is_some_and(|metadata| metadata.dev() == owner.device);
    same_device || unused_for(&home.join("owner"), FORGOTTEN_AFTER)
}

fn unused_for(path: &Path, span: Duration) -> bool {
    let changed = fs::metadata(path).and_then(|metadata| metadata.modified());
    changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|age| age > span))
}

fn is_random_name(name: Option<&OsStr>) -> bool {
    name.is_some_and(|name| name.len() == 16 && name.as_bytes().iter().all(u8::is_ascii_hexdigit))
}
