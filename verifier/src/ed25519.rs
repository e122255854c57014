//! Strict Ed25519 verification for keys that verify many signatures: tables of their multiples are made once.
//!
//! The equation and the rules are those of `VerifyingKey::verify_strict` (RFC 8032 §5.1.7, without the cofactor; S
//! below the order; neither key nor R of small order); only the way to `[S]B − [k]A` differs. The library's own way
//! makes 256 doublings per signature, because it meets a key for the first time each time. A verifier of tokens meets
//! the same few keys for months. Nothing here is secret, so nothing has to take constant time.

use std::sync::{LazyLock, OnceLock};

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity;
use ed25519_dalek::VerifyingKey;
use sha2::{Digest as _, Sha512};

/// A public key of prime order, and the multiples of its negative.
pub(crate) struct StrictKey {
    bytes: [u8; 32],
    negated: EdwardsPoint,
    /// Made at the first signature: most keys of a set sign nothing while a build runs.
    multiples: OnceLock<Multiples>,
}

impl StrictKey {
    /// `key` must be of prime order, as that of every [`Jwk`](crate::Jwk) is.
    pub(crate) fn new(key: &VerifyingKey) -> Self {
        let point = key.to_edwards();
        debug_assert!(point.is_torsion_free() && !point.is_small_order(), "a Jwk is of prime order");
        Self { bytes: *key.as_bytes(), negated: -point, multiples: OnceLock::new() }
    }

    /// Whether `signature` is this key's over `message`.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let (Some(r), Some(s)) = (signature.first_chunk::<32>(), signature.last_chunk::<32>()) else {
            return false;
        };
        // S + L would be a second signature of the same text.
        let Some(s) = Scalar::from_canonical_bytes(*s).into_option() else {
            return false;
        };
        let hash = Sha512::new().chain_update(r).chain_update(self.bytes).chain_update(message).finalize();
        let k = Scalar::from_bytes_mod_order_wide(&hash.into());
        let multiples = self.multiples.get_or_init(|| Multiples::of(self.negated));
        let expected = sum([(multiples, &k), (&BASE, &s)]).compress();
        // `expected` is canonical and of prime order, or the identity, since A and B are of prime order: comparing the
        // bytes refuses every R of small or mixed order and every second encoding, but for the identity itself.
        expected.as_bytes() == r && *r != IDENTITY
    }
}

/// The encoding of the neutral element, the one point of small order in the subgroup.
const IDENTITY: [u8; 32] = {
    let mut bytes = [0; 32];
    bytes[0] = 1;
    bytes
};

static BASE: LazyLock<Multiples> = LazyLock::new(|| Multiples::of(ED25519_BASEPOINT_POINT));

/// Bits per digit of a scalar. One more doubles the tables and saves a tenth of the time.
const WIDTH: usize = 7;
/// Digits of a scalar: its 253 bits, and a carry.
const DIGITS: usize = 254_usize.div_ceil(WIDTH);
/// Digits are between -64 and 64: the sign costs nothing, as points are negated for free.
const LARGEST: usize = 1 << (WIDTH - 1);

/// `j · 2^(2·WIDTH·i) · P` for each `i` below half the number of digits and each `j` from 1 to [`LARGEST`]: 190 KiB.
struct Multiples(Vec<EdwardsPoint>);

impl Multiples {
    fn of(point: EdwardsPoint) -> Self {
        let mut multiples = Vec::with_capacity(DIGITS.div_ceil(2) * LARGEST);
        let mut unit = point;
        for _ in 0..DIGITS.div_ceil(2) {
            let mut multiple = unit;
            for _ in 0..LARGEST {
                multiples.push(multiple);
                multiple += unit;
            }
            unit = doubled(unit, 2 * WIDTH);
        }
        Self(multiples)
    }

    /// `sum` plus the digit at `place`, without the factor `2^WIDTH` that odd places have in common.
    fn add_to(&self, sum: EdwardsPoint, place: usize, digit: i8) -> EdwardsPoint {
        let magnitude = usize::from(digit.unsigned_abs());
        match digit.signum() {
            0 => sum,
            1 => sum + self.0[place / 2 * LARGEST + magnitude - 1],
            _ => sum - self.0[place / 2 * LARGEST + magnitude - 1],
        }
    }
}

