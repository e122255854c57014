//! Remembers the numbers under which the ledger keeps scope sets.

use std::collections::HashMap;

use sqlx::PgConnection;

use super::LoadedCatalog;
use crate::domain::token_plan::TokenPlan;
use crate::storage::StorageError;
use crate::storage::issuances::{self, ScopeSet};

/// The scope sets that one lane has met. A number never changes once it is durable.
#[derive(Debug, Default)]
pub(super) struct ScopeSets {
    /// By catalog and backend, then by scopes: a set is looked up without a copy.
    durable: HashMap<Place, HashMap<Vec<usize>, i32>>,
    /// Of the batch that is under way: they count when it commits.
    fresh: Vec<(Place, Vec<usize>, i32)>,
}

/// Catalog, backend, and the other backends of a joint token.
type Place = (i16, usize, Vec<usize>);

/// Beyond this many the memory starts anew: one entry is some hundred bytes.
const MOST: usize = 16_384;

impl ScopeSets {
    /// The number of what a plan grants; made where it is new.
    pub(super) async fn number(
        &mut self,
        connection: &mut PgConnection,
        catalog: &LoadedCatalog,
        plan: &TokenPlan,
    ) -> Result<i32, StorageError> {
        let place = (catalog.number, plan.backend(), plan.joined().to_vec());
        if let Some(number) = self.durable.get(&place).and_then(|sets| sets.get(plan.scopes())) {
            return Ok(*number);
        }
        let fresh = self.fresh.iter().find(|(at, scopes, _)| *at == place && scopes == plan.scopes());
        if let Some((_, _, number)) = fresh {
            return Ok(*number);
        }
        let backends: Vec<_> = plan.backends().map(|backend| &catalog.catalog.backends()[backend]).collect();
        let together = |texts: Vec<&str>| texts.join(" ");
        let primitives = catalog.catalog.unit_primitives();
        let set = ScopeSet {
            audience: together(backends.iter().map(|backend| backend.audience.as_str()).collect()),
            backend: together(backends.iter().map(|backend| backend.name.as_str()).collect()),
            scopes: plan.scopes().iter().map(|scope| primitives[*scope].name.to_string()).collect(),
        };
        let number = issuances::insert_scope_set(connection, &set).await?;
        self.fresh.push((place, plan.scopes().to_vec(), number));
        Ok(number)
    }

    /// The batch has committed: what it made is durable.
    pub(super) fn keep(&mut self) {
        if self.durable.values().map(HashMap::len).sum::<usize>() > MOST {
            self.durable.clear();
        }
        for (place, scopes, number) in self.fresh.drain(..) {
            self.durable.entry(place).or_default().insert(scopes, number);
        }
    }

    /// The batch came to nothing, and so did what it made.
    pub(super) fn forget(&mut self) {
        self.fresh.clear();
    }
}
