//! A server in a process of its own, whose processor time can be told from the load generator's.

use std::io::Read;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::outcome::{Fault, Outcome};

/// What this program is when it is started as a child.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Role {
    Hello,
    Naive,
}

impl Role {
    /// The arguments that start this program in this role.
    pub(crate) fn arguments(self) -> [&'static str; 2] {
        let name = match self {
            Self::Hello => "hello",
            Self::Naive => "naive",
        };
        ["--role", name]
    }
}

/// A child that answers. It ends with this value.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts what is to listen at `address`, and waits until it does.
    pub(crate) fn start(command: &mut Command, address: SocketAddr) -> Outcome<Self> {
        // The other end of this pipe tells our own roles that we are gone.
        let mut server = Self { address, child: command.stdin(Stdio::piped()).spawn()? };
        let began = Instant::now();
        while TcpStream::connect(address).is_err() {
            if let Some(status) = server.child.try_wait()? {
                return Err(Fault::new(format!("{command:?} ended: {status}")));
            }
            if began.elapsed() > PATIENCE {
                return Err(Fault::new(format!("{command:?} does not listen")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(server)
    }

    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const PATIENCE: Duration = Duration::from_secs(30);

/// An address of this machine that nobody listens at.
pub(crate) fn free_address() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?)
}

/// In the child: ends this process when the parent is gone, which closes the pipe.
pub(crate) fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
}
