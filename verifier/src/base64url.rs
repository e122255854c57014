//! Base64url without padding (RFC 7515 §2), in its one canonical spelling.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The longest value of fixed length in these formats: an Ed25519 signature, 64 bytes.
const LONGEST_FIXED: usize = 64;

pub(crate) fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Writes `bytes` behind what `text` already holds.
pub(crate) fn append(bytes: &[u8], text: &mut String) {
    URL_SAFE_NO_PAD.encode_string(bytes, text);
}

/// `None` for padding, white space, a foreign alphabet and stray bits in the last character: two spellings
/// of one signature would be two tokens to whoever remembers tokens by their text.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// As [`decode`], into an array of exactly `N` bytes (64 at most), without allocating.
pub(crate) fn decode_array<const N: usize>(text: &str) -> Option<[u8; N]> {
    const { assert!(N <= LONGEST_FIXED) };
    if text.len() != (N * 4).div_ceil(3) {
        return None;
    }
    // The decoder asks for room by the length of the text, rounded up.
    let mut room = [0; LONGEST_FIXED + 3];
    let length = URL_SAFE_NO_PAD.decode_slice(text, &mut room).ok()?;
    room.get(..length)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_spelling_is_read() {
        assert_eq!(decode("AA"), Some(vec![0]));
        for text in ["AB", "AA==", "A", "AA ", " AA", "AA\n", "A+", "A/"] {
            assert_eq!(decode(text), None, "{text:?}");
        }
    }

    #[test]
    fn arrays_have_exactly_their_length() {
        let (short, exact, long) = (encode(&[7; 31]), encode(&[7; 32]), encode(&[7; 33]));
        assert_eq!(decode_array::<32>(&exact), Some([7; 32]));
        assert_eq!(decode_array::<32>(&short), None);
        assert_eq!(decode_array::<32>(&long), None);
        assert_eq!(decode_array::<64>(&encode(&[9; 64])), Some([9; 64]));
    }
}
