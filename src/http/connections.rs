//! Lets clients in: so many connections from one address, by TLS where that is configured, each within its time.

mod doors;
mod stream;
mod tls;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix_http::Protocol;
use actix_http::error::DispatchError;
use actix_server::GracefulShutdownSignal;
use metrics::counter;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use self::doors::Doors;
pub(crate) use self::stream::Connection;
use self::stream::{Patience, Transport};
pub(super) use self::tls::keep_up;
pub use self::tls::{Certificate, CertificateError};
use crate::config::Settings;
use crate::telemetry::metric_names::CONNECTIONS_REFUSED;

/// Who decides on each new connection. Cheap to clone.
#[derive(Clone)]
pub(super) struct Entrance {
    doors: Arc<Doors>,
    tls: Option<TlsAcceptor>,
    patience: Patience,
    stopping: GracefulShutdownSignal,
}

impl Entrance {
    pub(super) fn new(
        settings: &Settings,
        certificate: Option<&Arc<Certificate>>,
        stopping: GracefulShutdownSignal,
    ) -> Self {
        let most = settings.connections_per_address.get();
        Self {
            doors: Arc::new(Doors::new(most, settings.trusted_proxies.clone())),
            tls: certificate.map(|certificate| TlsAcceptor::from(certificate.server())),
            patience: Patience(settings.request_time),
            stopping,
        }
    }

    /// A connection that may be served, with what the server needs to know of it.
    ///
    /// # Errors
    /// Its address has too many already, or it does not speak TLS in time where it must. It is closed without a word:
    /// whoever it is costs nothing more.
    pub(super) async fn admit(
        &self,
        stream: TcpStream,
    ) -> Result<(Connection, Protocol, Option<std::net::SocketAddr>), DispatchError> {
        let peer = stream.peer_addr()?;
        let Some(place) = self.doors.enter(peer.ip()) else {
            counter!(CONNECTIONS_REFUSED).increment(1);
            return Err(io::Error::from(io::ErrorKind::ConnectionRefused).into());
        };
        let transport = match &self.tls {
            None => Transport::Plain(stream),
            Some(tls) => {
                let handshake = tokio::select! {
                    outcome = tokio::time::timeout(HANDSHAKE_TIME.min(self.patience.0), tls.accept(stream)) => outcome,
                    () = self.stopping.notified() => return Err(io::Error::from(io::ErrorKind::Interrupted).into()),
                };
                Transport::Secure(Box::new(handshake.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??))
            }
        };
        let stopping = self.stopping.clone();
        let stopping = Box::pin(async move { stopping.notified().await });
        Ok((Connection::new(transport, place, self.patience, stopping), Protocol::Http1, Some(peer)))
    }
}

const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
