//! An address of the database that moves to another server, as a virtual one or a name does after a failover.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// Forwards each connection to the server that it leads to at that time.
pub(crate) struct MovingAddress {
    address: std::net::SocketAddr,
    leads_to: Arc<watch::Sender<PathBuf>>,
}

impl MovingAddress {
    /// It leads to the server with this socket.
    pub(crate) async fn to(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let leads_to = Arc::new(watch::Sender::new(socket));
        let shared = Arc::clone(&leads_to);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(forward(client, shared.subscribe()));
            }
        });
        Self { address, leads_to }
    }

    pub(crate) fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres?sslmode=disable", self.address)
    }

    /// New connections lead to the server with this socket. Those that were open stay so, and nothing ever comes on
    /// them again: that is how it looks when a host is gone.
    pub(crate) fn move_to(&self, socket: PathBuf) {
        self.leads_to.send_replace(socket);
    }
}

async fn forward(mut client: TcpStream, mut leads_to: watch::Receiver<PathBuf>) {
    let socket = leads_to.borrow_and_update().clone();
    let Ok(mut server) = UnixStream::connect(socket).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = leads_to.changed() => std::future::pending().await,
    }
}
