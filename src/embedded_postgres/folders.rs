//! Folders and files of clusters, made so that an account can or cannot get there, whatever the umask is.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::Path;

use super::ClusterError;

/// Makes `path` with `mode`, and its missing parents so that everybody can pass. What exists stays as it is.
pub(super) fn make_directory(path: &Path, mode: u32) -> Result<(), ClusterError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_directory(parent, 0o755)?;
    }
    match make_new(path, mode) {
        Err(ClusterError::Io { source, .. })
            if source.kind() == ErrorKind::AlreadyExists && path.is_dir() =>
        {
            Ok(())
        }
        made => made,
    }
}

/// Makes `path` with exactly `mode`, whatever the umask is; refuses one that exists.
pub(super) fn make_new(path: &Path, mode: u32) -> Result<(), ClusterError> {
    DirBuilder::new().mode(mode).create(path).map_err(ClusterError::io("create", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(ClusterError::io("set the mode of", path))
}

/// Sixteen random hexadecimal digits.
pub(super) fn random_name() -> Result<String, ClusterError> {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| ClusterError::Random)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether nobody else could have put something there, or could take something away.
pub(super) fn is_ours_alone(base: &Path) -> bool {
    fs::symlink_metadata(base).is_ok_and(|metadata| {
        metadata.is_dir() && metadata.uid() == nix::unistd::geteuid().as_raw() && metadata.mode() & 0o022 == 0
    })
}

/// Writes a file that is either there whole or not at all.
pub(super) fn write_whole(path: &Path, text: &[u8]) -> Result<(), ClusterError> {
    let part = path.with_extension("part");
    fs::write(&part, text).map_err(ClusterError::io("write", &part))?;
    fs::rename(&part, path).map_err(ClusterError::io("rename", &part))
}

pub(super) fn remove_all(directory: &Path) -> Result<(), ClusterError> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(ClusterError::io("remove", directory)(error))
        }
        _ => Ok(()),
    }
}
