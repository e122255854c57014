//! Makes probes: true ones, and forged ones that only the key's public half tells from them.

use aws_lc_rs::rand;
use chrono::{DateTime, Utc};
use token_authority_verifier::{Claims, Typ};
use uuid::Uuid;

use crate::domain::key_ring::Kid;
use crate::domain::probes::{PROBE_LIFE, Probe, ProbeSet};
use crate::keystore::{KeystoreError, Signer};

/// A probe with its token, as a process gets it.
#[derive(Clone, Debug)]
pub struct AskedProbe {
    pub kid: Kid,
    pub nonce: Uuid,
    pub token: String,
}

/// Whom the probes of a beat are for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) issuer: &'a str,
    pub(super) audience: &'a str,
    pub(super) now: DateTime<Utc>,
}

/// So many questions for each key: guessing them all right succeeds once in fourteen beats, and a
/// wrong guess on a forged one ends the guessing.
const PROBES_PER_KEY: usize = 4;

/// Asks about each of these keys several times, in random order: at least once truly, and at least
/// once with a forgery.
pub(super) fn ask<'s>(
    asked: Asked<'_>,
    signers: impl IntoIterator<Item = &'s Signer>,
) -> Result<(ProbeSet, Vec<AskedProbe>), KeystoreError> {
    let mut made = Vec::new();
    for signer in signers {
        for is_genuine in genuineness()? {
            made.push(make(asked, signer, is_genuine)?);
        }
    }
    shuffle(&mut made)?;
    let (probes, tokens) = made.into_iter().unzip();
    Ok((ProbeSet { issued_at: asked.now, probes }, tokens))
}

/// One of the ways to be neither all true nor all forged, each as likely.
fn genuineness() -> Result<[bool; PROBES_PER_KEY], KeystoreError> {
    loop {
        let bits = random_byte()?;
        let drawn: [bool; PROBES_PER_KEY] = std::array::from_fn(|place| bits >> place & 1 == 1);
        if drawn.contains(&true) && drawn.contains(&false) {
            return Ok(drawn);
        }
    }
}

fn make(asked: Asked<'_>, signer: &Signer, is_genuine: bool) -> Result<(Probe, AskedProbe), KeystoreError> {
    let (nonce, kid) = (random_nonce()?, signer.kid());
    let truly = sign(asked, signer, nonce)?;
    // A forgery carries the key's own signature of another probe that nobody ever sees: its form, its
    // header and its claims are those of a true one.
    let token = if is_genuine {
        truly
    } else {
        let unseen = sign(asked, signer, random_nonce()?)?;
        match (truly.rsplit_once('.'), unseen.rsplit_once('.')) {
            (Some((said, _)), Some((_, signature))) => format!("{said}.{signature}"),
            _ => return Err(KeystoreError::Unusable),
        }
    };
    Ok((Probe { nonce, kid, is_genuine }, AskedProbe { kid, nonce, token }))
}

fn sign(asked: Asked<'_>, signer: &Signer, nonce: Uuid) -> Result<String, KeystoreError> {
    let iat = asked.now.timestamp();
    let claims = Claims {
        iss: asked.issuer.to_owned(),
        sub: NOBODY.to_owned(),
        aud: vec![asked.audience.to_owned()],
        iat,
        nbf: iat - 5,
        exp: iat + PROBE_LIFE.num_seconds(),
        jti: nonce.to_string(),
        scopes: Vec::new(),
        gitlab_realm: NOBODY.to_owned(),
        gitlab_instance_uid: NOBODY.to_owned(),
        duo_seat_count: None,
    };
    let payload = serde_json::to_vec(&claims).map_err(|_| KeystoreError::Unusable)?;
    signer.sign_as(Typ::Probe, &payload)
}

/// Every order is as likely (Fisher and Yates); the bias of a byte over a few dozen places is nothing.
fn shuffle<T>(items: &mut [T]) -> Result<(), KeystoreError> {
    for last in (1..items.len()).rev() {
        let mut random = [0; 4];
        rand::fill(&mut random).map_err(|_| KeystoreError::NoRandomness)?;
        items.swap(last, u32::from_be_bytes(random) as usize % (last + 1));
    }
    Ok(())
}

fn random_nonce() -> Result<Uuid, KeystoreError> {
    let mut random = [0; 16];
    rand::fill(&mut random).map_err(|_| KeystoreError::NoRandomness)?;
    Ok(uuid::Builder::from_random_bytes(random).into_uuid())
}

fn random_byte() -> Result<u8, KeystoreError> {
    let mut random = [0];
    rand::fill(&mut random).map_err(|_| KeystoreError::NoRandomness)?;
    Ok(random[0])
}

/// The subject of a probe.
const NOBODY: &str = "probe";

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::{Duration, SystemTime};

    use token_authority_verifier::{KeySet, Verifier, VerifyError};

    use super::*;
    use crate::keystore::PrivateHalf;
    use crate::keystore::seed::Seed;

    #[test]
    fn a_verifier_tells_the_true_from_the_forged_and_nothing_else_does() {
        let seeds = [(); 2].map(|()| Seed::generate().unwrap());
        let public_keys = seeds.each_ref().map(|seed| seed.public_key().unwrap());
        let signers = [0, 1]
            .map(|n| Signer::new(&PrivateHalf::Ed25519(seeds[n].clone()), public_keys[n].kid()).unwrap());
        let verifier =
            Verifier::from_key_set(&KeySet::new(public_keys).unwrap(), "https://issuer.example", "gateway");
        let asked =
            Asked { issuer: "https://issuer.example", audience: "gateway", now: DateTime::UNIX_EPOCH };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(60);
        let mut shapes = BTreeSet::new();
        for _ in 0..64 {
            let (set, tokens) = ask(asked, &signers).unwrap();
            assert_eq!((set.probes.len(), tokens.len()), (8, 8));
            for (probe, asked) in set.probes.iter().zip(&tokens) {
                assert_eq!((probe.nonce, probe.kid), (asked.nonce, asked.kid));
                match verifier.verify_probe(&asked.token, now) {
                    Ok(claims) => {
                        assert!(probe.is_genuine);
                        assert_eq!(claims.jti, asked.nonce.to_string());
                        assert!(claims.scopes.is_empty());
                    }
                    Err(refusal) => {
                        assert!(!probe.is_genuine);
                        assert_eq!(refusal, VerifyError::SignatureInvalid);
                    }
                }
                assert_eq!(verifier.verify(&asked.token, now), Err(VerifyError::TypWrong));
                let lengths: Vec<_> = asked.token.split('.').map(str::len).collect();
                shapes.insert(lengths);
            }
            for kid in signers.each_ref().map(Signer::kid) {
                let of_key = || set.probes.iter().filter(|probe| probe.kid == kid);
                assert!(of_key().any(|probe| probe.is_genuine) && of_key().any(|probe| !probe.is_genuine));
            }
        }
        assert_eq!(shapes.len(), 1, "forged ones look like true ones");
    }
}
