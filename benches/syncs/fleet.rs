//! Fills a database with instances and their purchases, and writes what they send.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use sha2::{Digest, Sha256};
use sqlx::{Executor, PgConnection};
use token_authority::clock::Clock;
use token_authority::domain::credential::{Credential, CredentialKind};
use token_authority::keystore::Keystore;
use token_authority::storage::Database;
use uuid::Uuid;

use super::load::Request;
use super::outcome::Outcome;

/// The instances of one database.
#[derive(Debug)]
pub(crate) struct Fleet {
    size: usize,
    /// `Authorization` of each, one after the other: all have the same length.
    authorizations: Vec<u8>,
    /// How many syncs were asked for, in all runs on this database.
    turn: AtomicU64,
}

/// What a sync asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    /// One token: the backend that most instances use.
    OneToken,
    /// A token for each backend that the purchases reach.
    EveryToken,
}

impl Fleet {
    /// Fills the empty database of a deployment: each instance with a customer, subscription, purchase, license and
    /// secret of its own.
    pub(crate) async fn fill(database: &Database, keystore: &Keystore, size: usize) -> Outcome<Self> {
        let now = Clock::system().now();
        let mut connection = database.connect_for_batches().await?;
        // Written as a copy is restored: a replica's session runs no triggers. The rows are those that the
        // service itself would have written.
        connection.execute("set session_replication_role = replica; set statement_timeout = 0").await?;
        let mut fleet =
            Self { size, authorizations: Vec::with_capacity(size * 120), turn: AtomicU64::new(0) };
        for first in (0..size).step_by(CHUNK) {
            fleet.fill_chunk(&mut connection, keystore, first..size.min(first + CHUNK), now).await?;
        }
        connection.execute("set session_replication_role = origin").await?;
        connection.execute("vacuum analyze").await?;
        Ok(fleet)
    }

    async fn fill_chunk(
        &mut self,
        connection: &mut PgConnection,
        keystore: &Keystore,
        range: std::ops::Range<usize>,
        now: DateTime<Utc>,
    ) -> Outcome<()> {
        let (mut uids, mut digests) = (Vec::with_capacity(range.len()), Vec::with_capacity(range.len()));
        for index in range {
            let uid = uid(index, now);
            let secret = Credential::from_random(CredentialKind::InstanceSecret, &bits("secret", index));
            uids.push(uid);
            digests.push(keystore.digest(&secret).to_vec());
            let pair = STANDARD.encode(format!("{uid}:{}", secret.expose()));
            self.authorizations.extend_from_slice(pair.as_bytes());
        }
        for statement in CHUNK_STATEMENTS {
            let statement = format!("with fleet as ({FLEET}) {statement}");
            sqlx::query(sqlx::AssertSqlSafe(statement))
                .bind(&uids)
                .bind(&digests)
                .bind(now)
                .execute(&mut *connection)
                .await?;
        }
        Ok(())
    }

    /// Syncs, each by another instance, in an order that jumps over the whole fleet. When all have synced it
    /// begins anew with a body of its own, so that no sync is taken for a retry of an earlier one.
    pub(crate) fn syncs(self: &Arc<Self>, asked: Asked) -> Request {
        let fleet = Arc::clone(self);
        let every = ",\"duo_workflow_service\",\"observability_backend\",\"security_gateway\"";
        let more = match asked {
            Asked::OneToken => "",
            Asked::EveryToken => every,
        };
        Arc::new(move |into| {
            let turn = fleet.turn.fetch_add(1, Ordering::Relaxed);
            let round = turn / fleet.size as u64;
            // The stride is prime: a round visits each instance once.
            let index = (turn % fleet.size as u64 * STRIDE % fleet.size as u64) as usize;
            let width = fleet.authorizations.len() / fleet.size;
            let authorization = &fleet.authorizations[index * width..(index + 1) * width];
            // A backend that nobody knows is ignored; it makes the body differ.
            let body = format!(
                "{{\"version\":\"{VERSION}\",\"hostname\":\"{HOSTNAME}\",\"backends\":[\"ai_gateway\"{more},\"round_{round}\"]}}"
            );
            into.extend_from_slice(
                b"POST /v1/sync HTTP/1.1\r\nhost: tokens.example.com\r\nauthorization: Basic ",
            );
            into.extend_from_slice(authorization);
            into.extend_from_slice(b"\r\ncontent-type: application/json\r\ncontent-length: ");
            into.extend_from_slice(body.len().to_string().as_bytes());
            into.extend_from_slice(b"\r\n\r\n");
            into.extend_from_slice(body.as_bytes());
        })
    }
}

/// How many tokens the ledger of a database holds.
pub(crate) async fn ledger_rows(connection: &mut PgConnection) -> Outcome<u64> {
    let rows: i64 = sqlx::query_scalar("select count(*) from issuances").fetch_one(connection).await?;
    Ok(rows.unsigned_abs())
}

/// A version 7 UUID; the instances were activated a second after each other.
fn uid(index: usize, now: DateTime<Utc>) -> Uuid {
    let mut random = [0; 10];
    random.copy_from_slice(&bits("uid", index)[..10]);
    let age = TimeDelta::days(20) - TimeDelta::seconds(i64::try_from(index).unwrap_or_default());
    let millis = (now - age).timestamp_millis().unsigned_abs();
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

fn bits(label: &str, index: usize) -> [u8; 32] {
    Sha256::new().chain_update(label).chain_update(index.to_le_bytes()).finalize().into()
}

const CHUNK: usize = 20_000;
const STRIDE: u64 = 7_368_787;
const HOSTNAME: &str = "gitlab.example.com";
const VERSION: &str = "17.6.1";

const FLEET: &str = "\
select uid, digest, position, $3::timestamptz as now, $3::timestamptz - interval '20 days' as past, \
       $3::timestamptz + interval '345 days' as later \
from unnest($1::uuid[], $2::bytea[]) with ordinality as u (uid, digest, position)";

/// The ids of one instance's records are all its uid: they are in tables of their own.
const CHUNK_STATEMENTS: &[&str] = &[
    "insert into customers (id, name, created_at, updated_at) select uid, 'Example', past, past from fleet",
    "insert into subscriptions (id, customer_id, license_type, starts_at, ends_at, time_zone, seats, trial, \
                                condition_since, created_at, updated_at) \
     select uid, uid, 'premium', past, later, 'UTC', 100, false, past, past, past from fleet",
    "insert into add_on_purchases (id, subscription_id, add_on, quantity, starts_at, ends_at, created_at, updated_at) \
     select uid, uid, case position % 2 when 0 then 'duo_pro' else 'duo_enterprise' end, 100, past, later, past, past \
     from fleet",
    "insert into licenses (id, subscription_id, kind, max_instances, activation_code_digest, created_at, updated_at) \
     select uid, uid, 'online', 10, sha256(digest), past, past from fleet",
    "insert into instances (uid, license_id, instance_id, hostname, version, deployment, kind, state_since, created_at, updated_at) \
     select uid, uid, gen_random_uuid(), 'gitlab.example.com', '17.6.1', 'self_managed', 'production', past, past, past \
     from fleet",
    "insert into instance_credentials (id, instance_uid, digest, origin, created_at) \
     select uid, uid, digest, 'activation', past from fleet",
    "insert into sync_facts (instance_uid, number, facts) \
     select c.instance_uid, c.number, c.facts from fleet f join computed_sync_facts c on c.instance_uid = f.uid",
];
