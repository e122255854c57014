//! One key of the key-set root, in a file of its own: PKCS#8 version 1 in PEM, which OpenSSL and Python read too.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use token_authority_verifier::{Jwk, Payload, Signed, SignedError};
use zeroize::Zeroizing;

use super::KeystoreError;
use super::seed::{Seed, public_key_of};
use super::write_once::write_once;

/// A key that signs roots and key sets. It belongs offline; development keeps one
/// beside the service.
pub struct RootKey {
    pair: Ed25519KeyPair,
    public_key: Jwk,
}

impl RootKey {
    /// Prepares a key.
    ///
    /// # Errors
    ///
    /// A fault of the cryptographic library.
    pub fn new(seed: &Seed) -> Result<Self, KeystoreError> {
        let pair = seed.prepare()?;
        let public_key = public_key_of(&pair)?;
        Ok(Self { pair, public_key })
    }

    /// Reads a key. A file that others may read is taken, with a warning in the log.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or holds no such key.
    pub fn read(path: &Path) -> Result<Self, RootKeyError> {
        let unreadable = |source| RootKeyError::Unreadable { path: path.into(), source };
        let malformed = || RootKeyError::Malformed { path: path.into() };
        let mut file = File::open(path).map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.permissions().mode();
        if mode & 0o077 != 0 {
            tracing::warn!(
                file.path = %path.display(),
                file.mode = format_args!("{:o}", mode & 0o7777),
                "others than its owner may read the root's private half; chmod 600 it"
            );
        }
        let mut pem = Zeroizing::new(String::with_capacity(MAX_FILE_BYTES + 1));
        (&mut file).take(MAX_FILE_BYTES as u64 + 1).read_to_string(&mut pem).map_err(unreadable)?;
        let seed = decode(&pem).ok_or_else(malformed)?;
        Self::new(&seed).map_err(|_| malformed())
    }

    /// Reads a key, which is made where there is none: only its owner may then read it.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written, or holds no such key.
    pub fn read_or_create(path: &Path) -> Result<Self, RootKeyError> {
        let unwritable = |source| RootKeyError::Unwritable { path: path.into(), source };
        if path.try_exists().map_err(unwritable)? {
            return Self::read(path);
        }
        match Self::create(path) {
            // Another process made one meanwhile; that one counts.
            Err(RootKeyError::Exists { .. }) => Self::read(path),
            outcome => outcome,
        }
    }

    /// Makes a key in a file of its own, which only its owner may read.
    ///
    /// # Errors
    ///
    /// The file is there already, or cannot be written.
    pub fn create(path: &Path) -> Result<Self, RootKeyError> {
        let unwritable = |source| RootKeyError::Unwritable { path: path.into(), source };
        let seed = Seed::generate().map_err(|_| unwritable(io::Error::other("no randomness")))?;
        match write_once(path, encode(&seed).as_bytes(), 0o600) {
            Ok(()) => Self::read(path),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                Err(RootKeyError::Exists { path: path.into() })
            }
            Err(error) => Err(unwritable(error)),
        }
    }

    /// The public half, as a root lists it.
    #[must_use]
    pub fn public_key(&self) -> Jwk {
        self.public_key.clone()
    }

    /// Adds this key's signature to a root or a manifest.
    ///
    /// # Errors
    ///
    /// The key has signed it already.
    pub fn sign<T: Payload>(&self, document: Signed<T>) -> Result<Signed<T>, SignedError> {
        let kid = self.public_key.kid();
        let signature = self.pair.sign(document.signing_input(kid).as_bytes());
        let mut bytes = [0; 64];
        bytes.copy_from_slice(signature.as_ref());
        document.with_signature(kid, bytes)
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RootKey").field("kid", &self.public_key.kid()).field("pair", &"[redacted]").finish()
    }
}

