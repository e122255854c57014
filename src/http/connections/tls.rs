//! The certificate that the service shows, read from files and read again when they change.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::config::Settings;

/// A certificate with its chain and its key, as the files have them.
#[derive(Debug)]
pub struct Certificate {
    certificate_file: PathBuf,
    key_file: PathBuf,
    current: RwLock<Arc<CertifiedKey>>,
}

/// Why there is no certificate to show.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("{} holds no certificate (PEM)", .0.display())]
    Empty(PathBuf),
    #[error("{} cannot be read: {error}", path.display())]
    File { path: PathBuf, error: rustls::pki_types::pem::Error },
    #[error("the certificate and its key are of no use together: {0}")]
    Useless(#[from] rustls::Error),
}

impl Certificate {
    /// Reads what the settings name; `None` where they name nothing, since TLS ends before the service.
    ///
    /// # Errors
    /// The files cannot be read, or do not belong together.
    pub fn of_settings(settings: &Settings) -> Result<Option<Arc<Self>>, CertificateError> {
        let (Some(certificate_file), Some(key_file)) =
            (&settings.tls_certificate_file, &settings.tls_key_file)
        else {
            return Ok(None);
        };
        let current = RwLock::new(Arc::new(read(certificate_file, key_file)?));
        let (certificate_file, key_file) = (certificate_file.clone(), key_file.clone());
        Ok(Some(Arc::new(Self { certificate_file, key_file, current })))
    }

    /// Reads the files again. Returns whether they hold another certificate, which is shown from now on.
    ///
    /// # Errors
    /// They cannot be read, or do not belong together: the certificate that was shown is shown further on.
    pub fn reload(&self) -> Result<bool, CertificateError> {
        let read = read(&self.certificate_file, &self.key_file)?;
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let is_new = current.cert != read.cert;
        *current = Arc::new(read);
        Ok(is_new)
    }

    /// How the service speaks TLS: 1.2 and 1.3, and HTTP/1.1 within.
    pub(super) fn server(self: &Arc<Self>) -> Arc<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .expect("the provider speaks both")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Shown(Arc::clone(self))));
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Arc::new(config)
    }
}

/// Looks for another certificate in the files, once a minute, for as long as the certificate is used.
pub(in crate::http) async fn keep_up(certificate: Weak<Certificate>) {
    let mut last_told = None;
    loop {
        tokio::time::sleep(EVERY).await;
        let Some(certificate) = certificate.upgrade() else { return };
        match certificate.reload() {
            Ok(true) => tracing::info!("another certificate is shown from now on"),
            Ok(false) => {}
            Err(error) => {
                let says = error.to_string();
                if last_told.as_ref() != Some(&says) {
                    tracing::error!("the certificate was not read again, and is shown as it was: {says}");
                    last_told = Some(says);
                }
                continue;
            }
        }
        last_told = None;
    }
}

struct Shown(Arc<Certificate>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.current.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}

fn read(certificate_file: &Path, key_file: &Path) -> Result<CertifiedKey, CertificateError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |error| CertificateError::File { path, error }
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(certificate_file)
        .and_then(Iterator::collect)
        .map_err(unreadable(certificate_file))?;
    if chain.is_empty() {
        return Err(CertificateError::Empty(certificate_file.to_owned()));
    }
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(unreadable(key_file))?;
    Ok(CertifiedKey::from_der(chain, key, &provider())?)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

const EVERY: Duration = Duration::from_secs(60);
