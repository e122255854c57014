//! Ruby with its JWT library: this machine's, or Debian's packages for the interpreter that is here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::support::debian::{on_this_machine, unpacked, with_libraries};

/// An interpreter that has jwt and rbnacl. `None` where there is no interpreter at all, which is told; a run that is to
/// leave nothing out (`CI` is set) fails then.
pub(super) fn ruby() -> Option<Command> {
    let Some(program) = on_this_machine("ruby") else {
        let missing = "there is no Ruby here, so ruby-jwt is not tried; on Debian: apt-get install ruby";
        assert!(std::env::var_os("CI").is_none(), "{missing}");
        println!("NOT TRIED: {missing}");
        return None;
    };
    let mut own = Command::new(&program);
    own.args(["-e", "require 'jwt'; require 'rbnacl'"]).stderr(Stdio::null());
    if own.status().unwrap().success() {
        return Some(Command::new(program));
    }
    let root = unpacked(
        "ruby",
        &["libffi8", "libsodium23", "ruby-ffi", "ruby-jwt", "ruby-rbnacl"],
        "this test needs Ruby's jwt and rbnacl; on Debian: apt-get install ruby-jwt ruby-rbnacl",
    );
    let mut ruby = Command::new(program);
    with_libraries(&mut ruby, &root);
    let mut folders = Vec::new();
    collect(&root.join("usr"), &mut folders);
    ruby.env("RUBYLIB", std::env::join_paths(folders).unwrap());
    Some(ruby)
}

/// The folders that hold what is required by these names.
fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            collect(&path, found);
        }
        let is_one = ["ffi.rb", "ffi_c.so", "jwt.rb", "rbnacl.rb"].iter().any(|name| path.ends_with(name));
        if is_one && !folder.ends_with("ffi") && !found.iter().any(|known| known == folder) {
            found.push(folder.to_owned());
        }
    }
}
