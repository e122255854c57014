//! Where a cluster's files are: under the directory that it belongs to, or, when we are root and the server's
//! account cannot get there, in a place that it can reach, with a pointer left behind.
//!
//! ```text
//! <directory>/postgres/   lock       who uses it (we hold it)
//!                         place      where the rest is, when it is elsewhere
//! <home>/                 server.lock  held by the supervisor until the server is gone
//!                         owner      the directory that it belongs to, when that is elsewhere
//!                         data-15/   the cluster, named by the version that made it
//!                         run/       its socket and its log
//! ```

mod elsewhere;

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::statvfs::statvfs;

use super::folders::{is_ours_alone, make_directory, make_new, random_name, remove_all};
use super::lock::{DirectoryLock, acquire_within};
use super::{Account, ClusterError, Durability};

use elsewhere::{
    belongs_to, read_owner, read_pointer, read_pointer_of, remove_orphans, write_owner, write_pointer,
};

/// Where root keeps clusters whose own directory the server's account cannot reach, the first that serves.
pub(super) const BASES: &[&str] = &["/var/lib/token-authority/clusters", "/var/tmp/token-authority-clusters"];

/// Linux keeps files in memory here. Cloning a database takes a tenth of the time that it takes on a disk.
const MEMORY: &str = "/dev/shm";
const ENOUGH_BYTES: u128 = 1 << 30;

/// How long a server may take to stop after its process has died.
const PATIENCE: Duration = Duration::from_secs(60);

/// The files of one cluster.
#[derive(Debug)]
pub(super) struct Place {
    home: PathBuf,
    throwaway: bool,
}

/// Takes the right to use the cluster of `directory`. Makes the directory when it is not there.
pub(super) fn lock(directory: &Path) -> Result<DirectoryLock, ClusterError> {
    if !directory.exists() {
        make_directory(directory, 0o700)?;
    }
    let ours = directory.join("postgres");
    make_directory(&ours, 0o711)?;
    match DirectoryLock::acquire(&ours.join("lock")) {
        // What people know is the directory that they named.
        Err(ClusterError::InUse { holder, .. }) => {
            Err(ClusterError::InUse { directory: directory.to_owned(), holder })
        }
        other => other,
    }
}

/// Removes what is kept for `directory`, here and elsewhere.
pub(super) fn remove(directory: &Path, bases: &[&str]) -> Result<(), ClusterError> {
    let ours = directory.join("postgres");
    if !ours.exists() {
        return Ok(());
    }
    let _lock = lock(directory)?;
    if let Some(home) = read_pointer(directory, bases)?
        && belongs_to(&home, directory)
    {
        let place = Place { home, throwaway: false };
        let _server = place.lock_server()?;
        remove_all(&place.home)?;
    } else {
        let _server = Place { home: ours.clone(), throwaway: false }.lock_server()?;
    }
    remove_all(&ours)
}

impl Place {
    /// The place of the cluster of `directory`, where it is or else is going to be, and who runs it: the
    /// owner of what is there, else `account`.
    pub(super) fn of(
        directory: &Path,
        account: Account,
        bases: &[&str],
    ) -> Result<(Self, Account), ClusterError> {
        let directory = &directory.canonicalize().map_err(ClusterError::io("find", directory))?;
        let place = match read_pointer(directory, bases)? {
            Some(home) => Self::elsewhere(directory, home)?,
            None => Self { home: directory.join("postgres"), throwaway: false },
        };
        // Only now: the cluster of a directory that was moved looks like an orphan until it is claimed.
        remove_orphans(bases);
        if let Some(major) = place.made_by()? {
            let owner = Account::owning(&place.data(major))?;
            if owner.can_enter(&place.home) || let_in(directory, &place.home, &owner)? {
                return Ok((place, owner));
            }
            let (home, account) = (place.home.clone(), owner.name().to_owned());
            return Err(ClusterError::Unreachable { home, account });
        }
        if account.can_enter(&place.home) || let_in(directory, &place.home, &account)? {
            return Ok((place, account));
        }
        let place = Self::make_elsewhere(directory, &account, bases)?;
        Ok((place, account))
    }