/// The sum of the points behind the tables, each times its scalar.
fn sum<const N: usize>(terms: [(&Multiples, &Scalar); N]) -> EdwardsPoint {
    let terms = terms.map(|(multiples, scalar)| (multiples, digits(scalar)));
    let mut sum = EdwardsPoint::identity();
    for parity in [1, 0] {
        for place in (parity..DIGITS).step_by(2) {
            for (multiples, digits) in &terms {
                sum = multiples.add_to(sum, place, digits[place]);
            }
        }
        if parity == 1 {
            sum = doubled(sum, WIDTH);
        }
    }
    sum
}

/// `point` times 2 to the power of `times`.
fn doubled(point: EdwardsPoint, times: usize) -> EdwardsPoint {
    (0..times).fold(point, |point, _| point + point)
}

/// The scalar in base `2^WIDTH`, lowest digit first, digits between −[`LARGEST`] and [`LARGEST`].
fn digits(scalar: &Scalar) -> [i8; DIGITS] {
    let bytes = scalar.as_bytes();
    let byte = |index: usize| i32::from(bytes.get(index).copied().unwrap_or(0));
    let mut carry = 0;
    std::array::from_fn(|place| {
        let bit = place * WIDTH;
        let window = (byte(bit / 8) | byte(bit / 8 + 1) << 8) >> (bit % 8) & ((1 << WIDTH) - 1);
        let digit = window + carry;
        // The scalar is below 2^253, so that the last digit never carries.
        carry = i32::from(digit > 1 << (WIDTH - 1));
        i8::try_from(digit - (carry << WIDTH)).unwrap_or_default()
    })
}

#[cfg(test)]
mod suites;

#[cfg(test)]
mod tests {
    use ed25519_dalek::{Signature, Signer as _, SigningKey};
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_tables_give_what_the_library_computes(a: [u8; 32], b: [u8; 32], seed: [u8; 32]) {
            let (a, b) = (Scalar::from_bytes_mod_order(a), Scalar::from_bytes_mod_order(b));
            let point = SigningKey::from_bytes(&seed).verifying_key().to_edwards();
            let ours = sum([(&Multiples::of(point), &a), (&BASE, &b)]);
            prop_assert_eq!(ours, EdwardsPoint::vartime_double_scalar_mul_basepoint(&a, &point, &b));
        }

        #[test]
        fn the_verdict_is_that_of_verify_strict(
            seed: [u8; 32],
            message in proptest::collection::vec(any::<u8>(), 0..200),
            place in 0_usize..96,
            bits in 0_u8..4,
        ) {
            let secret = SigningKey::from_bytes(&seed);
            let key = secret.verifying_key();
            let mut signature = secret.sign(&message).to_bytes();
            let mut message = message;
            // Alters a byte of R, of S or of the message, or none.
            match signature.get_mut(place) {
                Some(byte) => *byte ^= bits,
                None => message.iter_mut().take(1).for_each(|byte| *byte ^= bits),
            }
            let strict = key.verify_strict(&message, &Signature::from_bytes(&signature)).is_ok();
            prop_assert_eq!(StrictKey::new(&key).has_signed(&message, &signature), strict);
        }
    }

    #[test]
    fn scalars_at_the_edges_are_multiplied_right() {
        let point = SigningKey::from_bytes(&[3; 32]).verifying_key().to_edwards();
        let multiples = Multiples::of(point);
        let power = |bit: usize| {
            let mut bytes = [0; 32];
            bytes[bit / 8] = 1 << (bit % 8);
            Scalar::from_bytes_mod_order(bytes)
        };
        let edges = [Scalar::ZERO, Scalar::ONE, -Scalar::ONE, -Scalar::from(2_u8)];
        let around =
            (0..253).flat_map(|bit| [power(bit), power(bit) - Scalar::ONE, power(bit) + Scalar::ONE]);
        for scalar in edges.into_iter().chain(around) {
            assert_eq!(sum([(&multiples, &scalar)]), point * scalar, "{scalar:?}");
        }
    }
}
