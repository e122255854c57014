//! The middlewares in front of real servers, asked over TCP: both must answer alike.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::SystemTime;

use token_authority_verifier::{Claims, LiveVerifier, RequestVerifier};

use crate::fixture::{Keys, NOW, claims, time};

/// Serves `/chat` behind the middleware, which permits `duo_chat` alone, and answers with the token's subject.
#[cfg(feature = "actix")]
#[test]
fn the_actix_middleware_guards_a_real_server() {
    use actix_web::{App, HttpServer, web};
    use token_authority_verifier::actix::RequireToken;

    let scenario = Scenario::new();
    let [live, strict] = scenario.guards();
    let (address, started) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let server = HttpServer::new(move || {
                let guard =
                    |requests: &RequestVerifier| RequireToken::new(requests.clone()).with_clock(pinned);
                let subject =
                    |claims: web::ReqData<Arc<Claims>>, _body: web::Bytes| async move { claims.sub.clone() };
                App::new()
                    .service(web::resource("/chat").wrap(guard(&live)).to(subject))
                    .service(web::resource("/strict").wrap(guard(&strict)).to(subject))
            })
            .workers(1)
            .bind(("127.0.0.1", 0))
            .unwrap();
            address.send(server.addrs()[0]).unwrap();
            server.run().await.unwrap();
        });
    });
    scenario.play(started.recv().unwrap());
}

#[cfg(feature = "tower")]
#[test]
fn the_tower_layer_guards_a_real_server() {
    use axum::routing::post;
    use axum::{Extension, Router};
    use token_authority_verifier::tower::RequireTokenLayer;

    let scenario = Scenario::new();
    let (address, started) = std::sync::mpsc::channel();
    let guards = scenario.guards().map(|requests| RequireTokenLayer::new(requests).with_clock(pinned));
    std::thread::spawn(move || {
        tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap().block_on(async move {
            let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
            address.send(listener.local_addr().unwrap()).unwrap();
            let subject = |Extension(claims): Extension<Arc<Claims>>| async move { claims.sub.clone() };
            let [live, strict] = guards;
            let app = Router::new()
                .merge(Router::new().route("/chat", post(subject)).layer(live))
                .merge(Router::new().route("/strict", post(subject)).layer(strict));
            axum::serve(listener, app).await.unwrap();
        });
    });
    scenario.play(started.recv().unwrap());
}

fn pinned() -> SystemTime {
    time(NOW)
}

struct Scenario {
    keys: Keys,
    live: Arc<LiveVerifier>,
}

impl Scenario {
    fn new() -> Self {
        let keys = Keys::new();
        Self { live: Arc::new(keys.live()), keys }
    }

    /// One that goes on without a deny list, and one that does not.
    fn guards(&self) -> [RequestVerifier; 2] {
        let strict = Arc::new(self.keys.live().refusing_when_stale());
        [Arc::clone(&self.live), strict].map(|live| RequestVerifier::new(live).permitting("duo_chat"))
    }

    fn play(&self, server: SocketAddr) {
        let mut connection = Connection(TcpStream::connect(server).unwrap());
        let mut ask = |path: &str, fields: &[(&str, &str)]| connection.ask(path, fields);
        let good = format!("Bearer {}", self.keys.active.mint(&claims()));
        let seats = ("x-gitlab-duo-seat-count", "25");

        let served = ask("/chat", &[("authorization", &good), seats]);
        assert!(served.starts_with("HTTP/1.1 200 "), "{served}");
        assert!(served.ends_with(&claims().sub), "{served}");

        for (path, fields, status, says) in [
            ("/chat", &[][..], 401, "Bearer error_code=\"token_missing\", key_set=\"1\""),
            ("/chat", &[("authorization", "Bearer a.b.c")], 401, "error_code=\"malformed\""),
            (
                "/chat",
                &[("authorization", &*good), ("x-gitlab-realm", "saas")],
                401,
                "error_code=\"header_mismatch\"",
            ),
            ("/strict", &[("authorization", &*good)], 503, "error_code=\"deny_list_stale\""),
        ] {
            let refused = ask(path, fields);
            assert!(refused.starts_with(&format!("HTTP/1.1 {status} ")), "{refused}");
            assert!(refused.to_ascii_lowercase().contains("\r\nwww-authenticate: bearer "), "{refused}");
            assert!(refused.contains("application/problem+json"), "{refused}");
            assert!(refused.contains(says), "{refused}");
            assert_eq!(refused.contains("retry-after: 60"), status == 503, "{refused}");
        }

        let poor = Claims { scopes: vec!["complete_code".to_owned()], ..claims() };
        let poor = format!("Bearer {}", self.keys.active.mint(&poor));
        let refused = ask("/chat", &[("authorization", &poor)]);
        assert!(refused.starts_with("HTTP/1.1 403 ") && refused.contains("scope=\"duo_chat\""), "{refused}");

        let list = self.keys.signed_deny_list(1, NOW, &[(self.keys.active.kid(), None, NOW + 60)]);
        self.live.take_deny_list(&list, time(NOW)).unwrap();
        let refused = ask("/chat", &[("authorization", &good)]);
        assert!(refused.contains("error_code=\"key_denied\""), "{refused}");
    }
}

/// One connection for all requests: a refusal must not close it.
struct Connection(TcpStream);

impl Connection {
    fn ask(&mut self, path: &str, fields: &[(&str, &str)]) -> String {
        let mut request = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\n");
        for (name, value) in fields {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        self.0.write_all(format!("{request}\r\nhello").as_bytes()).unwrap();
        let mut answer = Vec::new();
        loop {
            let mut chunk = [0; 4_096];
            let read = self.0.read(&mut chunk).unwrap();
            assert!(read > 0, "the connection was closed: {}", String::from_utf8_lossy(&answer));
            answer.extend_from_slice(&chunk[..read]);
            let text = String::from_utf8_lossy(&answer).to_ascii_lowercase();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()).unwrap();
            if body.len() == length.parse::<usize>().unwrap() {
                return String::from_utf8(answer).unwrap();
            }
        }
    }
}
