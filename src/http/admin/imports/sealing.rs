//! Keeps an activation code for whoever sends the same import again, as other answers are kept for a retry.

use super::super::super::error::ApiError;
use crate::domain::credential::Credential;
use crate::domain::ids::ImportId;
use crate::keystore::Keystore;

/// Seals a code as the one of this line of this import.
///
/// # Errors
/// A fault.
pub(super) fn seal(
    keystore: &Keystore,
    import: ImportId,
    line: i64,
    secret: &Credential,
) -> Result<Vec<u8>, ApiError> {
    keystore.seal_answer(&belongs_to(import, line), secret.expose().as_bytes()).map_err(ApiError::fault)
}

/// Opens it again.
///
/// # Errors
/// A fault: it was altered, or is another's.
pub(super) fn open(
    keystore: &Keystore,
    import: ImportId,
    line: i64,
    sealed: &[u8],
) -> Result<String, ApiError> {
    let opened = keystore.open_answer(&belongs_to(import, line), sealed);
    let opened = opened.ok_or_else(|| ApiError::fault("the code of an imported license does not open"))?;
    String::from_utf8(opened.to_vec()).map_err(ApiError::fault)
}

fn belongs_to(import: ImportId, line: i64) -> Vec<u8> {
    format!("import {import} line {line}").into_bytes()
}
