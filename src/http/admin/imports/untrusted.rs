//! What is read of an import before anything of it is believed.

use actix_web::web::Bytes;
use futures_util::stream;

use super::lines::Lines;
use super::record::Words;

/// Cuts `bytes` into lines, in pieces of so many bytes as they could come, and reads each line as a record. Answers
/// how many lines there were and how many of them say what they are.
pub(crate) async fn read(bytes: &[u8], piece: usize) -> (usize, usize) {
    let pieces = bytes.chunks(piece.max(1)).map(|piece| Ok(Bytes::copy_from_slice(piece)));
    let mut lines = Lines::of(stream::iter(pieces), LONGEST);
    let (mut all, mut known) = (0, 0);
    while let Ok(some) = lines.next(16).await {
        if some.is_empty() {
            break;
        }
        all += some.len();
        known += some.iter().filter(|line| Words::read(line, LONGEST).1.is_ok()).count();
    }
    (all, known)
}

const LONGEST: usize = 4096;
