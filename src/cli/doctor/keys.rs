//! Signing keys: who signs, who could follow, how long, and whether every private half opens.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::PgConnection;

use super::finding::{Finding, codes};
use crate::config::Settings;
use crate::domain::key_ring::{KeyState, Purpose, Slot};
use crate::domain::sealed::SecretName;
use crate::keystore::sealing::{KeyEncryption, LocalKek};
use crate::keystore::{Keystore, kek_file};
use crate::rotation::overview::{self, SlotStatus, Status};
use crate::storage::{StorageError, sealed_secrets, signing_keys};

/// The key-encryption key, where its file can be read.
pub(super) fn key_encryption_key(settings: &Settings) -> (Finding, Option<LocalKek>) {
    let code = codes::KEY_ENCRYPTION_KEY;
    let path = match settings.kek_file() {
        Ok(path) => path,
        Err(error) => {
            let remedy = "set `kek_file`; if the file is lost, see docs/key-rotation.md";
            return (Finding::problem(code, error.to_string(), remedy), None);
        }
    };
    match kek_file::read(path) {
        Err(error) => {
            let remedy = "put the file back from its own backup; without it every private half is lost";
            (Finding::problem(code, error.to_string(), remedy), None)
        }
        Ok(kek) if kek_file::is_open_to_others(path) => {
            let says = format!("others than its owner may read {}", path.display());
            (Finding::warning(code, says, format!("chmod 600 {}", path.display())), Some(kek))
        }
        Ok(kek) => {
            let says = format!("{} holds key-encryption key {}", path.display(), kek.id());
            (Finding::good(code, says), Some(kek))
        }
    }
}

/// How the keys of the database stand.
pub(super) async fn examine(
    connection: &mut PgConnection,
    environment: &str,
    kek: Option<LocalKek>,
    now: DateTime<Utc>,
) -> Result<Vec<Finding>, StorageError> {
    let status = match overview::status(connection, environment, now).await {
        Ok(status) => status,
        Err(error) => {
            return Ok(vec![Finding::problem(
                codes::ACTIVE_KEYS,
                error.to_string(),
                "run `token-authority init`, or set `environment` to the one that this database serves",
            )]);
        }
    };
    let mut findings = of_status(&status, now);
    findings.push(match kek {
        Some(kek) => private_halves(connection, environment, kek).await?,
        None => Finding::unknown(codes::PRIVATE_HALVES, "without the key-encryption key nothing opens"),
    });
    Ok(findings)
}

/// How long before its end a key is told about; the last of them as a problem.
const SOON: TimeDelta = TimeDelta::days(90);
const VERY_SOON: TimeDelta = TimeDelta::days(30);

fn of_status(status: &Status, now: DateTime<Utc>) -> Vec<Finding> {
    vec![active(&status.slots), standby(&status.slots, now), ends(&status.slots, now)]
}

fn active(slots: &[SlotStatus]) -> Finding {
    let (signing, silent): (Vec<_>, Vec<_>) = slots.iter().partition(|slot| slot.active.is_some());
    let named =
        |slots: &[&SlotStatus]| slots.iter().map(|slot| slot.slot.to_string()).collect::<Vec<_>>().join(", ");
    if silent.is_empty() && !signing.is_empty() {
        return Finding::good(codes::ACTIVE_KEYS, format!("a key signs for {}", named(&signing)));
    }
    Finding::problem(
        codes::ACTIVE_KEYS,
        format!("no key signs for {}", named(&silent)),
        "`token-authority keys plan` says which key could, and what it waits for",
    )
}

fn standby(slots: &[SlotStatus], now: DateTime<Utc>) -> Finding {
    let lacking =
        |slot: &&SlotStatus| !slot.standbys.iter().any(|key| key.armed_at.is_some() && now < key.not_after);
    // Only tokens stop when a key is lost without a successor; the others can be made anew at leisure.
    let needed = slots.iter().filter(|slot| slot.slot.purpose == Purpose::AccessTokens);
    let lacking: Vec<Slot> = needed.filter(lacking).map(|slot| slot.slot).collect();
    match lacking.as_slice() {
        [] => Finding::good(codes::STANDBY_KEYS, "an armed standby could follow each key that signs tokens"),
        slots => Finding::warning(
            codes::STANDBY_KEYS,
            format!(
                "no armed standby could follow the key of {}: a compromise would stop minting",
                slots.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            ),
            "`token-authority keys arm` the published key once every backend carries it",
        ),
    }
}

fn ends(slots: &[SlotStatus], now: DateTime<Utc>) -> Finding {
    let active = slots.iter().filter_map(|slot| slot.active.as_ref());
    let Some(first) = active.min_by_key(|key| key.not_after) else {
        return Finding::unknown(codes::KEY_ENDS, "no key signs");
    };
    let left = first.not_after - now;
    let says = format!(
        "the first active key to end is {} ({}), in {} days",
        first.kid,
        first.slot(),
        left.num_days()
    );
    let remedy = "rotate to its standby: `token-authority keys plan` tells the steps";
    if left < VERY_SOON {
        Finding::problem(codes::KEY_ENDS, says, remedy)
    } else if left < SOON {
        Finding::warning(codes::KEY_ENDS, says, remedy)
    } else {
        Finding::good(codes::KEY_ENDS, says)
    }
}

/// Opens every secret that is sealed, and forgets it again.
async fn private_halves(
    connection: &mut PgConnection,
    environment: &str,
    kek: LocalKek,
) -> Result<Finding, StorageError> {
    let code = codes::PRIVATE_HALVES;
    let remedy = "put back the key-encryption key of this database; docs/key-rotation.md tells what to do if it is lost";
    let id = kek.id().to_owned();
    let Some(digest_key) =
        sealed_secrets::find_latest(connection, environment, SecretName::DigestKey).await?
    else {
        return Ok(Finding::problem(
            code,
            "the digest key of credentials is missing",
            "run `token-authority init`",
        ));
    };
    let keystore = match Keystore::open(std::sync::Arc::new(kek), &digest_key) {
        Ok(keystore) => keystore,
        Err(error) => return Ok(Finding::problem(code, error.to_string(), remedy)),
    };
    let mut opened = 0;
    for listed in signing_keys::list(connection, environment).await? {
        let key = listed.key;
        if !matches!(key.state, KeyState::Generated | KeyState::Published | KeyState::Active) {
            continue;
        }
        let kid = key.kid.to_string();
        let Some(sealed) = signing_keys::find_sealed(connection, environment, &kid).await? else {
            return Ok(Finding::problem(code, format!("key {kid} has no private half"), remedy));
        };
        if let Err(error) = keystore.prove(&sealed) {
            return Ok(Finding::problem(code, format!("key {kid}: {error}"), remedy));
        }
        opened += 1;
    }
    Ok(Finding::good(code, format!("the {opened} private halves open under {id}, and sign")))
}
