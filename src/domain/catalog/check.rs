//! Checks the records of a catalog, each by itself and against each other; collects every problem.

use std::collections::{BTreeMap, BTreeSet};

use super::names::MAX_LENGTH as MAX_NAME_LENGTH;
use super::problem::{Problem, ProblemCode, Site};
use super::records::{CatalogParts, RecordKind, Service, UnitPrimitive};

/// At most this many records of a kind.
pub const MAX_RECORDS: usize = 2_000;
/// At most this many entries of a list in a record.
pub const MAX_ITEMS: usize = 200;
/// At most this many characters in a description or message.
pub const MAX_TEXT: usize = 1_000;
/// At most this many characters in an audience.
pub const MAX_AUDIENCE: usize = 255;

/// Names of records that exist besides those in the parts, so that a link to them is no problem: files that
/// could not be read have told their own.
pub type UnreadNames = BTreeSet<(RecordKind, String)>;

/// Every problem of these records, by kind and record, in the order of the fields.
#[must_use]
pub fn problems(parts: &CatalogParts, unread: &UnreadNames) -> Vec<Problem> {
    let mut check = Check { names: Names::of(parts, unread), problems: Vec::new() };
    check.counts(parts);
    check.unique_names(parts);
    check.audiences(parts);
    check.aliases(&parts.unit_primitives);
    for add_on in &parts.add_ons {
        let record = Record { kind: RecordKind::AddOn, name: add_on.name.as_str() };
        check.optional_text(record, "description", add_on.description.as_deref());
    }
    for backend in &parts.backends {
        let record = Record { kind: RecordKind::Backend, name: backend.name.as_str() };
        check.optional_text(record, "group", backend.group.as_deref());
        check.optional_text(record, "description", backend.description.as_deref());
    }
    for license_type in &parts.license_types {
        let record = Record { kind: RecordKind::LicenseType, name: license_type.name.as_str() };
        check.optional_text(record, "description", license_type.description.as_deref());
    }
    for service in &parts.services {
        check.service(service);
    }
    for primitive in &parts.unit_primitives {
        check.unit_primitive(primitive);
    }
    check.problems.sort_by(|a, b| (a.site.kind, &a.site.record).cmp(&(b.site.kind, &b.site.record)));
    check.problems
}

#[derive(Clone, Copy)]
struct Record<'a> {
    kind: RecordKind,
    name: &'a str,
}

struct Check<'a> {
    names: Names<'a>,
    problems: Vec<Problem>,
}

impl<'a> Check<'a> {
    fn report(
        &mut self,
        record: Record<'_>,
        field: &'static str,
        item: Option<usize>,
        code: ProblemCode,
        detail: impl Into<String>,
    ) {
        let site = Site { kind: record.kind, record: record.name.to_owned(), field, item };
        self.problems.push(Problem { site, code, detail: detail.into() });
    }

    fn counts(&mut self, parts: &CatalogParts) {
        for kind in RecordKind::ALL {
            let names = names_of(parts, kind);
            if let Some(name) = names.get(MAX_RECORDS) {
                let detail =
                    format!("there are {} of this kind, at most {MAX_RECORDS} are allowed", names.len());
                self.report(Record { kind, name }, "name", None, ProblemCode::TooMany, detail);
            }
        }
    }

    fn unique_names(&mut self, parts: &CatalogParts) {
        for kind in RecordKind::ALL {
            let mut seen = BTreeSet::new();
            for name in names_of(parts, kind) {
                if !seen.insert(name) {
                    let detail = format!("another {} has this name", kind.noun());
                    self.report(Record { kind, name }, "name", None, ProblemCode::DuplicateName, detail);
                }
            }
        }
    }

    fn audiences(&mut self, parts: &CatalogParts) {
        let mut holders = BTreeMap::new();
        for backend in &parts.backends {
            let record = Record { kind: RecordKind::Backend, name: backend.name.as_str() };
            let audience = backend.audience.as_str();
            if audience.is_empty()
                || audience.len() > MAX_AUDIENCE
                || !audience.bytes().all(|byte| byte.is_ascii_graphic())
            {
                let detail = format!("an audience has 1 to {MAX_AUDIENCE} visible ASCII characters");
                self.report(record, "jwt_aud", None, ProblemCode::InvalidAudience, detail);
            } else if let Some(holder) = holders.insert(audience, record.name) {
                let detail =
                    format!("{holder} has this audience: tokens for one backend would pass at the other");
                self.report(record, "jwt_aud", None, ProblemCode::DuplicateAudience, detail);
            }
        }
    }

