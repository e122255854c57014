//! `/admin/v1/reports`: what support should look after before a customer calls.

use std::str::FromStr;

use actix_web::HttpResponse;
use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::described::Pages;
use super::desk::Desk;
use super::page::PageView;
use crate::config;
use crate::domain::admin_scope::AdminScope;
use crate::domain::catalog::contracts::{ContractReport, NotSellableReason};
use crate::domain::catalog::{BackendName, Catalog};
use crate::domain::ids::InstanceUid;
use crate::domain::key_ring::FORGET_AFTER;
use crate::domain::sync_rhythm::SyncRhythm;
use crate::http::entitlements::CatalogView;
use crate::http::error::ApiError;
use crate::http::time::WireTime;
use crate::storage::contracts::{self, DeclaredBuild};
use crate::storage::sync_histories::{self, SyncHistory};

/// An instance whose tokens die before it can be expected to sync again.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct AtRiskView {
    instance_uid: uuid::Uuid,
    customer_id: uuid::Uuid,
    subscription_id: uuid::Uuid,
    license_id: uuid::Uuid,
    hostname: String,
    version: String,
    /// When the first of its tokens dies that a sync would keep alive.
    tokens_die_at: WireTime,
    last_sync_at: WireTime,
    /// What usually lies between two of its syncs.
    sync_interval_seconds: i64,
    /// A sync that was due has not come.
    overdue: bool,
    expected_sync_at: WireTime,
}

impl AtRiskView {
    /// The instance, where its tokens die within the time and before its next sync.
    fn of(history: &SyncHistory, now: DateTime<Utc>, within: TimeDelta, usual: TimeDelta) -> Option<Self> {
        let rhythm = SyncRhythm::of(&history.syncs, usual)?;
        let tokens_die_at = history.first_expiry?;
        let expected_sync_at = rhythm.next_sync_at(now);
        rhythm.is_too_slow_for(tokens_die_at, now, within).then(|| Self {
            instance_uid: history.uid.as_uuid(),
            customer_id: history.customer_id.as_uuid(),
            subscription_id: history.subscription_id.as_uuid(),
            license_id: history.license_id.as_uuid(),
            hostname: history.hostname.clone(),
            version: history.version.clone(),
            tokens_die_at: WireTime(tokens_die_at),
            last_sync_at: WireTime(rhythm.last_sync_at()),
            sync_interval_seconds: rhythm.interval().num_seconds(),
            overdue: rhythm.is_overdue(now),
            expected_sync_at: WireTime(expected_sync_at),
        })
    }
}

/// `GET /admin/v1/reports/at-risk?within=24h`
///
/// A page looks at a bounded number of instances: one that shows few, or none, may have another after it.
#[utoipa::path(get, operation_id = "reports_at_risk", path = "/admin/v1/reports/at-risk", tag = "reports", security(("admin_token" = ["fulfillment:read"])),
    params(("within" = inline(Option<String>), Query, nullable = false, description = "How far to look ahead, such as `90m`, `24h` or `7d`; 24 hours where it is missing", example = "24h"), Pages),
    responses((status = 200, description = "A page of the instances whose tokens die before their next expected sync, in the order in which they were first activated", body = PageView<AtRiskView>)))]
pub(crate) async fn at_risk(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::FulfillmentRead).await?;
    let mut query = desk.query();
    let Within(within) = query.parse("within").unwrap_or(Within(TimeDelta::hours(24)));
    let page = desk.page::<InstanceUid>(query)?;
    let (now, usual) = (desk.app.now(), desk.app.sync_interval());
    let looked_at = page.limit.saturating_mul(LOOKED_AT_FOR_EACH);
    let histories = sync_histories::list(&mut *desk.read().await?, page.after, looked_at, now).await?;
    let is_last = i64::try_from(histories.len()).is_ok_and(|found| found < looked_at);
    let limit = usize::try_from(page.limit).map_err(ApiError::fault)?;
    let mut last = None;
    let mut items = Vec::new();
    for history in &histories {
        if items.len() == limit {
            break;
        }
        last = Some(history.uid);
        items.extend(AtRiskView::of(history, now, within, usual));
    }
    let is_complete = is_last && last == histories.last().map(|history| history.uid);
    page.shown(&desk, items, last.filter(|_| !is_complete))
}

