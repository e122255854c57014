//! Fetches packages that we did not write from the registry of their language, pinned, into `target/`.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

/// Where packages come from.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Registry {
    /// Into `node_modules`.
    Npm,
    /// Into a virtual environment.
    PyPi,
}

/// Installs packages into a folder of their own, unless an earlier run did.
pub(crate) fn install(folder: &Path, registry: Registry, packages: &[&str]) {
    fs::create_dir_all(folder.parent().unwrap()).unwrap();
    // Tests run in parallel, as threads or as processes: one installs, the others wait.
    let lock = File::create(folder.with_added_extension("lock")).unwrap();
    lock.lock().unwrap();
    let complete = folder.join("complete");
    if complete.exists() {
        return;
    }
    // Whatever is there was interrupted.
    let _ = fs::remove_dir_all(folder);
    match registry {
        Registry::Npm => {
            fs::create_dir_all(folder).unwrap();
            let options = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix=."];
            run(Command::new("npm").current_dir(folder).args(options).args(packages));
        }
        Registry::PyPi => {
            run(Command::new("python3").args(["-m", "venv"]).arg(folder));
            let options = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];
            run(Command::new(folder.join("bin/python")).args(options).args(packages));
        }
    }
    File::create(complete).unwrap();
}

fn run(command: &mut Command) {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap_or_else(|error| {
        panic!(
            "{command:?} could not start ({error}): this test needs python3 with venv, Node.js and npm; on \
             Debian: apt-get install python3-venv nodejs npm"
        )
    });
    assert!(status.success(), "{command:?} failed: {status}");
}
