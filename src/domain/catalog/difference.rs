//! What stands in one version of the catalog and not in another, record by record.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Catalog, CatalogDigest};

/// How two versions differ. Everything in it is sorted.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct CatalogDifference {
    pub before: CatalogDigest,
    pub after: CatalogDigest,
    pub added: Vec<CatalogRecord>,
    pub changed: Vec<ChangedRecord>,
    pub removed: Vec<CatalogRecord>,
}

/// A record of the catalog: the folder that its file is in, and its name.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct CatalogRecord {
    /// `unit_primitives`, `add_ons`, …
    pub kind: String,
    pub name: String,
}

/// A record that says something else than before.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ChangedRecord {
    #[serde(flatten)]
    pub record: CatalogRecord,
    pub members: Vec<ChangedMember>,
}

/// One member of it.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ChangedMember {
    pub name: String,
    /// `null`: it was not there.
    pub before: Value,
    /// `null`: it is not there any more.
    pub after: Value,
}

impl CatalogDifference {
    /// What `after` has that `before` had not, and the other way round.
    #[must_use]
    pub fn between(before: &Catalog, after: &Catalog) -> Self {
        let (was, is) = (records(before), records(after));
        let missing = |from: &Records, in_: &Records| {
            from.keys().filter(|record| !in_.contains_key(record)).cloned().collect()
        };
        let changed = was.iter().filter_map(|(record, was)| {
            let members = changed_members(was, is.get(record)?);
            (!members.is_empty()).then(|| ChangedRecord { record: record.clone(), members })
        });
        Self {
            before: before.digest().clone(),
            after: after.digest().clone(),
            added: missing(&is, &was),
            changed: changed.collect(),
            removed: missing(&was, &is),
        }
    }

    /// Whether the two say the same.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

type Records = BTreeMap<CatalogRecord, Map<String, Value>>;

/// The records as the files hold them, which is what the canonical JSON repeats.
fn records(catalog: &Catalog) -> Records {
    let content: Map<String, Value> = serde_json::from_str(catalog.canonical_json()).unwrap_or_default();
    let mut records = Records::new();
    for (kind, of_kind) in content {
        let Value::Array(of_kind) = of_kind else { continue };
        for record in of_kind {
            let Value::Object(members) = record else { continue };
            let name = members.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            records.insert(CatalogRecord { kind: kind.clone(), name }, members);
        }
    }
    records
}

fn changed_members(before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<ChangedMember> {
    let mut names: Vec<_> = before.keys().chain(after.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let member = |name: &String| {
        let of = |record: &Map<String, Value>| record.get(name).cloned().unwrap_or_default();
        let (before, after) = (of(before), of(after));
        (before != after).then(|| ChangedMember { name: name.clone(), before, after })
    };
    names.into_iter().filter_map(member).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn catalog(primitives: Value) -> Catalog {
        let parts = json!({
            "backend_services": [{"name": "ai", "jwt_aud": "a"}],
            "unit_primitives": primitives,
        });
        Catalog::new(serde_json::from_value(parts).unwrap()).unwrap()
    }

    fn primitive(name: &str, cut_off: Option<&str>) -> Value {
        let mut primitive = json!({
            "name": name, "description": "x", "feature_category": "x", "backend_services": ["ai"],
        });
        if let Some(cut_off) = cut_off {
            primitive["cut_off_date"] = json!(cut_off);
        }
        primitive
    }

    #[test]
    fn what_comes_goes_and_changes_is_told_by_record_and_member() {
        let before = catalog(json!([primitive("ask", None), primitive("fly", None)]));
        let after = catalog(json!([primitive("ask", Some("2027-01-01T00:00:00Z")), primitive("swim", None)]));
        let difference = CatalogDifference::between(&before, &after);
        assert_eq!(
            serde_json::to_value(&difference).unwrap(),
            json!({
                "before": before.digest(), "after": after.digest(),
                "added": [{"kind": "unit_primitives", "name": "swim"}],
                "changed": [{
                    "kind": "unit_primitives", "name": "ask",
                    "members": [{"name": "cut_off_date", "before": null, "after": "2027-01-01T00:00:00Z"}],
                }],
                "removed": [{"kind": "unit_primitives", "name": "fly"}],
            })
        );
        assert!(CatalogDifference::between(&after, &after).is_empty());
    }
}
