//! Reads the facts of a batch of syncs in one statement: it is on the path of every sync.

use std::ops::Range;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{Decode, PgConnection, Postgres, Row, Type};
use uuid::Uuid;

use super::row::FactsRow;
use super::{ActiveKey, ActiveKeys, BatchFacts, InstanceFacts, LastSync};
use crate::domain::ids::InstanceUid;
use crate::storage::StorageError;
use crate::storage::issuances::first_jti_of;

/// Reads the facts of a batch in one statement. `syncs` bounds when a last sync is looked for.
///
/// The caller already holds the batch's locks: a statement that both waited for
/// them and read would see the database as it was before the wait.
///
/// # Errors
/// The database cannot be read.
pub async fn list_for_batch(
    connection: &mut PgConnection,
    environment: &str,
    uids: &[InstanceUid],
    syncs: Range<DateTime<Utc>>,
) -> Result<BatchFacts, StorageError> {
    let bare: Vec<Uuid> = uids.iter().map(|uid| uid.as_uuid()).collect();
    let rows = sqlx::query(BATCH)
        .bind(&bare)
        .bind(environment)
        .bind(first_jti_of(syncs.start))
        .bind(first_jti_of(syncs.end))
        .fetch_all(connection)
        .await?;
    let mut facts = BatchFacts {
        now: DateTime::UNIX_EPOCH,
        active_keys: ActiveKeys::default(),
        rs256_backends: Vec::new(),
        key_set_version: None,
        instances: std::iter::repeat_with(|| None).take(uids.len()).collect(),
    };
    for row in &rows {
        let mut columns = Columns { row, next: 0 };
        let Some(position) = columns.read::<Option<i64>>()? else {
            columns.next = COLUMNS_OF_AN_INSTANCE;
            facts.now = columns.read()?;
            facts.active_keys.ed_dsa = columns.active_key()?;
            facts.active_keys.rs256 = columns.active_key()?;
            facts.rs256_backends = columns.read::<Option<Vec<String>>>()?.unwrap_or_default();
            facts.key_set_version = columns.read()?;
            continue;
        };
        let place = usize::try_from(position - 1).ok();
        let place = place.and_then(|place| Some((*uids.get(place)?, facts.instances.get_mut(place)?)));
        let (uid, place) =
            place.ok_or_else(|| StorageError::corrupt("a row for an instance that nobody asked for"))?;
        *place = Some(columns.instance(uid)?);
    }
    Ok(facts)
}

/// The columns of a row in their order: reading them by name costs a look-up each.
struct Columns<'r> {
    row: &'r PgRow,
    next: usize,
}

impl<'r> Columns<'r> {
    fn read<T: Decode<'r, Postgres> + Type<Postgres>>(&mut self) -> Result<T, StorageError> {
        let value = self.row.try_get(self.next)?;
        self.next += 1;
        Ok(value)
    }

    fn active_key(&mut self) -> Result<Option<ActiveKey>, StorageError> {
        let kid: Option<String> = self.read()?;
        let (number, not_after) = (self.read::<Option<i16>>()?, self.read::<Option<DateTime<Utc>>>()?);
        let key = kid.zip(number).zip(not_after);
        Ok(key.map(|((kid, number), not_after)| ActiveKey { kid, number, not_after }))
    }

    fn instance(&mut self, uid: InstanceUid) -> Result<InstanceFacts, StorageError> {
        let facts = FactsRow::parse(self.read()?)?;
        let digest: Option<Vec<u8>> = self.read()?;
        let (issued_at, idempotency) = (self.read::<Option<DateTime<Utc>>>()?, self.read()?);
        let synced = digest.zip(issued_at);
        let last_sync = synced.map(|(digest, issued_at)| LastSync { issued_at, digest, idempotency });
        facts.into_facts(uid, last_sync)
    }
}

/// With its position.
const COLUMNS_OF_AN_INSTANCE: usize = 5;

/// No key signs in safe mode, nor while the clock shows less than it did
/// ([`CLOCK_TOLERANCE`](crate::storage::safe_mode::CLOCK_TOLERANCE)).
///
/// The first row, without a position, is of the whole batch: the clock and the keys come even where every uid is
/// unknown. Then one for each instance that is known, whose `position` tells where it belongs.
const BATCH: &str = "\
select null::bigint, null::text, null::bytea, null::timestamptz, null::bytea, \
       b.now, k.kid, k.number, k.not_after, r.kid, r.number, r.not_after, rb.names, ks.version \
from (select clock_timestamp() as now) b \
cross join (select not exists (select from key_rings where environment = $2 and safe_mode_since is not null) \
               and not exists (select from clock_marks where environment = $2 \
                                 and high_water > clock_timestamp() + interval '5 seconds') as may_sign) m \
left join (select kid, number, not_after from signing_keys \
           where environment = $2 and purpose = 'access_tokens' and alg = 'EdDSA' and state = 'active') k on m.may_sign \
left join (select kid, number, not_after from signing_keys \
           where environment = $2 and purpose = 'access_tokens' and alg = 'RS256' and state = 'active') r on m.may_sign \
left join (select array_agg(name) as names from backends where alg = 'RS256') rb on true \
left join (select max(version) as version from key_sets where environment = $2) ks on true \
union all \
select u.position, f.facts, t.sync_digest, t.issued_at, t.idempotency, \
       null, null, null, null, null, null, null, null, null \
from unnest($1::uuid[]) with ordinality as u (uid, position) \
join sync_facts f on f.instance_uid = u.uid \
left join lateral ( \
    select sync_digest, issued_at, idempotency from issuances \
    where instance_number = f.number and jti >= $3 and jti < $4 order by jti desc limit 1) t on true";
