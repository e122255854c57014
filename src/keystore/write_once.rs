//! Writes files whole and durable: one that is not there yet, or one in another's place.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Writes `content` to `path` with these permissions. After a crash the file is there
/// with all of its content, or it is not there.
///
/// # Errors
///
/// [`io::ErrorKind::AlreadyExists`] where the file is there; it stays as it is. Else the
/// file system's own.
pub(crate) fn write_once(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let draft = draft_of(path);
    let written = write_draft(&draft, content, mode)
        // A link, other than a rename, never replaces: of two writers one learns that it lost.
        .and_then(|()| fs::hard_link(&draft, path));
    let removed = fs::remove_file(&draft);
    written.and(removed)?;
    path.parent().map_or(Ok(()), |folder| File::open(or_here(folder))?.sync_all())
}

/// Writes `content` in place of whatever `path` holds, with these permissions. After a
/// crash the file is the old one or the new one.
///
/// # Errors
///
/// The file system's own.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let draft = draft_of(path);
    write_draft(&draft, content, mode).and_then(|()| fs::rename(&draft, path)).inspect_err(|_| {
        // What went wrong is told; a draft left behind is overwritten by the next attempt.
        let _ = fs::remove_file(&draft);
    })?;
    path.parent().map_or(Ok(()), |folder| File::open(or_here(folder))?.sync_all())
}

/// A draft per process: two writers never share one.
fn draft_of(path: &Path) -> PathBuf {
    let mut name = path.file_name().map_or_else(OsString::new, ToOwned::to_owned);
    name.push(format!(".draft-{}", std::process::id()));
    path.with_file_name(name)
}

fn write_draft(draft: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(draft)?;
    file.write_all(content)?;
    file.sync_all()
}

/// The parent of a bare file name is spelled "", which nothing can open.
fn or_here(folder: &Path) -> &Path {
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_written_once_and_no_draft_remains() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        write_once(&path, b"first", 0o600).unwrap();
        assert_eq!(write_once(&path, b"second", 0o600).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory");
        for content in ["first", "second and longer", "3"] {
            replace(&path, content.as_bytes(), 0o600).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content.as_bytes());
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_draft_that_a_crash_left_behind_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(draft_of(&path), b"half a sec").unwrap();
        write_once(&path, b"whole", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
    }
}