    fn aliases(&mut self, primitives: &'a [UnitPrimitive]) {
        let mut holders: BTreeMap<&str, &str> =
            primitives.iter().map(|primitive| (primitive.name.as_str(), primitive.name.as_str())).collect();
        for primitive in primitives {
            let record = Record { kind: RecordKind::UnitPrimitive, name: primitive.name.as_str() };
            for (item, alias) in primitive.alias_names.iter().enumerate() {
                let holder = *holders.entry(alias.as_str()).or_insert(record.name);
                let detail = if alias == &primitive.name {
                    "this is the record's own name".to_owned()
                } else if alias.as_str() == holder {
                    format!("{alias} is the name of a unit primitive")
                } else if holder != record.name {
                    format!("{alias} is an alias of {holder} too")
                } else {
                    continue;
                };
                self.report(record, "alias_names", Some(item), ProblemCode::AmbiguousAlias, detail);
            }
        }
    }

    fn service(&mut self, service: &Service) {
        let record = Record { kind: RecordKind::Service, name: service.name.as_str() };
        if let Some(basic) = &service.basic_unit_primitive {
            self.link(record, "basic_unit_primitive", None, RecordKind::UnitPrimitive, basic.as_str());
            if !service.unit_primitives.contains(basic) {
                let detail = format!("{basic} is not among the service's unit_primitives");
                self.report(record, "basic_unit_primitive", None, ProblemCode::BasicNotInService, detail);
            }
        }
        self.list(record, "gitlab_realm", &service.realms);
        self.filled(record, "gitlab_realm", &service.realms);
        self.optional_text(record, "description", service.description.as_deref());
        self.links(record, "unit_primitives", RecordKind::UnitPrimitive, &service.unit_primitives);
        self.filled(record, "unit_primitives", &service.unit_primitives);
    }

    fn unit_primitive(&mut self, primitive: &UnitPrimitive) {
        let record = Record { kind: RecordKind::UnitPrimitive, name: primitive.name.as_str() };
        self.text(record, "description", &primitive.description);
        self.optional_text(record, "group", primitive.group.as_deref());
        self.text(record, "feature_category", &primitive.feature_category);
        self.optional_text(record, "deprecation_message", primitive.deprecation_message.as_deref());
        self.list(record, "alias_names", &primitive.alias_names);
        self.links(record, "license_types", RecordKind::LicenseType, &primitive.license_types);
        self.links(record, "backend_services", RecordKind::Backend, &primitive.backend_services);
        self.links(record, "add_ons", RecordKind::AddOn, &primitive.add_ons);
    }

    fn links<T: AsRef<str> + Ord>(
        &mut self,
        record: Record<'_>,
        field: &'static str,
        to: RecordKind,
        list: &[T],
    ) {
        self.list(record, field, list);
        for (item, name) in list.iter().enumerate() {
            self.link(record, field, Some(item), to, name.as_ref());
        }
    }

    fn link(
        &mut self,
        record: Record<'_>,
        field: &'static str,
        item: Option<usize>,
        to: RecordKind,
        name: &str,
    ) {
        if self.names.contains(to, name) {
            return;
        }
        let mut detail = format!("there is no {} {name}", to.noun());
        if let Some(near) = nearest(name, self.names.all(to)) {
            detail.push_str(&format!("; did you mean {near}?"));
        }
        self.report(record, field, item, ProblemCode::UnknownLink, detail);
    }

    /// A list's length, and that nothing is in it twice.
    fn list<T: Ord>(&mut self, record: Record<'_>, field: &'static str, list: &[T]) {
        if list.len() > MAX_ITEMS {
            let detail = format!("there are {} entries, at most {MAX_ITEMS} are allowed", list.len());
            self.report(record, field, Some(MAX_ITEMS), ProblemCode::TooMany, detail);
        }
        let mut seen = BTreeSet::new();
        for (item, entry) in list.iter().enumerate() {
            if !seen.insert(entry) {
                self.report(
                    record,
                    field,
                    Some(item),
                    ProblemCode::DuplicateItem,
                    "this is in the list twice",
                );
            }
        }
    }

