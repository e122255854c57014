//! The floor: the same HTTP server, answering a constant.

use std::net::SocketAddr;

use actix_web::{App, HttpResponse, HttpServer, web};

use super::outcome::Outcome;

/// Serves until the parent ends it.
pub(crate) async fn serve(address: SocketAddr) -> Outcome<()> {
    let server =
        HttpServer::new(|| App::new().route("/hello", web::post().to(hello))).backlog(4096).bind(address)?;
    Ok(server.run().await?)
}

/// Reads the body, as a sync must: an answer before it is read would close the connection.
async fn hello(_: web::Bytes) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain").body("hello world")
}

/// The smallest request that has a body.
pub(crate) fn request(into: &mut Vec<u8>) {
    into.extend_from_slice(b"POST /hello HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}");
}