/// Why there is no root key.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyError {
    #[error("{} is there already; a root's private half is never overwritten", path.display())]
    Exists { path: PathBuf },
    #[error(
        "{} holds no Ed25519 private key in PKCS#8 PEM, as `openssl genpkey -algorithm ed25519` writes it",
        path.display()
    )]
    Malformed { path: PathBuf },
    #[error(
        "could not read the root's private half {}",
        path.display()
    )]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("could not write the root's private half {}", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
}

fn encode(seed: &Seed) -> Zeroizing<String> {
    let mut der = Zeroizing::new([0; DER_BYTES]);
    der[..DER_PREFIX.len()].copy_from_slice(&DER_PREFIX);
    der[DER_PREFIX.len()..].copy_from_slice(seed.expose());
    let mut pem = Zeroizing::new(String::with_capacity(MAX_FILE_BYTES));
    pem.push_str(PEM_BEGIN);
    pem.push('\n');
    // 48 bytes are 64 characters: exactly one line of PEM (RFC 7468 §2).
    BASE64_STANDARD.encode_string(*der, &mut pem);
    pem.push('\n');
    pem.push_str(PEM_END);
    pem.push('\n');
    pem
}

fn decode(pem: &str) -> Option<Seed> {
    let body = pem.trim().strip_prefix(PEM_BEGIN)?.strip_suffix(PEM_END)?.trim();
    let mut der = Zeroizing::new([0; DER_BYTES]);
    let length = BASE64_STANDARD.decode_slice(body, &mut *der).ok()?;
    Seed::from_bytes(der[..length].strip_prefix(DER_PREFIX.as_slice())?)
}

const PEM_BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const PEM_END: &str = "-----END PRIVATE KEY-----";

/// `OneAsymmetricKey` version 1 with id-Ed25519, up to the 32 bytes of the seed (RFC 8410 §7).
const DER_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
const DER_BYTES: usize = DER_PREFIX.len() + 32;

const MAX_FILE_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use token_authority_verifier::{Root, SignedRoot, Timestamp};

    use super::*;

    /// RFC 8410 §10.3.
    const RFC_PEM: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";

    #[test]
    fn the_known_file_reads_and_writes_back() {
        let seed = decode(RFC_PEM).unwrap();
        assert_eq!(*encode(&seed), RFC_PEM);
        assert_eq!(decode(&RFC_PEM.replace('\n', "\r\n")).unwrap().expose(), seed.expose());
    }

    #[test]
    fn a_key_is_made_once_and_then_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.pem");
        assert!(matches!(RootKey::read(&path), Err(RootKeyError::Unreadable { .. })));
        let made = RootKey::read_or_create(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(RootKey::read_or_create(&path).unwrap().public_key(), made.public_key());
        assert_eq!(RootKey::read(&path).unwrap().public_key(), made.public_key());
        assert!(
            matches!(RootKey::create(&path), Err(RootKeyError::Exists { .. })),
            "an existing key is kept"
        );
        assert!(format!("{made:?}").ends_with(r#"pair: "[redacted]" }"#));
    }

    #[test]
    fn what_is_no_such_key_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("root.pem");
        for text in [
            "",
            RFC_PEM.trim_end_matches("-----\n"),
            &RFC_PEM.replace("MC4CAQ", "MC4CAg"),
            &RFC_PEM.repeat(2),
        ] {
            std::fs::write(&path, text).unwrap();
            assert!(matches!(RootKey::read_or_create(&path), Err(RootKeyError::Malformed { .. })), "{text}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn its_signature_verifies() {
        let key = RootKey::new(&Seed::generate().unwrap()).unwrap();
        let root = Root {
            issuer: "https://licensing.example".to_owned(),
            environment: "development".to_owned(),
            version: 1,
            threshold: 1,
            keys: vec![key.public_key()],
            created: Timestamp::from_unix(1_795_000_000).unwrap(),
            development: true,
        };
        let signed = key.sign(SignedRoot::new(root).unwrap()).unwrap();
        assert!(signed.verify_pinned(signed.digest()).is_ok());
        assert!(key.sign(signed).is_err(), "a key signs once");
    }
}
