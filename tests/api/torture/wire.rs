//! The wire between a replica and its PostgreSQL, which may be slow, swallow what it carries, or break.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;

/// How it carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Carriage {
    Prompt,
    Late(Duration),
    /// Nothing arrives, and nobody is told.
    Lost,
}

/// One wire, with any number of connections in it.
pub(super) struct Wire {
    url: SecretString,
    carriage: watch::Sender<Carriage>,
    /// Counts how often all connections were broken.
    cuts: watch::Sender<u32>,
}

impl Wire {
    /// To the server behind this socket.
    pub(super) async fn to(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("postgres://postgres@{address}/postgres?sslmode=disable");
        let (carriage, carries) = watch::channel(Carriage::Prompt);
        let (cuts, cut) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (socket, carries, mut cut) = (socket.clone(), carries.clone(), cut.clone());
                cut.mark_unchanged();
                tokio::spawn(async move {
                    // A server that is away refuses the connection, as it would without us.
                    let Ok(server) = UnixStream::connect(&socket).await else { return };
                    let (from_client, to_client) = client.into_split();
                    let (from_server, to_server) = server.into_split();
                    tokio::select! {
                        () = carry(from_client, to_server, carries.clone()) => {}
                        () = carry(from_server, to_client, carries) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        Self { url: url.into(), carriage, cuts }
    }

    pub(super) fn url(&self) -> &SecretString {
        &self.url
    }

    pub(super) fn set(&self, carriage: Carriage) {
        self.carriage.send_replace(carriage);
    }

    /// Breaks every connection.
    pub(super) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }
}

/// One direction, until either side ends it.
async fn carry(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    carries: watch::Receiver<Carriage>,
) {
    let mut said = vec![0; 65_536];
    while let Ok(length @ 1..) = from.read(&mut said).await {
        let carriage = *carries.borrow();
        match carriage {
            Carriage::Prompt => {}
            Carriage::Late(by) => tokio::time::sleep(by).await,
            Carriage::Lost => continue,
        }
        if to.write_all(&said[..length]).await.is_err() {
            return;
        }
    }
}
