//! Listens, answers, and stops without losing what waits.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use actix_web::middleware::{DefaultHeaders, from_fn};
use actix_web::{App as Actix, HttpServer, web};

use super::{request_id, routes};
use crate::app::App;

/// A server that answers, and the way to stop it.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    handle: ServerHandle,
}

impl Running {
    /// Stops accepting, lets what has begun finish, and returns when it has, or when
    /// the shutdown time is over.
    pub async fn stop(&self) {
        self.handle.stop(true).await;
    }
}

/// Starts answering on `listener`. The future that comes with it ends when the server has stopped.
///
/// # Errors
/// The listener cannot be used.
pub fn serve(
    app: Arc<App>,
    listener: TcpListener,
) -> std::io::Result<(Running, impl Future<Output = std::io::Result<()>> + use<>)> {
    let address = listener.local_addr()?;
    let settings = Arc::clone(&app.settings);
    let app: web::Data<App> = web::Data::from(app);
    let mut server = HttpServer::new(move || {
        Actix::new()
            .app_data(app.clone())
            .configure(routes::configure) // What says nothing of caches is for the caller alone.
            .wrap(
                DefaultHeaders::new()
                    .add((CACHE_CONTROL, "no-store"))
                    .add((X_CONTENT_TYPE_OPTIONS, "nosniff")),
            )
            .wrap(from_fn(request_id::identify))
    })
    .backlog(4096)
    .keep_alive(KEEP_ALIVE)
    .client_request_timeout(HEADER_TIME)
    .shutdown_timeout(settings.shutdown_timeout.as_secs())
    .disable_signals();
    if let Some(workers) = settings.workers {
        server = server.workers(workers.get());
    }
    let server = server.listen(listener)?.run();
    Ok((Running { address, handle: server.handle() }, server))
}

/// Longer than common load balancers keep idle connections, so that they close first.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a client may take to send its headers.
const HEADER_TIME: Duration = Duration::from_secs(10);
