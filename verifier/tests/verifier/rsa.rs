//! RSA keys that exist only here, and what they sign: PKCS#1 v1.5 has no randomness, so that vectors stay the same.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PKCS1_SHA512, RsaEncoding, RsaKeyPair,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use token_authority_verifier::{Algorithm, Jwk, ProtectedHeader, Typ, compact};

use crate::forge::encode;

/// A key pair of 2048 bits.
pub(crate) struct RsaKey {
    secret: RsaKeyPair,
    pub(crate) public: Jwk,
}

impl RsaKey {
    pub(crate) fn active() -> Self {
        Self::from_pem(include_str!("rsa/active.pem"))
    }

    pub(crate) fn standby() -> Self {
        Self::from_pem(include_str!("rsa/standby.pem"))
    }

    /// In no key set.
    pub(crate) fn stranger() -> Self {
        Self::from_pem(include_str!("rsa/stranger.pem"))
    }

    /// PKCS#8, as `openssl genpkey` writes it.
    fn from_pem(pem: &str) -> Self {
        let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let secret = RsaKeyPair::from_pkcs8(&STANDARD.decode(body).unwrap()).unwrap();
        let key = secret.public_key();
        let (n, e) = (key.modulus().big_endian_without_leading_zero(), key.exponent());
        let public = Jwk::from_rsa_public(n, e.big_endian_without_leading_zero()).unwrap();
        Self { secret, public }
    }

    pub(crate) fn token(&self, payload: &str) -> String {
        let header = ProtectedHeader::new(Typ::AccessToken, Algorithm::Rs256, self.public.kid());
        let input = header.signing_input(payload.as_bytes());
        let signature = self.sign(&RSA_PKCS1_SHA256, &input);
        compact(input, &signature)
    }

    /// A token whose header names `alg`, signed with the hash that goes with it.
    pub(crate) fn token_as(&self, alg: &str, payload: &str) -> String {
        let header = format!(r#"{{"alg":"{alg}","kid":"{}","typ":"at+jwt"}}"#, self.public.kid());
        let input = format!("{}.{}", encode(header), encode(payload));
        let encoding: &dyn RsaEncoding = match alg {
            "RS384" => &RSA_PKCS1_SHA384,
            "RS512" => &RSA_PKCS1_SHA512,
            _ => &RSA_PKCS1_SHA256,
        };
        let signature = self.sign(encoding, &input);
        compact(input, &signature)
    }

    pub(crate) fn sign(&self, encoding: &'static dyn RsaEncoding, input: &str) -> Vec<u8> {
        let mut signature = vec![0; self.secret.public_modulus_len()];
        self.secret.sign(encoding, &SystemRandom::new(), input.as_bytes(), &mut signature).unwrap();
        signature
    }

    /// The public key as SubjectPublicKeyInfo in PEM (RFC 7468 §13), as careless servers hand it to HMAC.
    pub(crate) fn pem(&self) -> String {
        let pkcs1 = self.secret.public_key().as_ref();
        // The algorithm's identifier and the frames around it never differ for this size of key.
        let mut der = vec![0x30, 0x82, 0x01, 0x22, 0x30, 0x0d, 0x06, 0x09];
        der.extend([0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00]);
        der.extend([0x03, 0x82, 0x01, 0x0f, 0x00]);
        der.extend(pkcs1);
        assert_eq!(der.len(), 4 + 0x122);
        let text = STANDARD.encode(der);
        let lines: Vec<&str> =
            text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }
}