    /// A place that nobody else has, in the system's folders for such things. What need not be durable is in
    /// memory where there is room; what must be is on a disk, or forcing it there would cost nothing.
    pub(super) fn throwaway(account: &Account, durability: Durability) -> Result<Self, ClusterError> {
        let memory = Path::new(MEMORY);
        let named = std::env::temp_dir();
        // Of the two that every system has, `/tmp` is the one that may itself be memory.
        let disk = match durability {
            Durability::Durable => [Path::new("/var/tmp"), named.as_path(), Path::new("/tmp")],
            Durability::Unsafe => [named.as_path(), Path::new("/tmp"), Path::new("/var/tmp")],
        };
        let fast = durability == Durability::Unsafe && has_room(memory) && account.can_enter(memory);
        let found = if fast { Some(memory) } else { disk.into_iter().find(|base| account.can_enter(base)) };
        let Some(base) = found else {
            let (account, tried) = (account.name().to_owned(), "/tmp, /var/tmp".to_owned());
            return Err(ClusterError::NoPlace { directory: named, account, tried });
        };
        // Without links, since that is how the system shows where a server works.
        let base = base.canonicalize().map_err(ClusterError::io("find", base))?;
        let home = base.join(format!("token-authority-{}", random_name()?));
        make_new(&home, 0o700)?;
        // The account removes it all, when we cannot any more.
        account.own(&home).map_err(ClusterError::io("hand over", &home))?;
        Ok(Self { home, throwaway: true })
    }

    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    /// The folder of the cluster that a version of PostgreSQL made.
    pub(super) fn data(&self, major: u32) -> PathBuf {
        self.home.join(format!("data-{major}"))
    }

    /// The folder of what lives only while the server runs.
    pub(super) fn run(&self) -> PathBuf {
        self.home.join("run")
    }

    /// What the server writes.
    pub(super) fn log(&self) -> PathBuf {
        self.run().join("server.log")
    }

    pub(super) fn is_throwaway(&self) -> bool {
        self.throwaway
    }

    /// The version whose cluster is here; the newest, should there be several.
    pub(super) fn made_by(&self) -> Result<Option<u32>, ClusterError> {
        let entries = fs::read_dir(&self.home).map_err(ClusterError::io("read", &self.home))?;
        let version = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_prefix("data-")?.parse().ok();
        Ok(entries.flatten().filter_map(version).max())
    }

    /// The lock that goes over to the server's supervisor. When the previous one still stops its server, since
    /// its process was killed, this waits for it.
    pub(super) fn lock_server(&self) -> Result<File, ClusterError> {
        let lock = acquire_within(&self.home.join("server.lock"), PATIENCE)?;
        let slow = || ClusterError::TooSlow { what: "stop", seconds: PATIENCE.as_secs(), log: self.log() };
        lock.ok_or_else(slow)
    }

    fn elsewhere(directory: &Path, home: PathBuf) -> Result<Self, ClusterError> {
        if !home.is_dir() {
            return Err(ClusterError::Gone { directory: directory.to_owned(), home });
        }
        if !belongs_to(&home, directory) {
            match read_owner(&home) {
                // A copy of the directory. One that was moved takes its cluster along.
                Some(owner) if read_pointer_of(&owner.directory).as_deref() == Some(home.as_path()) => {
                    return Err(ClusterError::BelongsElsewhere {
                        directory: directory.to_owned(),
                        owner: owner.directory,
                    });
                }
                _ => {}
            }
        }
        write_owner(&home, directory)?; // also says that it is still in use
        Ok(Self { home, throwaway: false })
    }

    fn make_elsewhere(directory: &Path, account: &Account, bases: &[&str]) -> Result<Self, ClusterError> {
        for base in bases.iter().map(Path::new) {
            if make_directory(base, 0o755).is_err() || !is_ours_alone(base) || !account.can_enter(base) {
                continue;
            }
            let home = base.join(random_name()?);
            make_new(&home, 0o711)?;
            let place = Self { home, throwaway: false };
            // Whoever removes orphans passes over a cluster whose server's lock is held.
            let _being_made = place.lock_server()?;
            write_owner(&place.home, directory)?;
            write_pointer(directory, &place.home)?;
            return Ok(place);
        }
        Err(ClusterError::NoPlace {
            directory: directory.to_owned(),
            account: account.name().to_owned(),
            tried: bases.join(", "),
        })
    }
}

