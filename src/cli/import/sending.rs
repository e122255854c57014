//! One attempt to send the file: the answer is read while the file is still being sent.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use indicatif::ProgressBar;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Body, Client, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use url::Url;

use super::results::Results;
use crate::cli::CliError;

/// What is sent, whereto and by whom.
#[derive(Debug)]
pub(super) struct Sending {
    client: Client,
    url: Url,
    token: SecretString,
    file: PathBuf,
    key: Option<String>,
}

/// Why an attempt did not come to its end.
pub(super) enum Stopped {
    /// The same may succeed later.
    Cut(Box<dyn std::error::Error + Send + Sync>),
    Refused(CliError),
}

impl Sending {
    /// To the service at `url`. The digest of the file names the import, so that the same file goes on with it.
    pub(super) fn new(
        url: &Url,
        token: SecretString,
        file: PathBuf,
        sha256: &str,
        validate_only: bool,
    ) -> Result<Self, CliError> {
        let mut url = url.clone();
        let path = format!("{}/admin/v1/imports", url.path().trim_end_matches('/'));
        url.set_path(&path);
        url.set_query(validate_only.then_some("validate_only=true"));
        let client = Client::builder()
            .user_agent(concat!("token-authority/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(Duration::from_secs(10))
            .read_timeout(SILENCE)
            .build()
            .map_err(CliError::fault("could not prepare the connection"))?;
        let key = (!validate_only).then(|| format!("sha256-{sha256}"));
        Ok(Self { client, url, token, file, key })
    }

    /// Sends the whole file, and notes what is told of each line.
    pub(super) async fn send(&self, results: &mut Results, bar: &ProgressBar) -> Result<(), Stopped> {
        let response = self.request().await?;
        let status = response.status();
        if status != StatusCode::OK {
            return Err(refusal(status, response).await);
        }
        let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
        results.set_location(location);
        let mut pieces = response.bytes_stream();
        let mut rest = Vec::new();
        while let Some(piece) = pieces.next().await {
            rest.extend_from_slice(&piece.map_err(|error| Stopped::Cut(error.into()))?);
            let complete = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            for line in rest[..complete].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                results.note(line).map_err(Stopped::Refused)?;
                bar.inc(1);
            }
            rest.drain(..complete);
            if results.tally().refused > 0 {
                bar.set_message(format!(", {} refused", results.tally().refused));
            }
        }
        Ok(())
    }

    async fn request(&self) -> Result<Response, Stopped> {
        let doing = || CliError::fault(format!("could not read {}", self.file.display()));
        let file = File::open(&self.file).map_err(|error| Stopped::Refused(doing()(error)))?;
        let length = file.metadata().map_err(|error| Stopped::Refused(doing()(error)))?.len();
        let mut request = self
            .client
            .post(self.url.clone())
            .bearer_auth(self.token.expose_secret())
            .header(CONTENT_TYPE, "application/x-ndjson")
            .header(CONTENT_LENGTH, length)
            .body(Body::wrap_stream(pieces(file)));
        if let Some(key) = &self.key {
            request = request.header("idempotency-key", key);
        }
        request.send().await.map_err(|error| {
            let never = error.is_builder() || error.is_redirect();
            let doing = || CliError::fault(format!("could not reach {}", self.url));
            if never { Stopped::Refused(doing()(error)) } else { Stopped::Cut(error.into()) }
        })
    }
}

/// The file, read as fast as it is sent.
fn pieces(mut file: File) -> impl futures_util::Stream<Item = std::io::Result<Vec<u8>>> {
    stream::iter(std::iter::from_fn(move || {
        let mut piece = vec![0; PIECE];
        match file.read(&mut piece) {
            Ok(0) => None,
            Ok(length) => {
                piece.truncate(length);
                Some(Ok(piece))
            }
            Err(error) => Some(Err(error)),
        }
    }))
}

/// What the service says instead of answering lines.
async fn refusal(status: StatusCode, response: Response) -> Stopped {
    let text = response.text().await.unwrap_or_default();
    let problem: Value = serde_json::from_str(&text).unwrap_or_default();
    let said = |member: &str| problem[member].as_str().unwrap_or_default().to_owned();
    let sentence = match (said("detail"), said("remedy")) {
        (detail, _) if detail.is_empty() => format!("the service answered {status}"),
        (detail, remedy) => format!("the service answered {status}: {detail} {remedy}"),
    };
    let passes = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
    if passes { Stopped::Cut(sentence.into()) } else { Stopped::Refused(CliError::refused(sentence)) }
}

const PIECE: usize = 64 * 1024;
/// Longer than the service waits for a database that restarts.
const SILENCE: Duration = Duration::from_secs(60);
