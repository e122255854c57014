//! The machine: whether the ports are ours to have, and whether there is room on the disks.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::finding::{Finding, codes};
use crate::cli::health;
use crate::config::Settings;

pub(super) fn examine(settings: &Settings) -> Vec<Finding> {
    let mut findings = vec![listen(settings), disk("keys_dir", &settings.keys_dir)];
    findings.extend(settings.anchors_dir.as_deref().map(|folder| disk("anchors_dir", folder)));
    findings
}

fn listen(settings: &Settings) -> Finding {
    let ports = [("listen", settings.listen), ("metrics_listen", settings.metrics_listen)];
    let mut says = Vec::new();
    for (name, address) in ports {
        match TcpListener::bind(address) {
            Ok(_) => says.push(format!("`{name}` ({address}) is free")),
            Err(error) if error.kind() == ErrorKind::AddrInUse => match who_answers(name, address) {
                Some(who) => says.push(format!("{who} answers at `{name}` ({address})")),
                None => {
                    return Finding::problem(
                        codes::LISTEN,
                        format!("another program answers at `{name}` ({address})"),
                        format!("end that program, or set `{name}` to another port"),
                    );
                }
            },
            Err(error) => {
                return Finding::problem(
                    codes::LISTEN,
                    format!("nobody can listen at `{name}` ({address}): {error}"),
                    format!(
                        "set `{name}` to an address of this machine, and to a port that this account may use"
                    ),
                );
            }
        }
    }
    Finding::good(codes::LISTEN, says.join("; "))
}

/// Who holds a port, if it is a service of ours.
fn who_answers(name: &str, address: SocketAddr) -> Option<&'static str> {
    let address = health::reachable(address);
    let path = if name == "listen" { "/health/live" } else { "/metrics" };
    let answer = health::ask(address, path).ok()?;
    let ours = answer.contains("\"status\":\"live\"") || answer.contains("token_authority_");
    ours.then_some("a service of ours")
}

/// A published file is some kilobytes; with less than this a disk is as good as full.
const LITTLE: u64 = 64 << 20;
const ENOUGH: u64 = 1 << 30;

fn disk(setting: &str, folder: &Path) -> Finding {
    // The folder may not be there yet: the disk is that of the nearest one that is.
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let there = absolute.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let state = match statvfs(there) {
        Ok(state) => state,
        Err(error) => {
            return Finding::unknown(
                codes::DISK,
                format!("the disk of {} cannot be asked: {error}", there.display()),
            );
        }
    };
    #[expect(clippy::useless_conversion, reason = "the widths of these numbers differ between systems")]
    let free = u64::from(state.blocks_available()) * u64::from(state.fragment_size());
    let megabytes = free >> 20;
    let says = format!("{megabytes} MiB are free where `{setting}` ({}) is", folder.display());
    match free {
        ..LITTLE => Finding::problem(codes::DISK, says, "free some: what is signed could not be kept there"),
        LITTLE..ENOUGH => Finding::warning(codes::DISK, says, "free some before it is full"),
        ENOUGH.. => Finding::good(codes::DISK, says),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    fn settings(listen: SocketAddr) -> Settings {
        let variables = [
            ("TOKEN_AUTHORITY_LISTEN".to_owned(), listen.to_string()),
            ("TOKEN_AUTHORITY_METRICS_LISTEN".to_owned(), "127.0.0.1:0".to_owned()),
        ];
        Settings::from_sources(None, variables).unwrap()
    }

    #[test]
    fn a_port_that_somebody_else_has_is_a_problem_and_a_free_one_is_not() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        // It answers, and is none of ours.
        let stranger = std::thread::spawn(move || {
            use std::io::{Read, Write};
            let (mut stream, _) = taken.accept().unwrap();
            let _ = stream.read(&mut [0; 512]);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello");
        });
        let found = listen(&settings(address));
        assert_eq!(found.level, Level::Problem, "{found:?}");
        assert!(found.says.contains(&address.to_string()), "{found:?}");
        stranger.join().unwrap();
        assert_eq!(listen(&settings(address)).level, Level::Good);
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_on_the_disk_of_its_parent() {
        let folder = tempfile::tempdir().unwrap();
        let found = disk("keys_dir", &folder.path().join("keys/production"));
        assert_ne!(found.level, Level::Unknown, "{found:?}");
    }
}
