//! Reads what the fleet of backends has shown: the evidence on which the key ring decides.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{PgConnection, Row};

use super::{StorageError, decode};
use crate::domain::backend::KeyTrust;
use crate::domain::key_ring::{Backend, FORGET_AFTER, Fleet, Kid, Process, Trust};

/// Everything that is known of the backends' processes, in one statement per kind.
///
/// Left out are processes that were silent for twice the time after which they are forgotten, counted
/// from the last sign of life of any, and that have proved nothing: they can neither block a key nor
/// speak for one.
///
/// # Errors
/// The database cannot be read.
pub async fn find(
    connection: &mut PgConnection,
    environment: &str,
    jwks_max_age: TimeDelta,
) -> Result<Fleet, StorageError> {
    let mut backends = Vec::new();
    for row in sqlx::query("select name, alg, trust, min_live from backends order by name")
        .fetch_all(&mut *connection)
        .await?
    {
        let trust = match decode(row.try_get("trust")?)? {
            KeyTrust::Embedded => Trust::Embedded,
            KeyTrust::Discovery => Trust::Discovery { max_age: jwks_max_age },
        };
        backends.push(Backend {
            name: row.try_get("name")?,
            alg: decode(row.try_get("alg")?)?,
            trust,
            min_live: u32::try_from(row.try_get::<i32, _>("min_live")?).map_err(StorageError::corrupt)?,
            processes: Vec::new(),
            checked_builds: BTreeMap::new(),
        });
    }
    let place = |backends: &[Backend], name: &str| backends.iter().position(|backend| backend.name == name);

    let rows = sqlx::query(
        "select d.backend, d.process_id, d.standing, d.last_seen_at, \
                array_agg(p.kid) filter (where p.kid is not null) as kids, \
                array_agg(p.last_proved_at) filter (where p.kid is not null) as proved_at \
         from deployments d left join deployment_proofs p using (backend, process_id) \
         where d.standing = 'running' \
           and (p.kid is not null or d.last_seen_at > (select max(last_seen_at) from deployments) - $1) \
         group by d.backend, d.process_id order by d.backend, d.process_id",
    )
    .bind(FORGET_AFTER * 2)
    .fetch_all(&mut *connection)
    .await?;
    for row in rows {
        let kids: Vec<String> = row.try_get::<Option<_>, _>("kids")?.unwrap_or_default();
        let proved_at: Vec<DateTime<Utc>> = row.try_get::<Option<_>, _>("proved_at")?.unwrap_or_default();
        let proofs = kids.iter().zip(proved_at).map(|(kid, at)| Ok((decode(kid)?, at)));
        let process = Process {
            id: row.try_get("process_id")?,
            standing: decode(row.try_get("standing")?)?,
            last_seen: row.try_get("last_seen_at")?,
            proofs: proofs.collect::<Result<_, StorageError>>()?,
        };
        if let Some(place) = place(&backends, row.try_get("backend")?) {
            backends[place].processes.push(process);
        }
    }

    let rows = sqlx::query(
        "select b.backend, key ->> 'kid' as kid, max(b.checked_at) as checked_at \
         from checked_builds b join key_sets s on s.environment = b.environment and s.version = b.key_set_version \
         cross join lateral jsonb_array_elements(convert_from(s.payload, 'UTF8')::jsonb -> 'keys') as key \
         where b.environment = $1 group by b.backend, key ->> 'kid'",
    )
    .bind(environment)
    .fetch_all(&mut *connection)
    .await?;
    for row in rows {
        let kid: Kid = decode(row.try_get("kid")?)?;
        if let Some(place) = place(&backends, row.try_get("backend")?) {
            backends[place].checked_builds.insert(kid, row.try_get("checked_at")?);
        }
    }
    Ok(Fleet { backends })
}
