//! What most services would do, kept to be compared with: three round trips to the database for each sync.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use actix_web::http::header::AUTHORIZATION;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::TimeDelta;
use sqlx::{Connection, Row};
use token_authority::clock::Clock;
use token_authority::config::Settings;
use token_authority::domain::catalog::{BackendName, Catalog};
use token_authority::domain::credential::{Credential, CredentialKind};
use token_authority::domain::entitlement::decide;
use token_authority::domain::ids::{InstanceId, InstanceUid, Jti};
use token_authority::domain::key_ring::Purpose;
use token_authority::domain::token_plan::{BackendGrants, Bearer, Lifetime, TokenPlan};
use token_authority::keystore::{Keystore, Signer};
use token_authority::storage::{Database, catalogs, facts, issuances, signing_keys};
use uuid::Uuid;

use super::deployment;
use super::outcome::{Fault, Outcome};

struct Naive {
    catalog: Catalog,
    catalog_number: i16,
    clock: Clock,
    database: Database,
    key_number: i16,
    keystore: Keystore,
    scope_sets: Mutex<HashMap<Vec<usize>, i32>>,
    signer: Arc<Signer>,
}

/// Serves until the parent ends it.
pub(crate) async fn serve() -> Outcome<()> {
    let settings = Settings::load(None)?;
    let naive = web::Data::new(Naive::open(&settings).await?);
    let server =
        HttpServer::new(move || App::new().app_data(naive.clone()).route("/v1/sync", web::post().to(sync)))
            .backlog(4096)
            .bind(settings.listen)?;
    Ok(server.run().await?)
}

impl Naive {
    async fn open(settings: &Settings) -> Outcome<Self> {
        let (database, clock) = (deployment::database(settings, 16)?, Clock::system());
        let catalog = deployment::catalog(settings)?;
        let keystore = deployment::keystore(settings, &database).await?;
        let environment = settings.environment.as_str();
        let mut connection = database.connect_for_batches().await?;
        let active = signing_keys::list_active(&mut connection, environment).await?;
        let key = active.iter().find(|key| key.purpose == Purpose::AccessTokens);
        let key = key.ok_or_else(|| Fault::new("no key signs"))?;
        let sealed = signing_keys::find_sealed(&mut connection, environment, &key.kid.to_string()).await?;
        let signer = keystore.unseal_signer(&sealed.ok_or_else(|| Fault::new("no private half"))?)?;
        let mut tx = connection.begin().await?;
        issuances::make_partitions(&mut tx, clock.now()).await?;
        let catalog_number = catalogs::record_active(&mut tx, &catalog, clock.now()).await?;
        tx.commit().await?;
        let key_number = key.number;
        Ok(Self {
            catalog,
            catalog_number,
            clock,
            database,
            key_number,
            keystore,
            scope_sets: Mutex::default(),
            signer,
        })
    }

    async fn sync(
        &self,
        uid: InstanceUid,
        secret: &Credential,
        backends: &[BackendName],
    ) -> Outcome<Vec<u8>> {
        let mut connection = self.database.pool().acquire().await?;

        // 1. The instance and its license.
        let row = sqlx::query(
            "select i.number, i.instance_id from instances i \
             join instance_credentials c on c.instance_uid = i.uid join licenses l on l.id = i.license_id \
             where i.uid = $1 and c.digest = $2 and (c.dies_at is null or c.dies_at > now()) and l.revoked_at is null",
        )
        .bind(uid.as_uuid())
        .bind(self.keystore.digest(secret).to_vec())
        .fetch_one(&mut *connection)
        .await?;
        let (number, instance_id): (i64, InstanceId) = (row.try_get(0)?, row.try_get::<Uuid, _>(1)?.into());

        // 2. What it may use.
        let situation = facts::find_situation(&mut connection, uid).await?;
        let situation = situation.ok_or_else(|| Fault::new("no such instance"))?;
        let now = self.clock.now();
        let decision = decide(&self.catalog, &situation, TimeDelta::days(14), now);
        let lifetime = Lifetime { of_tokens: TimeDelta::hours(8), of_key: now + TimeDelta::days(300) };
        let granted = BackendGrants::of_decision(&self.catalog, &situation, &decision, Some(backends));
        let plans = TokenPlan::of_grants(&granted, lifetime, now);
        let plan = plans.into_iter().next().ok_or_else(|| Fault::new("nothing is granted"))?;

        // 3. The record of its token, durable before it leaves.
        let jti = Jti::generate(now);
        sqlx::query(
            "insert into issuances (jti, instance_number, issued_at, expires_at, sync_digest, seats, scope_set, \
                                    key_number, catalog_number, ends_with_grant) \
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .bind(jti.as_uuid())
        .bind(number)
        .bind(plan.issued_at())
        .bind(plan.expires_at())
        .bind(jti.as_uuid().as_bytes().to_vec())
        .bind(plan.seats().map(|seats| i64::try_from(seats).unwrap_or(i64::MAX)))
        .bind(self.scope_set(&mut connection, &plan).await?)
        .bind(self.key_number)
        .bind(self.catalog_number)
        .bind(plan.ends_with_grant())
        .execute(&mut *connection)
        .await?;

        let expires_at = plan.expires_at();
        let bearer = Bearer {
            issuer: deployment::ISSUER,
            instance_id,
            instance_uid: uid,
            realm: situation.instance.realm.claim(),
        };
        let token = self.signer.sign_compact(&plan.into_payload(&self.catalog, &bearer, jti))?;
        Ok(format!("{{\"token\":\"{token}\",\"expires_at\":\"{}\"}}", expires_at.to_rfc3339()).into_bytes())
    }

    async fn scope_set(&self, connection: &mut sqlx::PgConnection, plan: &TokenPlan) -> Outcome<i32> {
        let known =
            self.scope_sets.lock().unwrap_or_else(PoisonError::into_inner).get(plan.scopes()).copied();
        if let Some(number) = known {
            return Ok(number);
        }
        let backend = &self.catalog.backends()[plan.backend()];
        let primitives = self.catalog.unit_primitives();
        let set = issuances::ScopeSet {
            audience: backend.audience.to_string(),
            backend: backend.name.to_string(),
            scopes: plan.scopes().iter().map(|scope| primitives[*scope].name.to_string()).collect(),
        };
        let number = issuances::insert_scope_set(connection, &set).await?;
        let mut known = self.scope_sets.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(plan.scopes().to_vec(), number);
        Ok(number)
    }
}

#[derive(serde::Deserialize)]
struct Body {
    backends: Vec<String>,
}

async fn sync(naive: web::Data<Naive>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let Some((uid, secret)) = credentials(&request) else { return HttpResponse::Unauthorized().finish() };
    let Ok(body) = serde_json::from_slice::<Body>(&body) else { return HttpResponse::BadRequest().finish() };
    let backends: Vec<BackendName> = body.backends.iter().filter_map(|name| name.parse().ok()).collect();
    match naive.sync(uid, &secret, &backends).await {
        Ok(answer) => HttpResponse::Ok().content_type("application/json").body(answer),
        Err(fault) => HttpResponse::InternalServerError().body(fault.to_string()),
    }
}

fn credentials(request: &HttpRequest) -> Option<(InstanceUid, Credential)> {
    let header = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let pair = STANDARD.decode(header.strip_prefix("Basic ")?).ok()?;
    let (uid, secret) = std::str::from_utf8(&pair).ok()?.split_once(':')?;
    Some((uid.parse().ok()?, Credential::parse(CredentialKind::InstanceSecret, secret)?))
}