/// What the running builds of backends enforce, against what is sold.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ContractsView {
    catalog: CatalogView,
    /// Whether nothing differs. Of what is undeclared nothing is known.
    holds: bool,
    /// Sold, and a backend gives it to anyone.
    enforced_nowhere: Vec<EnforcedNowhereView>,
    /// A backend demands it, and no token for that backend ever says it.
    not_sellable: Vec<NotSellableView>,
    /// Backends that host something and of which no build has told a contract.
    undeclared: Vec<String>,
    builds: Vec<DeclaredBuildView>,
}

/// A unit primitive that is sold and enforced nowhere.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct EnforcedNowhereView {
    unit_primitive: String,
    /// Who hosts it; none: no token names it.
    backends: Vec<String>,
}

/// A unit primitive that a backend enforces in vain.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct NotSellableView {
    unit_primitive: String,
    backend: String,
    /// `backend_unknown`, `hosted_elsewhere`, `renamed` or `unknown`.
    #[schema(value_type = String)]
    reason: NotSellableReason,
    /// What it should probably ask for.
    #[serde(skip_serializing_if = "Option::is_none")]
    instead: Option<String>,
}

/// A build that serves.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct DeclaredBuildView {
    backend: String,
    build: String,
    /// How many processes run it; 0: none of the backend does, and its pipeline spoke for it.
    processes: i64,
    /// The unit primitives of its contract; null: it tells none.
    enforces: Option<Vec<String>>,
}

impl ContractsView {
    fn new(catalog: &Catalog, builds: Vec<DeclaredBuild>) -> Self {
        let report = ContractReport::new(catalog, &contracts::of(&builds));
        let names = |names: &[BackendName]| names.iter().map(ToString::to_string).collect();
        let holds = report.holds();
        let enforced_nowhere = report.enforced_nowhere.iter().map(|entry| EnforcedNowhereView {
            unit_primitive: entry.unit_primitive.to_string(),
            backends: names(&entry.backends),
        });
        let not_sellable = report.not_sellable.iter().map(|entry| NotSellableView {
            unit_primitive: entry.unit_primitive.clone(),
            backend: entry.backend.clone(),
            reason: entry.reason,
            instead: entry.instead.as_ref().map(ToString::to_string),
        });
        let views = builds.into_iter().map(|build| DeclaredBuildView {
            backend: build.backend.to_string(),
            build: build.build,
            processes: build.processes,
            enforces: build.enforces,
        });
        Self {
            catalog: CatalogView { digest: catalog.digest().to_string() },
            holds,
            enforced_nowhere: enforced_nowhere.collect(),
            not_sellable: not_sellable.collect(),
            undeclared: names(&report.undeclared),
            builds: views.collect(),
        }
    }
}

/// `GET /admin/v1/reports/contracts`
#[utoipa::path(get, operation_id = "reports_contracts", path = "/admin/v1/reports/contracts", tag = "reports", security(("admin_token" = ["fulfillment:read"])),
    responses((status = 200, description = "What is sold and enforced nowhere, and what is enforced and not for sale", body = ContractsView)))]
pub(crate) async fn of_contracts(desk: Desk) -> Result<HttpResponse, ApiError> {
    desk.admit(AdminScope::FulfillmentRead).await?;
    desk.query().done()?;
    let heard_since = desk.app.now() - FORGET_AFTER;
    let environment = desk.app.settings.environment.as_str();
    let builds = contracts::list(&mut *desk.read().await?, environment, heard_since).await?;
    let catalog = desk.app.catalog.load();
    Ok(HttpResponse::Ok().json(ContractsView::new(&catalog.catalog, builds)))
}

/// A time to look ahead.
struct Within(TimeDelta);

impl FromStr for Within {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = config::parse_duration(text)?;
        let within = TimeDelta::from_std(parsed).ok().filter(|within| *within <= LONGEST);
        within.map(Self).ok_or_else(|| format!("must be {} days at the most", LONGEST.num_days()))
    }
}

/// No token lives longer.
const LONGEST: TimeDelta = TimeDelta::days(366);
/// How many instances a page looks at for each that it may show.
const LOOKED_AT_FOR_EACH: i64 = 20;
