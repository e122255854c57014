//! The catalog that decides: recorded before the first decision by it, replaced as a whole, and told in the audit.

use serde_json::json;

use super::App;
use crate::clock::Clock;
use crate::domain::catalog::Catalog;
use crate::domain::catalog::difference::CatalogDifference;
use crate::domain::ids::AuditEventId;
use crate::issuing::LoadedCatalog;
use crate::storage::audit_events::{self, NewAuditEvent};
use crate::storage::{Database, StorageError, catalogs, fences};

/// Who changed it, where it was read when the service started.
pub(super) const AT_START: &str = "service:start";

impl App {
    /// From the next batch on, this catalog decides. Returns how it differs from the one that decided here until now;
    /// `None` if it is the same.
    ///
    /// # Errors
    /// The database cannot be written: then nothing has changed.
    pub async fn change_catalog(
        &self,
        catalog: Catalog,
        actor: &str,
    ) -> Result<Option<CatalogDifference>, StorageError> {
        let current = self.catalog.load();
        if current.catalog.digest() == catalog.digest() {
            return Ok(None);
        }
        let difference = CatalogDifference::between(&current.catalog, &catalog);
        let number = record(&self.database, &self.clock, &catalog, actor).await?;
        self.catalog.replace(LoadedCatalog { catalog, number });
        tell(&difference);
        Ok(Some(difference))
    }
}

/// Stores a catalog, says that it decides from now on, and what that changes. Returns its number.
///
/// The first of several replicas to come with it leaves the row in the audit. The first catalog of a deployment changes
/// nothing.
pub(super) async fn record(
    database: &Database,
    clock: &Clock,
    catalog: &Catalog,
    actor: &str,
) -> Result<i16, StorageError> {
    let mut tx = database.begin().await?;
    let now = clock.settle(fences::find_now(&mut tx).await?);
    let number = catalogs::insert_if_new(&mut tx, catalog, now).await?;
    let before = catalogs::find_newest_active(&mut tx).await?;
    let is_change = catalogs::insert_activation(&mut tx, catalog.digest(), now).await?;
    if let Some(before) = before.filter(|_| is_change) {
        let CatalogDifference { before, after, added, changed, removed } =
            CatalogDifference::between(&before, catalog);
        let row = NewAuditEvent {
            id: AuditEventId::generate(now),
            at: now,
            actor,
            action: "catalog.activate",
            subject_kind: "catalog",
            subject_id: catalog.digest().as_str(),
            reason: None,
            before: Some(json!({ "digest": before })),
            after: Some(json!({ "digest": after, "added": added, "changed": changed, "removed": removed })),
            request_id: None,
        };
        audit_events::insert(&mut tx, &row).await?;
    }
    tx.commit().await?;
    Ok(number)
}

fn tell(difference: &CatalogDifference) {
    let CatalogDifference { after, added, changed, removed, .. } = difference;
    tracing::info!(
        catalog.digest = %after,
        "the catalog was replaced: {} records added, {} changed, {} removed",
        added.len(), changed.len(), removed.len()
    );
    for record in added {
        tracing::info!(catalog.digest = %after, "catalog: {}/{} was added", record.kind, record.name);
    }
    for record in removed {
        tracing::info!(catalog.digest = %after, "catalog: {}/{} was removed", record.kind, record.name);
    }
    for changed in changed {
        let record = &changed.record;
        let members: Vec<String> = changed
            .members
            .iter()
            .map(|member| format!("{}: {} -> {}", member.name, member.before, member.after))
            .collect();
        tracing::info!(
            catalog.digest = %after,
            "catalog: {}/{} changed: {}", record.kind, record.name, members.join(", ")
        );
    }
}
