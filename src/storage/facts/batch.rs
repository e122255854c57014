//! Reads the facts of a batch of syncs in one statement: it is on the path of every sync.

use std::collections::HashSet;
use std::ops::Range;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::PgRow;
use sqlx::{Decode, PgConnection, Postgres, Row, Type};
use uuid::Uuid;

use super::{
    ActiveKey, ActiveKeys, BatchFacts, CredentialFacts, InstanceFacts, LastSync, PreviousKey, Situation, term,
};
use crate::domain::add_on_purchase::PurchaseStanding;
use crate::domain::catalog::AddOnName;
use crate::domain::ids::InstanceUid;
use crate::domain::instance::{Deployment, InstanceStanding};
use crate::domain::license::LicenseStanding;
use crate::domain::subscription::SubscriptionStanding;
use crate::storage::issuances::first_jti_of;
use crate::storage::{StorageError, decode};

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
        .bind(syncs.start - DEATHS_LEFT_OUT)
        .fetch_all(connection)
        .await?;
    let mut facts = BatchFacts {
        now: DateTime::UNIX_EPOCH,
        active_keys: ActiveKeys::default(),
        rs256_backends: Vec::new(),
        key_set_version: None,
        instances: std::iter::repeat_with(|| None).take(uids.len()).collect(),
    };
    let mut purchases_seen = HashSet::new();
    for (index, row) in rows.iter().enumerate() {
        let mut columns = Columns { row, next: 0 };
        if index == 0 {
            facts.now = columns.read()?;
            facts.active_keys.ed_dsa = columns.active_key()?;
            facts.active_keys.rs256 = columns.active_key()?;
            facts.rs256_backends = columns.read::<Option<Vec<String>>>()?.unwrap_or_default();
            facts.key_set_version = columns.read()?;
        } else {
            columns.next = COLUMNS_OF_THE_BATCH;
        }
        let position: i64 = columns.read()?;
        let place = usize::try_from(position - 1).ok().and_then(|place| facts.instances.get_mut(place));
        let place =
            place.ok_or_else(|| StorageError::corrupt("a row for an instance that nobody asked for"))?;
        let Some(uid) = columns.read::<Option<Uuid>>()? else { continue };
        let instance = match place {
            Some(instance) => {
                columns.next += COLUMNS_OF_AN_INSTANCE;
                instance
            }
            None => place.insert(columns.instance(uid.into())?),
        };
        // An instance with two secrets and two purchases has four rows.
        let credential = columns.credential()?;
        if let Some(credential) = credential
            && instance.credentials.iter().all(|known| known.id != credential.id)
        {
            instance.credentials.push(credential);
            instance.credentials.sort_unstable_by_key(|credential| credential.sequence);
        }
        if let Some(purchase) = columns.read::<Option<Uuid>>()?
            && purchases_seen.insert((position, purchase))
        {
            instance.situation.purchases.push(columns.purchase()?);
        }
    }
    Ok(facts)
}

