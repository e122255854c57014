//! Reads the key-encryption key from its file, and makes such a file for development.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use super::sealing::{KEK_BYTES, LocalKek};
use super::write_once::write_once;

/// Reads 32 random bytes in base64url; plain base64 is taken as well, since
/// `openssl rand -base64 32` writes that.
///
/// A file that others may read is taken, with a warning in the log.
///
/// # Errors
///
/// The file cannot be read, or holds something else.
pub fn read(path: &Path) -> Result<LocalKek, KekFileError> {
    let mut file =
        File::open(path).map_err(|source| KekFileError::Unreadable { path: path.into(), source })?;
    let unreadable = |source| KekFileError::Unreadable { path: path.into(), source };
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    if mode & OTHERS != 0 {
        tracing::warn!(
            file.path = %path.display(),
            file.mode = format_args!("{:o}", mode & 0o7777),
            "others than its owner may read the key-encryption key; chmod 600 it"
        );
    }
    // A longer file is no key; reading one byte more than the longest key tells.
    let mut text = Zeroizing::new(String::with_capacity(MAX_FILE_BYTES + 1));
    (&mut file).take(MAX_FILE_BYTES as u64 + 1).read_to_string(&mut text).map_err(unreadable)?;
    let malformed = || KekFileError::Malformed { path: path.into() };
    let key = decode(text.trim()).ok_or_else(malformed)?;
    LocalKek::new(&key).map_err(|_| malformed())
}

/// Whether others than its owner may read the file. Not where there is none.
#[must_use]
pub fn is_open_to_others(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & OTHERS != 0)
}

/// The rights of its group and of everybody.
const OTHERS: u32 = 0o077;

/// Writes a new key-encryption key that only its owner may read.
///
/// # Errors
///
/// The file exists already, or cannot be written.
pub fn create(path: &Path) -> Result<(), KekFileError> {
    let unwritable = |source| KekFileError::Unwritable { path: path.into(), source };
    let mut key = Zeroizing::new([0; KEK_BYTES]);
    aws_lc_rs::rand::fill(&mut *key).map_err(|_| unwritable(io::Error::other("no randomness")))?;
    let mut text = Zeroizing::new(String::with_capacity(MAX_FILE_BYTES));
    BASE64_URL_SAFE_NO_PAD.encode_string(*key, &mut text);
    text.push('\n');
    write_once(path, text.as_bytes(), 0o600).map_err(unwritable)
}

fn decode(text: &str) -> Option<Zeroizing<[u8; KEK_BYTES]>> {
    let mut url_safe = Zeroizing::new(String::with_capacity(text.len()));
    url_safe.extend(text.trim_end_matches('=').chars().map(|c| match c {
        '+' => '-',
        '/' => '_',
        other => other,
    }));
    let mut key = Zeroizing::new([0; KEK_BYTES]);
    // The estimate of the decoder's check is by whole groups, hence the longer buffer.
    let mut buffer = Zeroizing::new([0; KEK_BYTES + 1]);
    let length = BASE64_URL_SAFE_NO_PAD.decode_slice(url_safe.as_bytes(), &mut *buffer).ok()?;
    if length != KEK_BYTES {
        return None;
    }
    key.copy_from_slice(&buffer[..KEK_BYTES]);
    Some(key)
}

/// Why there is no key-encryption key.
#[derive(Debug, thiserror::Error)]
pub enum KekFileError {
    #[error("{} holds no key-encryption key: 32 random bytes in base64url are needed, as `openssl rand -base64 32` writes them", path.display())]
    Malformed { path: PathBuf },
    #[error("could not read the key-encryption key {} (setting `kek_file`, TOKEN_AUTHORITY_KEK_FILE)", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("could not write the key-encryption key {}", path.display())]
    Unwritable { path: PathBuf, source: io::Error },
}

/// The longest form: padded base64 and a line end of two characters.
const MAX_FILE_BYTES: usize = 46;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keystore::sealing::KeyEncryption;

    fn write(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_created_file_reads_back_and_only_its_owner_may_read_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kek");
        create(&path).unwrap();
        assert_eq!(read(&path).unwrap().id(), read(&path).unwrap().id());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(create(&path), Err(KekFileError::Unwritable { .. })), "an existing key is kept");
    }

    #[test]
    fn both_alphabets_of_base64_name_the_same_key() {
        let [plain, url_safe] =
            ["+/+/", "-_-_"].map(|start| write(&format!("{start}{}AAA\n", "A".repeat(36))));
        let padded = write(&format!("+/+/{}AAA=\r\n", "A".repeat(36)));
        let ids = [plain, url_safe, padded].map(|file| read(file.path()).unwrap().id().to_owned());
        assert!(ids.iter().all(|id| *id == ids[0]));
    }

    #[test]
    fn a_missing_short_long_or_garbled_key_is_refused() {
        let missing = read(Path::new("/nonexistent/kek")).unwrap_err();
        assert!(missing.to_string().contains("TOKEN_AUTHORITY_KEK_FILE"));
        for text in ["", "AAAA", &"A".repeat(42), &"A".repeat(44), &"A".repeat(4_000), &"!".repeat(43)] {
            assert!(
                matches!(read(write(text).path()), Err(KekFileError::Malformed { .. })),
                "{} characters",
                text.len()
            );
        }
    }
}