/// A throw-away cluster's supervisor removes its files; this is for one that was halted or never ran.
impl Drop for Place {
    fn drop(&mut self) {
        if self.throwaway {
            let _ = fs::remove_dir_all(&self.home); // mostly gone already
        }
    }
}

/// Whether a file system in memory holds a cluster and some clones of its databases. Containers have 64 MB by
/// default.
fn has_room(base: &Path) -> bool {
    statvfs(base).is_ok_and(|room| {
        u128::from(room.blocks_available()) * u128::from(room.fragment_size()) >= ENOUGH_BYTES
    })
}

/// Lets the account pass through `directory`, if that is ours, closed to all others, and all that keeps it out.
fn let_in(directory: &Path, home: &Path, account: &Account) -> Result<bool, ClusterError> {
    let Some(group) = account.other_group().filter(|_| home.starts_with(directory)) else {
        return Ok(false);
    };
    let before = fs::metadata(directory).map_err(ClusterError::io("look at", directory))?;
    let ours = before.uid() == nix::unistd::geteuid().as_raw();
    if !ours || before.mode() & 0o077 != 0 {
        return Ok(false);
    }
    let set = |group: u32, mode: u32| {
        chown(directory, None, Some(group))?;
        fs::set_permissions(directory, fs::Permissions::from_mode(mode))
    };
    let closed = before.mode() & 0o7777;
    set(group.as_raw(), closed | 0o010).map_err(ClusterError::io("set the mode of", directory))?;
    if account.can_enter(home) {
        return Ok(true);
    }
    set(before.gid(), closed).map_err(ClusterError::io("set the mode of", directory))?;
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory under one that only its owner may enter, and a base that everybody may.
    struct Scene {
        bases: Vec<String>,
        directory: PathBuf,
        root: tempfile::TempDir,
    }

    impl Scene {
        fn new(parent_mode: u32) -> Self {
            let root =
                tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().unwrap();
            let parent = root.path().canonicalize().unwrap().join("parent");
            make_directory(&parent, parent_mode).unwrap();
            let bases = vec![root.path().canonicalize().unwrap().join("base").display().to_string()];
            Self { bases, directory: parent.join("data"), root }
        }

        fn bases(&self) -> Vec<&str> {
            self.bases.iter().map(String::as_str).collect()
        }

        fn place(&self) -> Result<Place, ClusterError> {
            let _lock = lock(&self.directory)?;
            Place::of(&self.directory, Account::for_server()?, &self.bases()).map(|(place, _)| place)
        }

        fn kept_elsewhere(&self) -> usize {
            fs::read_dir(self.root.path().join("base")).map_or(0, Iterator::count)
        }
    }

    fn mode_of(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o777
    }

    fn is_root() -> bool {
        nix::unistd::geteuid().is_root()
    }

    #[test]
    fn a_directory_that_can_be_reached_keeps_its_cluster() {
        let scene = Scene::new(0o755);
        let place = scene.place().unwrap();
        assert_eq!(place.home(), scene.directory.join("postgres"));
        // For root: closed to everybody but the group that was let through.
        assert_eq!(mode_of(&scene.directory), if is_root() { 0o710 } else { 0o700 });
        assert_eq!(scene.kept_elsewhere(), 0);
    }

    #[test]
    fn a_directory_below_a_closed_one_has_its_cluster_elsewhere_and_keeps_its_mode() {
        let scene = Scene::new(0o700);
        let place = scene.place().unwrap();
        assert_eq!(mode_of(scene.directory.parent().unwrap()), 0o700);
        assert_eq!(mode_of(&scene.directory), 0o700);
        if is_root() {
            assert_eq!(place.home().parent().unwrap().display().to_string(), scene.bases[0]);
            assert_eq!(scene.place().unwrap().home(), place.home());
            assert_eq!(scene.kept_elsewhere(), 1);
            remove(&scene.directory, &scene.bases()).unwrap();
            assert_eq!(scene.kept_elsewhere(), 0);
            assert!(!scene.directory.join("postgres").exists());
        } else {
            assert_eq!(place.home(), scene.directory.join("postgres"));
        }
    }

    #[test]
    fn a_directory_open_to_others_is_not_changed() {
        if !is_root() {
            return; // who is not root has nobody to let in
        }
        let scene = Scene::new(0o755);
        make_directory(&scene.directory, 0o750).unwrap();
        let place = scene.place().unwrap();
        assert_eq!(mode_of(&scene.directory), 0o750);
        assert_ne!(place.home(), scene.directory.join("postgres"));
    }

    #[test]
    fn a_cluster_goes_with_its_directory() {
        if !is_root() {
            return; // only root keeps clusters elsewhere
        }
        let scene = Scene::new(0o700);
        let home = scene.place().unwrap().home().to_owned();
        let parent = scene.directory.parent().unwrap().to_owned();

        // A copy must not share it with the original.
        let copy = Scene { directory: parent.join("copy"), ..Scene::new(0o700) };
        let copied = copy.directory.join("postgres");
        fs::create_dir_all(&copied).unwrap();
        fs::copy(scene.directory.join("postgres/place"), copied.join("place")).unwrap();
        let told = Place::of(&copy.directory, Account::for_server().unwrap(), &scene.bases()).unwrap_err();
        assert!(matches!(told, ClusterError::BelongsElsewhere { .. }), "{told}");
        // Starting the copy anew leaves the original's alone.
        remove(&copy.directory, &scene.bases()).unwrap();
        assert!(home.is_dir());

        // One that was moved takes it along.
        let moved = parent.join("moved");
        fs::rename(&scene.directory, &moved).unwrap();
        let (place, _) = Place::of(&moved, Account::for_server().unwrap(), &scene.bases())
            .map_err(|error| error.to_string())
            .unwrap_or_else(|told| panic!("{told}"));
        assert_eq!(place.home(), home);
    }

    #[test]
    fn clusters_whose_directory_is_gone_are_removed_and_others_stay() {
        if !is_root() {
            return; // only root keeps clusters elsewhere
        }
        let scene = Scene::new(0o700);
        let gone = scene.place().unwrap();
        let running = gone.lock_server().unwrap();
        fs::remove_dir_all(&scene.directory).unwrap();
        remove_orphans(&scene.bases());
        assert!(gone.home().is_dir(), "its server still runs");
        drop(running);

        let stays = Scene { directory: scene.directory.with_file_name("other"), ..Scene::new(0o700) };
        let _lock = lock(&stays.directory).unwrap();
        let account = Account::for_server().unwrap();
        let (stays, _) = Place::of(&stays.directory, account, &scene.bases()).unwrap();
        assert!(!gone.home().exists());
        assert!(stays.home().is_dir());
        assert_eq!(scene.kept_elsewhere(), 1);
    }

    #[test]
    fn a_pointer_to_anywhere_else_is_not_believed() {
        let scene = Scene::new(0o755);
        let _lock = lock(&scene.directory).unwrap();
        let victim = scene.root.path().join("0123456789abcdef");
        fs::create_dir(&victim).unwrap();
        write_pointer(&scene.directory, &victim).unwrap();
        let account = Account::for_server().unwrap();
        assert!(Place::of(&scene.directory, account, &scene.bases()).is_err());
        drop(_lock);
        assert!(remove(&scene.directory, &scene.bases()).is_err());
        assert!(victim.is_dir());
    }

    #[test]
    fn a_pointer_to_a_cluster_that_is_gone_is_told() {
        let scene = Scene::new(0o755);
        let _lock = lock(&scene.directory).unwrap();
        write_pointer(&scene.directory, &Path::new(&scene.bases[0]).join("0123456789abcdef")).unwrap();
        let account = Account::for_server().unwrap();
        let told = Place::of(&scene.directory, account, &scene.bases()).unwrap_err();
        assert!(matches!(told, ClusterError::Gone { .. }), "{told}");
        drop(_lock);
        remove(&scene.directory, &scene.bases()).unwrap();
        assert!(!scene.directory.join("postgres").exists());
    }
}
