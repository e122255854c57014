//! Which ports are used, taken before anything is started.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use super::CliError;
use crate::cli::output::warn;
use crate::cli::service::{Sockets, listen_on};
use crate::config::Settings;

/// Where the first start answers if it can.
const USUAL_PORT: u16 = 8080;
/// The default of the setting `metrics_listen`.
const USUAL_METRICS_PORT: u16 = 9464;

/// The port of the service and one for metrics, both held from now on.
#[derive(Debug)]
pub(super) struct Listening {
    listener: TcpListener,
    address: SocketAddr,
    metrics_listener: TcpListener,
    metrics: SocketAddr,
}

impl Listening {
    /// `asked` must be free. Without it `remembered` or the usual port is taken, or else any.
    pub(super) fn choose(asked: Option<u16>, remembered: Option<u16>) -> Result<Self, CliError> {
        let listener = match asked {
            Some(port) => bind(port).map_err(|error| {
                CliError::refused(format!("port {port} cannot be used ({error}); name another with `--port`"))
            })?,
            None => bind_near(remembered.unwrap_or(USUAL_PORT))?,
        };
        let metrics_listener = bind(USUAL_METRICS_PORT)
            .or_else(|_| bind(0))
            .map_err(CliError::fault("could not find a free port for metrics"))?;
        let unknown = "could not learn the port";
        let address = listener.local_addr().map_err(CliError::fault(unknown))?;
        let metrics = metrics_listener.local_addr().map_err(CliError::fault(unknown))?;
        Ok(Self { listener, address, metrics_listener, metrics })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn metrics(&self) -> SocketAddr {
        self.metrics
    }

    /// What is held; metrics elsewhere if `settings`, which the caller may have set, say so.
    pub(super) fn into_sockets(self, settings: &Settings) -> Result<Sockets, CliError> {
        let metrics = if settings.metrics_listen == self.metrics {
            self.metrics_listener
        } else {
            listen_on("metrics_listen", settings.metrics_listen)?
        };
        Ok(Sockets { public: self.listener, metrics })
    }
}

fn bind_near(port: u16) -> Result<TcpListener, CliError> {
    bind(port).or_else(|error| {
        let free = bind(0).map_err(CliError::fault("could not find a free port"))?;
        warn(&format!("port {port} cannot be used ({error}); a free one is"));
        Ok(free)
    })
}

/// On this machine only: the credentials are for everybody to see.
fn bind(port: u16) -> io::Result<TcpListener> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_was_asked_for_and_is_taken_is_refused_and_one_that_is_remembered_is_replaced() {
        let taken = Listening::choose(Some(0), None).unwrap();
        let port = taken.address().port();
        let told = Listening::choose(Some(port), None).unwrap_err().to_string();
        assert!(told.contains(&port.to_string()) && told.contains("--port"), "{told}");
        assert_ne!(Listening::choose(None, Some(port)).unwrap().address().port(), port);
        drop(taken);
        assert_eq!(Listening::choose(None, Some(port)).unwrap().address().port(), port);
    }
}
