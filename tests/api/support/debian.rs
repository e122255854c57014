//! Programs and libraries of the distribution: from this machine, or from Debian's packages, unpacked into `target/`
//! without installing anything.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The program of this name in `PATH`, or where Debian keeps those of administrators.
pub(crate) fn on_this_machine(program: &str) -> Option<PathBuf> {
    let on_path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&on_path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|program| program.is_file())
}

/// The folder in which the packages are unpacked as `/` would hold them. Fetches them, unless an earlier run did; `why`
/// is told where that fails.
pub(crate) fn unpacked(name: &str, packages: &[&str], why: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&folder).unwrap();
    // Tests run in parallel, as threads or as processes: one fetches, the others wait.
    let lock = File::create(folder.with_added_extension("lock")).unwrap();
    lock.lock().unwrap();
    let root = folder.join("root");
    if root.exists() {
        return root;
    }
    let half = folder.join("half");
    // Whatever is there was interrupted.
    let _ = fs::remove_dir_all(&half);
    fs::create_dir_all(&half).unwrap();
    let mut download = Command::new("apt-get");
    download.args(["download", "-q"]).args(packages).current_dir(&half);
    if !succeeds(&mut download) {
        // A bare machine has no list of packages yet, and an old one names versions that are gone.
        let _ = succeeds(Command::new("apt-get").args(["update", "-q"]));
        run(&mut download, why);
    }
    for entry in fs::read_dir(&half).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            run(Command::new("dpkg").arg("-x").arg(&path).arg(half.join("root")), why);
        }
    }
    fs::rename(half.join("root"), &root).unwrap();
    root
}

/// The command, with the shared libraries of an unpacked folder.
pub(crate) fn with_libraries(command: &mut Command, root: &Path) {
    let libraries =
        ["usr/lib", "lib"].map(|lib| root.join(lib).join(format!("{}-linux-gnu", std::env::consts::ARCH)));
    command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries).unwrap());
}

fn run(command: &mut Command, why: &str) {
    assert!(succeeds(command), "{command:?} failed: {why}");
}

fn succeeds(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success())
}
