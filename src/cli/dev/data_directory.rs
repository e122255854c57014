//! The folder that holds a development deployment: who may use it, what is in it, how it is emptied.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::CliError;
use crate::catalog_files;
use crate::embedded_postgres::{Cluster, ClusterError, DirectoryLock};

/// What we make in it, besides the cluster. Nothing else is ever removed.
const LOCK: &str = "lock";
const STATE: &str = "dev.json";
const ENVIRONMENT: &str = "environment";
const KEK: &str = "kek";
const ROOT_KEY: &str = "root.pem";
const KEYS: &str = "keys";
const CATALOG: &str = "catalog";
const CLUSTER: &str = "postgres";

const OURS: [&str; 8] = [CATALOG, CLUSTER, ENVIRONMENT, KEK, KEYS, LOCK, ROOT_KEY, STATE];

/// A data directory that only this process uses.
#[derive(Debug)]
pub(super) struct DataDirectory {
    path: PathBuf,
    _lock: DirectoryLock,
}

impl DataDirectory {
    /// Takes the named directory, or the usual one. It is made when it is not there.
    ///
    /// Refuses one that another process uses, and one that holds something else than a deployment.
    pub(super) fn open(named: Option<PathBuf>) -> Result<Self, CliError> {
        let path = match named {
            Some(path) => path,
            None => usual_place()?,
        };
        let failed = |doing: &str| {
            let doing = format!("could not {doing} the data directory {}", path.display());
            move |error: io::Error| CliError::fault(doing)(error)
        };
        make(&path).map_err(failed("make"))?;
        // Other commands are started elsewhere, and get its paths from us.
        let path = path.canonicalize().map_err(failed("find"))?;
        refuse_foreign(&path, &fs::read_dir(&path).and_then(names).map_err(failed("read"))?)?;
        let lock = DirectoryLock::acquire(&path.join(LOCK)).map_err(|error| match error {
            ClusterError::InUse { holder, .. } => CliError::refused(format!(
                "the data directory {} is in use by {holder}; stop that one first, or name another with \
                 `--data-dir`",
                path.display()
            )),
            error => error.into(),
        })?;
        Ok(Self { path, _lock: lock })
    }

    /// Removes everything that we made in it, and the cluster wherever it is.
    pub(super) fn reset(&self) -> Result<(), CliError> {
        Cluster::remove(&self.path)?;
        // The state last: with it, a reset that was cut short still knows the directory as its own.
        for name in OURS.into_iter().filter(|name| ![LOCK, STATE].contains(name)).chain([STATE]) {
            let path = self.path.join(name);
            let removed = match fs::symlink_metadata(&path) {
                Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&path),
                Ok(_) => fs::remove_file(&path),
                Err(error) => Err(error),
            };
            match removed {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(CliError::fault(format!("could not remove {}", path.display()))(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Writes the example catalog into it. What the example has no more is gone afterwards.
    pub(super) fn write_example(&self) -> Result<(), CliError> {
        let catalog = self.catalog();
        let removed = match fs::remove_dir_all(&catalog) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        removed
            .and_then(|()| catalog_files::write_example(&catalog))
            .map_err(CliError::fault(format!("could not write the example catalog to {}", catalog.display())))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn state_file(&self) -> PathBuf {
        self.path.join(STATE)
    }

    /// Lines for a shell that name the deployment to every other command.
    pub(super) fn environment_file(&self) -> PathBuf {
        self.path.join(ENVIRONMENT)
    }

    pub(super) fn kek_file(&self) -> PathBuf {
        self.path.join(KEK)
    }

    pub(super) fn root_key_file(&self) -> PathBuf {
        self.path.join(ROOT_KEY)
    }

    pub(super) fn keys(&self) -> PathBuf {
        self.path.join(KEYS)
    }

    pub(super) fn catalog(&self) -> PathBuf {
        self.path.join(CATALOG)
    }
}

/// Where data of services, or of a person's programs, belongs by custom.
fn usual_place() -> Result<PathBuf, CliError> {
    if geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/token-authority/dev"));
    }
    // A relative path in these variables is to be ignored (XDG base directory specification).
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    absolute("XDG_DATA_HOME")
        .or_else(|| Some(absolute("HOME")?.join(".local/share")))
        .map(|data| data.join("token-authority/dev"))
        .ok_or_else(|| CliError::refused("there is no home directory; name a place with `--data-dir`"))
}

/// Only its owner may look into it. One that exists is left as it is.
fn make(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        // What root makes here must let the database's account pass, whatever the umask is.
        let missing: Vec<&Path> = parent.ancestors().take_while(|ancestor| !ancestor.exists()).collect();
        fs::create_dir_all(parent)?;
        for made in missing.into_iter().filter(|made| !made.as_os_str().is_empty()) {
            fs::set_permissions(made, fs::Permissions::from_mode(0o755))?;
        }
    }
    fs::DirBuilder::new().mode(0o700).create(path)
}

fn names(entries: fs::ReadDir) -> io::Result<Vec<OsString>> {
    entries.map(|entry| entry.map(|entry| entry.file_name())).collect()
}

/// A folder that holds somebody's files is no place to put ours, much less one to reset.
fn refuse_foreign(path: &Path, names: &[OsString]) -> Result<(), CliError> {
    if names.iter().any(|name| name == STATE) {
        return Ok(());
    }
    let foreign: Vec<String> = names
        .iter()
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| !OURS.contains(&name.as_str()) && !name.starts_with('.'))
        .collect();
    match foreign.as_slice() {
        [] => Ok(()),
        [first, ..] => Err(CliError::refused(format!(
            "{} holds other files ({first}{}); name an empty directory with `--data-dir`",
            path.display(),
            if foreign.len() > 1 { ", …" } else { "" }
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_of_other_files_is_neither_used_nor_reset() {
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("thesis.txt"), "years of work").unwrap();
        let told = DataDirectory::open(Some(home.path().to_owned())).unwrap_err().to_string();
        assert!(told.contains("thesis.txt") && told.contains("--data-dir"), "{told}");
        assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_reset_removes_what_is_ours_and_nothing_else() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("data");
        let directory = DataDirectory::open(Some(path.clone())).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        fs::create_dir_all(path.join("keys/development/root")).unwrap();
        directory.write_example().unwrap();
        for name in [STATE, KEK, "notes.txt"] {
            fs::write(path.join(name), "").unwrap();
        }
        directory.reset().unwrap();
        let mut left = fs::read_dir(&path).and_then(names).unwrap();
        left.sort();
        assert_eq!(left, [LOCK, "notes.txt"]);
    }

    #[test]
    fn a_second_user_is_told_who_the_first_is() {
        let home = tempfile::tempdir().unwrap();
        let _first = DataDirectory::open(Some(home.path().to_owned())).unwrap();
        let told = DataDirectory::open(Some(home.path().to_owned())).unwrap_err().to_string();
        assert!(told.contains(&format!("process {}", std::process::id())), "{told}");
    }
}