/// A secret that died long before the batch opens nothing: it is not read.
const DEATHS_LEFT_OUT: TimeDelta = TimeDelta::hours(1);

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

    /// A word that the schema allows.
    fn word<T>(&mut self) -> Result<T, StorageError>
    where
        T: std::str::FromStr,
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        decode(self.read()?)
    }

    fn names<T>(&mut self) -> Result<std::collections::BTreeSet<T>, StorageError>
    where
        T: std::str::FromStr + Ord,
        T::Err: std::error::Error + Send + Sync + 'static,
    {
        self.read::<Vec<String>>()?.iter().map(|name| decode(name)).collect()
    }

    fn active_key(&mut self) -> Result<Option<ActiveKey>, StorageError> {
        let kid: Option<String> = self.read()?;
        let (number, not_after) = (self.read::<Option<i16>>()?, self.read::<Option<DateTime<Utc>>>()?);
        let key = kid.zip(number).zip(not_after);
        Ok(key.map(|((kid, number), not_after)| ActiveKey { kid, number, not_after }))
    }

    fn instance(&mut self, uid: InstanceUid) -> Result<InstanceFacts, StorageError> {
        Ok(InstanceFacts {
            uid,
            number: self.read()?,
            instance_id: self.read::<Uuid>()?.into(),
            hostname: self.read()?,
            public_key: self.read()?,
            previous_key: self.previous_key()?,
            reported_usage: self.read()?,
            is_contested: self.read()?,
            subscription_id: self.read::<Uuid>()?.into(),
            situation: self.situation()?,
            last_sync: self.last_sync()?,
            credentials: Vec::with_capacity(1),
        })
    }

    fn previous_key(&mut self) -> Result<Option<PreviousKey>, StorageError> {
        let (public_key, dies_at) = (self.read::<Option<Vec<u8>>>()?, self.read()?);
        Ok(public_key.map(|public_key| PreviousKey { public_key, dies_at }))
    }

    fn situation(&mut self) -> Result<Situation, StorageError> {
        Ok(Situation {
            license: LicenseStanding { kind: self.word()?, revoked_at: self.read()? },
            subscription: SubscriptionStanding {
                license_type: self.word()?,
                term: term(self.read()?, self.read()?)?,
                earlier_ends: self.read()?,
                trial: self.read()?,
                condition: self.word()?,
            },
            instance: InstanceStanding {
                state: self.word()?,
                version: self.word()?,
                realm: self.word::<Deployment>()?.realm(),
                disabled_unit_primitives: self.names()?,
                disabled_backends: self.names()?,
            },
            purchases: Vec::with_capacity(1),
        })
    }

    fn last_sync(&mut self) -> Result<Option<LastSync>, StorageError> {
        let digest: Option<Vec<u8>> = self.read()?;
        let (issued_at, idempotency) = (self.read::<Option<DateTime<Utc>>>()?, self.read()?);
        let synced = digest.zip(issued_at);
        Ok(synced.map(|(digest, issued_at)| LastSync { issued_at, digest, idempotency }))
    }

    fn credential(&mut self) -> Result<Option<CredentialFacts>, StorageError> {
        let Some(id) = self.read::<Option<Uuid>>()? else {
            self.next += COLUMNS_OF_A_CREDENTIAL;
            return Ok(None);
        };
        Ok(Some(CredentialFacts {
            id: id.into(),
            digest: self.read()?,
            by_rotation: self.read()?,
            sequence: self.read()?,
            first_used_at: self.read()?,
            last_used_at: self.read()?,
            dies_at: self.read()?,
        }))
    }

    fn purchase(&mut self) -> Result<PurchaseStanding, StorageError> {
        Ok(PurchaseStanding {
            add_on: self.word::<AddOnName>()?,
            quantity: u32::try_from(self.read::<i32>()?).map_err(StorageError::corrupt)?,
            term: term(self.read()?, self.read()?)?,
            ended_at: self.read()?,
        })
    }
}

const COLUMNS_OF_THE_BATCH: usize = 9;
/// After the uid.
const COLUMNS_OF_AN_INSTANCE: usize = 25;
/// After the id.
const COLUMNS_OF_A_CREDENTIAL: usize = 6;

/// No key signs in safe mode, nor while the clock shows less than it did
/// ([`CLOCK_TOLERANCE`](crate::storage::safe_mode::CLOCK_TOLERANCE)).
///
/// A row for each uid that is asked for, known or not, so that the clock and the key come even for an
/// unknown one; more where it has several secrets or purchases, which is rare: joined rows cost a third
/// less than aggregated arrays. Nothing is sorted: `position` tells where a row belongs.
const BATCH: &str = "\
select b.now, k.kid, k.number, k.not_after, r.kid, r.number, r.not_after, rb.names, ks.version, \
       u.position, i.uid, i.number, i.instance_id, i.hostname, i.public_key, i.previous_public_key, i.previous_key_dies_at, i.reported_usage, \
       i.identity_contested_at is not null, l.subscription_id, \
       l.kind, l.revoked_at, s.license_type, s.starts_at, s.ends_at, s.earlier_ends, s.trial, s.condition, \
       i.state, i.version, i.deployment, i.disabled_unit_primitives, i.disabled_backends, \
       t.sync_digest, t.issued_at, t.idempotency, \
       c.id, c.digest, c.origin = 'rotation', c.sequence, c.first_used_at, c.last_used_at, c.dies_at, \
       p.id, p.add_on, p.quantity, p.starts_at, p.ends_at, p.ended_at \
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
cross join unnest($1::uuid[]) with ordinality as u (uid, position) \
left join instances i on i.uid = u.uid \
left join licenses l on l.id = i.license_id \
left join subscriptions s on s.id = l.subscription_id \
left join lateral ( \
    select sync_digest, issued_at, idempotency from issuances \
    where instance_number = i.number and jti >= $3 and jti < $4 order by jti desc limit 1) t on true \
left join instance_credentials c on c.instance_uid = i.uid and (c.dies_at is null or c.dies_at > $5) \
left join add_on_purchases p on p.subscription_id = s.id and (p.ended_at is null or p.ended_at > p.starts_at)";
