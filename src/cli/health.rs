//! `health`: asks the service on this machine whether it is ready, for container health checks.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use clap::Args;

use super::output::print;
use super::{CliError, GlobalArgs};

/// Ask the service at `listen` whether it is ready.
#[derive(Args, Debug)]
pub(crate) struct HealthArgs {}

/// Longer than a ready service ever takes, shorter than the patience of container engines.
const PATIENCE: Duration = Duration::from_secs(2);

/// Readiness is a small document; more than this is not ours.
const LARGEST_ANSWER: u64 = 65_536;

impl HealthArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let address = reachable(global.settings()?.listen);
        let answer =
            ask(address, "/health/ready").map_err(CliError::fault(format!("could not ask {address}")))?;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        match head.split_whitespace().nth(1) {
            Some("200") => print(body),
            Some(status) => Err(CliError::refused(format!("not ready ({status}): {body}"))),
            None => Err(CliError::refused(format!("what listens on {address} does not speak HTTP"))),
        }
    }
}

/// GETs `path`, and answers head and body as they come. By hand: what is asked for is one small document of a
/// service on this machine.
pub(super) fn ask(address: SocketAddr, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // HTTP/1.0, so that the answer comes in one piece, without chunks.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(LARGEST_ANSWER).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Where a service that listens on every address of this machine can be reached.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_on_every_address_is_asked_on_loopback() {
        let reach = |listen: &str| reachable(listen.parse().unwrap()).to_string();
        assert_eq!(reach("0.0.0.0:8080"), "127.0.0.1:8080");
        assert_eq!(reach("[::]:8080"), "[::1]:8080");
        assert_eq!(reach("10.1.2.3:80"), "10.1.2.3:80");
    }
}
