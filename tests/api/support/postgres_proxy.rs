//! Stands between the program and its PostgreSQL, and keeps an answer to itself: what is committed then is
//! committed, and the program does not know.

use std::str::FromStr;
use std::sync::{Arc, Mutex};

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// Forwards until it is told to withhold.
pub(crate) struct PostgresProxy {
    url: SecretString,
    shared: Arc<Shared>,
    withheld: watch::Receiver<bool>,
}

struct Shared {
    socket: std::path::PathBuf,
    /// Part of a statement: the answer to the commit that follows it is withheld.
    marker: Mutex<Option<&'static str>>,
    withholds: watch::Sender<bool>,
}

impl PostgresProxy {
    /// In front of the database at this URL, which is reached by its socket.
    pub(crate) async fn before(url: &SecretString) -> Self {
        let options = PgConnectOptions::from_str(url.expose_secret()).unwrap();
        let folder = options.get_socket().unwrap();
        let socket = folder.join(format!(".s.PGSQL.{}", options.get_port()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url =
            format!("postgres://{}@{address}/{}", options.get_username(), options.get_database().unwrap());
        let (withholds, withheld) = watch::channel(false);
        let shared = Arc::new(Shared { socket, marker: Mutex::new(None), withholds });
        tokio::spawn({
            let shared = Arc::clone(&shared);
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    tokio::spawn(forward(client, Arc::clone(&shared)));
                }
            }
        });
        Self { url: url.into(), shared, withheld }
    }

    /// Where the program is to connect.
    pub(crate) fn url(&self) -> SecretString {
        self.url.clone()
    }

    /// Keeps back what the server says to the next commit of a transaction with this in a statement.
    pub(crate) fn withhold_commit_after(&self, marker: &'static str) {
        self.shared.withholds.send_replace(false);
        *self.shared.marker.lock().unwrap() = Some(marker);
    }

    /// Returns when the server has answered a commit, and the program does not know.
    pub(crate) async fn withheld(&mut self) {
        self.withheld.wait_for(|withheld| *withheld).await.unwrap();
    }
}

/// One connection, until either side ends it.
async fn forward(client: TcpStream, shared: Arc<Shared>) {
    let Ok(server) = UnixStream::connect(&shared.socket).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut asked, mut answered) = (vec![0; 65_536], vec![0; 65_536]);
    let mut is_marked = false;
    let mut is_withholding = false;
    loop {
        tokio::select! {
            read = from_client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                let said = &asked[..length];
                let marker = *shared.marker.lock().unwrap();
                is_marked |= marker.is_some_and(|marker| contains(said, marker));
                is_withholding |= is_marked && contains(said, "COMMIT\0");
                if to_server.write_all(said).await.is_err() { return }
            }
            read = from_server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                if is_withholding {
                    *shared.marker.lock().unwrap() = None;
                    shared.withholds.send_replace(true);
                } else if to_client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