    fn filled<T>(&mut self, record: Record<'_>, field: &'static str, list: &[T]) {
        if list.is_empty() {
            self.report(record, field, None, ProblemCode::EmptyList, "the list names nothing");
        }
    }

    fn optional_text(&mut self, record: Record<'_>, field: &'static str, text: Option<&str>) {
        if let Some(text) = text {
            self.text(record, field, text);
        }
    }

    fn text(&mut self, record: Record<'_>, field: &'static str, text: &str) {
        let detail = if text.trim().is_empty() {
            "the text is empty".to_owned()
        } else if text.chars().count() > MAX_TEXT {
            format!("a text has at most {MAX_TEXT} characters")
        } else if text.trim_end().chars().any(|c| c.is_control() && c != '\n') {
            "the text holds control characters".to_owned()
        } else {
            return;
        };
        self.report(record, field, None, ProblemCode::InvalidText, detail);
    }
}

/// The names that links may lead to.
struct Names<'a> {
    read: BTreeMap<RecordKind, BTreeSet<&'a str>>,
    unread: &'a UnreadNames,
}

impl<'a> Names<'a> {
    fn of(parts: &'a CatalogParts, unread: &'a UnreadNames) -> Self {
        let read = RecordKind::ALL.map(|kind| (kind, names_of(parts, kind).into_iter().collect())).into();
        Self { read, unread }
    }

    fn contains(&self, kind: RecordKind, name: &str) -> bool {
        self.read.get(&kind).is_some_and(|names| names.contains(name))
            || self.unread.contains(&(kind, name.to_owned()))
    }

    fn all(&self, kind: RecordKind) -> impl Iterator<Item = &'a str> + '_ {
        self.read.get(&kind).into_iter().flatten().copied()
    }
}

fn names_of(parts: &CatalogParts, kind: RecordKind) -> Vec<&str> {
    match kind {
        RecordKind::AddOn => parts.add_ons.iter().map(|record| record.name.as_str()).collect(),
        RecordKind::Backend => parts.backends.iter().map(|record| record.name.as_str()).collect(),
        RecordKind::LicenseType => parts.license_types.iter().map(|record| record.name.as_str()).collect(),
        RecordKind::Service => parts.services.iter().map(|record| record.name.as_str()).collect(),
        RecordKind::UnitPrimitive => {
            parts.unit_primitives.iter().map(|record| record.name.as_str()).collect()
        }
    }
}

/// The candidate that a mistyped word most likely meant: at most a third of its characters differ, or it is
/// the beginning of it.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if word.is_empty() || word.len() > MAX_NAME_LENGTH {
        return None;
    }
    candidates
        .map(|candidate| (if candidate.starts_with(word) { 1 } else { distance(word, candidate) }, candidate))
        .filter(|(distance, candidate)| distance * 3 <= candidate.len().max(word.len()))
        .min()
        .map(|(_, candidate)| candidate)
}

/// The fewest insertions, deletions, replacements and swaps of neighbors that turn one word into the other
/// (optimal string alignment, on bytes).
fn distance(a: &str, b: &str) -> usize {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    let mut before_last = vec![0; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            row[j] = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                row[j] = row[j].min(before_last[j - 2] + 1);
            }
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_word_finds_what_it_meant_and_a_strange_one_nothing() {
        let words = ["add_ons", "alias_names", "description", "name"];
        assert_eq!(nearest("addons", words.into_iter()), Some("add_ons"));
        assert_eq!(nearest("desciption", words.into_iter()), Some("description"));
        assert_eq!(nearest("desc", words.into_iter()), Some("description"));
        assert_eq!(nearest("price", words.into_iter()), None);
        assert_eq!(nearest("", words.into_iter()), None);
    }

    #[test]
    fn distance_counts_single_changes() {
        for (a, b, expected) in [
            ("", "", 0),
            ("abc", "", 3),
            ("abc", "axc", 1),
            ("abc", "bc", 1),
            ("ab", "ba", 1),
            ("por", "core", 2),
        ] {
            assert_eq!(distance(a, b), expected, "{a} {b}");
        }
    }
}
