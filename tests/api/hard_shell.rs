//! What the service bears from clients that mean it no good, or are merely broken.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use reqwest::{Certificate, Method, StatusCode};
use serde_json::json;
use tempfile::TempDir;

use crate::support::app::{TestApp, activate, sell, send};
use crate::support::certificates::Authority;
use crate::support::program::Deployment;

/// A client that sends what it likes, when it likes.
struct Raw(TcpStream);

impl Raw {
    fn connect(base_url: &str) -> Self {
        let address: SocketAddr = base_url.strip_prefix("http://").unwrap().parse().unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self(stream)
    }

    fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    /// One whole answer.
    fn answer(&mut self) -> String {
        let mut text = Vec::new();
        let mut byte = [0; 1];
        while !text.ends_with(b"\r\n\r\n") {
            self.0.read_exact(&mut byte).unwrap();
            text.push(byte[0]);
        }
        let head = String::from_utf8(text).unwrap();
        let length =
            head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        self.0.read_exact(&mut body).unwrap();
        head + std::str::from_utf8(&body).unwrap()
    }

    /// Whatever still comes until the service ends the connection, which it must.
    fn until_closed(&mut self) -> String {
        let mut text = Vec::new();
        match self.0.read_to_end(&mut text) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "it is left open"),
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// Far longer than the service's own, which these tests set.
const PATIENCE: Duration = Duration::from_secs(30);
const SHORT: (&str, &str) = ("REQUEST_TIME", "1s");
const LIVE: &str = "GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n";

/// Lets blocking clients run beside the service.
async fn apart<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_too_long_is_let_go_and_holds_up_nobody_else() {
    // One thread answers all of them.
    let app = TestApp::start_with(&[SHORT, ("WORKERS", "1")]).await;
    let sold = sell(&app, None, 1).await;
    let instance = activate(&app, &sold.activation_code).await;
    let base_url = app.base_url.clone();
    let slow = apart(move || {
        let connect = || Raw::connect(&base_url);
        let mut clients: Vec<(&str, Raw)> = Vec::new();
        for _ in 0..20 {
            clients.push(("says nothing", connect()));
            let mut half = connect();
            half.send("POST /v1/sync HTTP/1.1\r\nHost: a\r\nX-Half:");
            clients.push(("stops in its head", half));
            let mut second = connect();
            second.send(LIVE);
            assert!(second.answer().starts_with("HTTP/1.1 200"));
            second.send("POST /v1/sync HTTP/1.1\r\nHost: a\r\nX-Half:");
            clients.push(("stops in the head of its second request", second));
            let mut body = connect();
            body.send("POST /v1/sync HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{");
            clients.push(("stops in its body", body));
        }
        clients
    })
    .await;
    // While all of them are held, the next one is answered.
    let answer = instance.sync(&app, &json!({ "version": "18.5.0" })).await;
    answer.expect(StatusCode::OK);
    apart(move || {
        for (what, mut client) in slow {
            let last = client.until_closed();
            assert!(last.is_empty() || last.starts_with("HTTP/1.1 4"), "{what}: {last}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_sends_a_trickle_or_takes_no_answer_is_let_go_too() {
    let app = TestApp::start_with(&[SHORT]).await;
    let base_url = app.base_url.clone();
    apart(move || {
        let mut trickle = Raw::connect(&base_url);
        trickle.send("POST /v1/sync HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n");
        let started = Instant::now();
        // One byte at a time, for as long as it is let.
        while trickle.0.write_all(b" ").is_ok() {
            assert!(started.elapsed() < PATIENCE, "a trickle is borne for ever");
            std::thread::sleep(Duration::from_millis(20));
        }

        let mut deaf = Raw::connect(&base_url);
        let started = Instant::now();
        let ask = "GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n".repeat(50);
        // Answers are not taken until the service takes no question any more.
        while deaf.0.write_all(ask.as_bytes()).is_ok() {
            assert!(started.elapsed() < PATIENCE, "a deaf client is borne for ever");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_so_many_connections_and_no_more() {
    let app = TestApp::start_with(&[("CONNECTIONS_PER_ADDRESS", "4")]).await;
    let base_url = app.base_url.clone();
    apart(move || {
        let connect = || Raw::connect(&base_url);
        let mut held: Vec<Raw> = (0..4).map(|_| connect()).collect();
        for client in &mut held {
            client.send(LIVE);
            assert!(client.answer().starts_with("HTTP/1.1 200"));
        }
        for _ in 0..3 {
            assert_eq!(connect().until_closed(), "", "one more is closed without a word");
        }
        // Those that are in go on, and a place that is given back is there for the next one.
        held[0].send(LIVE);
        assert!(held[0].answer().starts_with("HTTP/1.1 200"));
        drop(held.pop());
        let started = Instant::now();
        loop {
            let mut next = connect();
            if next.0.write_all(LIVE.as_bytes()).is_ok() && next.until_something() {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "a place is never free again");
        }
    })
    .await;
}

impl Raw {
    /// Whether anything is answered.
    fn until_something(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 1]), Ok(1))
    }
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_the_next_request_is_answered() {
    let app = TestApp::start().await;
    let large = |bytes: usize| app.request(Method::GET, "/health/live").header("x-large", "a".repeat(bytes));
    send(large(8_000)).await.expect(StatusCode::OK);
    send(large(20_000)).await.refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large");
    let long = format!("/health/live?{}", "a".repeat(20_000));
    let answer = send(app.request(Method::GET, &long)).await;
    answer.refused(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large");
    // Beyond what the server reads of any head, there is no request.
    let alone = reqwest::Client::new().get(format!("{}/health/live", app.base_url));
    let answer = alone.header("x-large", "a".repeat(300_000)).send().await;
    assert!(answer.is_err() || answer.unwrap().status().is_client_error());
    let body = json!({ "version": "1".repeat(70_000) });
    send(app.request(Method::POST, "/v1/sync").json(&body))
        .await
        .refused(StatusCode::PAYLOAD_TOO_LARGE, "too_large");
    send(large(1)).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn every_answer_tells_browsers_to_believe_and_show_nothing_more() {
    let app = TestApp::start().await;
    for path in
        ["/health/live", "/v1/catalog", "/docs/", "/problems/expired", "/nowhere", "/admin/v1/customers"]
    {
        let answer = send(app.request(Method::GET, path)).await;
        let header = |name: &str| answer.headers.get(name).map_or("", |value| value.to_str().unwrap());
        assert_eq!(header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(header("x-frame-options"), "DENY", "{path}");
        assert_eq!(header("referrer-policy"), "no-referrer", "{path}");
        let policy = header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{path}"
        );
        // By plain HTTP it would be ignored, and in development it would lock out what is no HTTPS.
        assert_eq!(header("strict-transport-security"), "", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_is_spoken_by_the_certificate_of_the_files_and_by_the_next_one_without_a_restart() {
    let authority = Authority::new();
    let folder = TempDir::new().unwrap();
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| folder.path().join(name));
    authority.issue(&["127.0.0.1"]).write(&certificate, &key);
    let [certificate_file, key_file] = [&certificate, &key].map(|path| path.display().to_string());
    let app = TestApp::start_with(&[
        SHORT,
        ("TLS_CERTIFICATE_FILE", &certificate_file),
        ("TLS_KEY_FILE", &key_file),
    ])
    .await;
    let url = format!("{}/health/live", app.base_url.replace("http://", "https://"));
    let trusted = Certificate::from_pem(&std::fs::read(authority.file()).unwrap()).unwrap();
    // A client of its own each time: no connection is kept.
    let ask = async || {
        let client = reqwest::Client::builder().tls_certs_only([trusted.clone()]).build().unwrap();
        client.get(&url).send().await.map(|answer| (answer.status(), answer.version()))
    };
    assert_eq!(ask().await.unwrap(), (StatusCode::OK, reqwest::Version::HTTP_11));
    assert!(reqwest::get(&url).await.is_err(), "nobody else knows this authority");
    assert!(app.request(Method::GET, "/health/live").send().await.is_err(), "plain HTTP is none of it");
    let base_url = app.base_url.clone();
    // Whoever does not finish its handshake is let go.
    apart(move || assert_eq!(Raw::connect(&base_url).until_closed(), "")).await;

    let shown = app.certificate.as_ref().unwrap();
    assert!(!shown.reload().unwrap());
    authority.issue(&["elsewhere.example.com"]).write(&certificate, &key);
    assert!(shown.reload().unwrap());
    assert!(ask().await.is_err(), "the next certificate is for another host");
    std::fs::write(&key, "no key").unwrap();
    let told = shown.reload().unwrap_err().to_string();
    assert!(told.contains("key.pem"), "{told}");
    authority.issue(&["127.0.0.1"]).write(&certificate, &key);
    assert!(shown.reload().unwrap());
    assert_eq!(ask().await.unwrap().0, StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_clients_that_say_nothing() {
    let mut deployment = Deployment::initialized().await;
    deployment.set("TOKEN_AUTHORITY_SHUTDOWN_TIMEOUT", "10m");
    let mut serving = deployment.serve();
    let base_url = serving.base_url.clone();
    let held = apart(move || {
        let mut used = Raw::connect(&base_url);
        used.send(LIVE);
        assert!(used.answer().starts_with("HTTP/1.1 200"));
        (Raw::connect(&base_url), used)
    })
    .await;
    serving.terminate();
    let exit = apart(move || serving.wait()).await;
    assert_eq!(exit, Some(0));
    drop(held);
}
