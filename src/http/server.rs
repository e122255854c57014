//! Listens, answers, and stops without losing what waits.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_http::HttpService;
use actix_server::{Server, ServerHandle};
use actix_service::{IntoServiceFactory, ServiceFactoryExt, fn_service, map_config};
use actix_web::dev::AppConfig;
use actix_web::middleware::from_fn;
use actix_web::{App as Actix, web};

use super::connections::{Certificate, Connection, Entrance, keep_up};
use super::{header_size, request_id, routes, security_headers};
use crate::app::App;

/// A server that answers, and the way to stop it.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    handle: ServerHandle,
    /// What it shows to clients, where they speak TLS with it.
    pub certificate: Option<Arc<Certificate>>,
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
/// The server is put together here and not by the framework, whose own has no place for what must be decided of a
/// connection before anything is read from it (decision 0075).
///
/// # Errors
/// The listener cannot be used, or the certificate of the settings is none.
pub fn serve(
    app: Arc<App>,
    listener: TcpListener,
) -> std::io::Result<(Running, impl Future<Output = std::io::Result<()>> + use<>)> {
    let address = listener.local_addr()?;
    let settings = Arc::clone(&app.settings);
    let certificate = Certificate::of_settings(&settings).map_err(std::io::Error::other)?;
    if let Some(certificate) = &certificate {
        tokio::spawn(keep_up(Arc::downgrade(certificate)));
    }
    let app: web::Data<App> = web::Data::from(app);
    let mut server =
        Server::build().backlog(4096).shutdown_timeout(settings.shutdown_timeout.as_secs()).disable_signals();
    if let Some(workers) = settings.workers {
        server = server.workers(workers.get());
    }
    let stopping = server.graceful_shutdown_signal();
    let entrance = Entrance::new(&settings, certificate.as_ref(), stopping.clone());
    let head_time = HEAD_TIME.min(settings.request_time);
    let server = server.listen("public", listener, move || {
        let actix = Actix::new()
            .app_data(app.clone())
            .configure(routes::configure)
            .wrap(from_fn(header_size::limit))
            .wrap(from_fn(request_id::identify))
            // Around what writes the refusals: they are answers, too.
            .wrap(security_headers::of(app.issuer()))
            .into_factory();
        let (entrance, stopping) = (entrance.clone(), stopping.clone());
        fn_service(move |stream| {
            let entrance = entrance.clone();
            async move { entrance.admit(stream).await }
        })
        .and_then(
            HttpService::<Connection, _, _>::build()
                .keep_alive(KEEP_ALIVE)
                .client_request_timeout(head_time)
                .client_disconnect_timeout(DISCONNECT_TIME)
                .graceful_shutdown_signal(move || {
                    let stopping = stopping.clone();
                    async move { stopping.notified().await }
                })
                .finish(map_config(actix, |()| AppConfig::default())),
        )
    })?;
    let server = server.run();
    Ok((Running { address, handle: server.handle(), certificate }, server))
}

/// Longer than common load balancers keep idle connections, so that they close first.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a client may take to send its first headers.
const HEAD_TIME: Duration = Duration::from_secs(10);
/// How long a client may take to end what is being ended.
const DISCONNECT_TIME: Duration = Duration::from_secs(1);
