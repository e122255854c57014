//! A wire to the database that kills whoever uses it between two statements.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::database::Database;

/// How a run ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Run {
    /// Killed once its statement of this number had been carried out.
    Killed,
    /// Came to its end before.
    Ended(ExitStatus),
}

/// Runs a command against a database and kills it (SIGKILL) when its `nth` statement, counted from 1, has been
/// carried out and answered by the server, before it hears of that answer.
///
/// `command` gets the URL under which it reaches the database.
pub(crate) fn run_until_statement(
    database: &Database,
    nth: u32,
    command: impl FnOnce(&str) -> Command,
) -> Run {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("postgres://postgres@127.0.0.1:{port}/{}?sslmode=disable", database.name());
    let cutter = Arc::new(Cutter {
        nth,
        seen: AtomicU32::new(0),
        has_cut: AtomicBool::new(false),
        victim: Mutex::new(None),
        socket: database.socket(),
    });

    // The pid must be known before the first byte passes.
    let mut victim = cutter.victim.lock().unwrap();
    let mut child: Child = command(&url).spawn().unwrap();
    *victim = Some(Pid::from_raw(child.id().cast_signed()));
    drop(victim);
    listener.set_nonblocking(true).unwrap();
    loop {
        match listener.accept() {
            Ok((client, _)) => {
                client.set_nonblocking(false).unwrap();
                let cutter = Arc::clone(&cutter);
                std::thread::spawn(move || cutter.carry(client));
            }
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(1)),
        }
        if let Some(status) = child.try_wait().unwrap() {
            return if cutter.has_cut.load(Ordering::SeqCst) { Run::Killed } else { Run::Ended(status) };
        }
    }
}

struct Cutter {
    nth: u32,
    seen: AtomicU32,
    has_cut: AtomicBool,
    victim: Mutex<Option<Pid>>,
    socket: PathBuf,
}

impl Cutter {
    /// One connection: what the client sends is passed on message by message, so that statements are counted.
    fn carry(&self, client: TcpStream) {
        let server = UnixStream::connect(&self.socket).unwrap();
        let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| self.answer(server, client));
            // The first message has no type (PostgreSQL, "Message Formats": StartupMessage).
            pass_startup(&mut from_client, &mut to_server);
            while let Some((kind, message)) = read_message(&mut from_client) {
                // Execute of the extended protocol, Query of the simple one.
                if matches!(kind, b'E' | b'Q') {
                    self.seen.fetch_add(1, Ordering::SeqCst);
                }
                if to_server.write_all(&message).is_err() {
                    break;
                }
            }
            let _ = to_server.shutdown(std::net::Shutdown::Both);
        });
    }

    /// What the server says goes back, until it has answered the statement that was to be the last one.
    fn answer(&self, mut server: UnixStream, mut client: TcpStream) {
        while let Some((kind, message)) = read_message(&mut server) {
            let is_last = self.seen.load(Ordering::SeqCst) >= self.nth;
            // ReadyForQuery: the statement is done, and durable if it was a COMMIT.
            if kind == b'Z' && is_last {
                self.has_cut.store(true, Ordering::SeqCst);
                if let Some(victim) = self.victim.lock().unwrap().take() {
                    let _ = kill(victim, Signal::SIGKILL);
                }
                break;
            }
            if client.write_all(&message).is_err() {
                break;
            }
        }
        let _ = server.shutdown(std::net::Shutdown::Both);
        let _ = client.shutdown(std::net::Shutdown::Both);
    }
}

/// A client that is gone by then sends nothing more either.
fn pass_startup(from: &mut impl Read, to: &mut impl Write) {
    let mut length = [0; 4];
    if from.read_exact(&mut length).is_ok() {
        let mut rest = vec![0; u32::from_be_bytes(length) as usize - 4];
        if from.read_exact(&mut rest).is_ok() {
            let _ = to.write_all(&[&length[..], &rest].concat());
        }
    }
}

/// One typed message, whole.
fn read_message(from: &mut impl Read) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 5];
    from.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    let mut message = head.to_vec();
    message.resize(1 + length, 0);
    from.read_exact(&mut message[5..]).ok()?;
    Some((head[0], message))
}
