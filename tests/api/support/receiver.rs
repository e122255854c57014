//! An HTTP or HTTPS server that takes deliveries, and answers as it is told.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

use crate::support::certificates::Identity;

/// It listens until the test ends.
pub(crate) struct Receiver {
    port: u16,
    is_secure: bool,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    received: Vec<Received>,
    connections: usize,
    /// The next answers; 204 when there are none.
    answers: VecDeque<u16>,
    redirect_to: Option<String>,
}

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Receiver {
    pub(crate) fn start() -> Self {
        Self::start_with(None)
    }

    /// The same by HTTPS, as who this certificate names.
    pub(crate) fn start_secure(identity: &Identity) -> Self {
        Self::start_with(Some(identity.server()))
    }

    fn start_with(tls: Option<Arc<ServerConfig>>) -> Self {
        let is_secure = tls.is_some();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                shared.lock().unwrap().connections += 1;
                let (shared, tls) = (Arc::clone(&shared), tls.clone());
                std::thread::spawn(move || match tls {
                    Some(tls) => {
                        serve(StreamOwned::new(ServerConnection::new(tls).unwrap(), stream), &shared)
                    }
                    None => serve(stream, &shared),
                });
            }
        });
        Self { port, is_secure, state }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.is_secure { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}/hooks", self.port)
    }

    pub(crate) fn answer_with(&self, statuses: &[u16]) {
        self.state.lock().unwrap().answers = statuses.iter().copied().collect();
    }

    pub(crate) fn redirect_to(&self, url: &str) {
        self.state.lock().unwrap().redirect_to = Some(url.to_owned());
    }

    /// Everything that came, in its order.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.state.lock().unwrap().received.clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }
}

impl Received {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> String {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.unwrap_or_else(|| panic!("no {name} in {self:?}")).1.clone()
    }

    /// What a receiver computes from the secret that it was given.
    pub(crate) fn expected_signature(&self, secret: &str) -> String {
        let key = STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let signed = [self.header("webhook-id"), self.header("webhook-timestamp")].join(".");
        let signed = [signed.as_bytes(), b".", &self.body].concat();
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &signed);
        format!("v1,{}", STANDARD.encode(signature.as_ref()))
    }
}

/// Answers one request after the other, as HTTP/1.1 does, until the connection ends.
fn serve(stream: impl Read + Write, state: &Mutex<State>) -> Option<()> {
    let mut reader = BufReader::new(stream);
    loop {
        let mut headers = Vec::new();
        let mut line = String::new();
        (reader.read_line(&mut line).ok()? > 0).then_some(())?;
        loop {
            line.clear();
            reader.read_line(&mut line).ok()?;
            match line.trim_end().split_once(':') {
                Some((name, value)) => headers.push((name.to_owned(), value.trim().to_owned())),
                None => break,
            }
        }
        let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let mut body = vec![0; length.and_then(|(_, length)| length.parse().ok()).unwrap_or(0)];
        reader.read_exact(&mut body).ok()?;
        let answer = {
            let mut state = state.lock().unwrap();
            state.received.push(Received { headers, body });
            match &state.redirect_to {
                Some(url) => format!("307 Elsewhere\r\nlocation: {url}"),
                None => format!("{} Told", state.answers.pop_front().unwrap_or(204)),
            }
        };
        let length = if answer.starts_with("204") { "" } else { "content-length: 0\r\n" };
        let stream = reader.get_mut();
        stream.write_all(format!("HTTP/1.1 {answer}\r\n{length}\r\n").as_bytes()).ok()?;
        stream.flush().ok()?;
    }
}
