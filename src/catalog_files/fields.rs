//! Reads a record's fields one by one and collects what is wrong with them, each with its position.

use std::collections::BTreeMap;
use std::fmt::Display;

use chrono::{DateTime, NaiveDateTime, Utc};

use super::problem::{Position, codes};
use super::yaml::{Entry, Node, Value};
use crate::domain::catalog::check::{MAX_ITEMS, nearest};
use crate::domain::catalog::{AddOnName, BackendName, HttpUrl, LicenseTypeName, Realm, UnitPrimitiveName};
use crate::domain::version::Version;

/// What a field's text is turned into.
pub(super) trait FieldValue: Sized {
    /// The code of a text that is none.
    const CODE: &'static str;

    /// Refuses with a sentence.
    fn parse(text: &str) -> Result<Self, String>;
}

/// Gives types that read themselves the code of their refusal.
macro_rules! field_values {
    ($($type:ty => $code:ident,)*) => {$(
        impl FieldValue for $type {
            const CODE: &'static str = codes::$code;

            fn parse(text: &str) -> Result<Self, String> {
                told(text.parse())
            }
        }
    )*};
}

field_values! {
    AddOnName => INVALID_NAME,
    BackendName => INVALID_NAME,
    HttpUrl => INVALID_LINK,
    LicenseTypeName => INVALID_NAME,
    Realm => INVALID_REALM,
    String => WRONG_TYPE,
    UnitPrimitiveName => INVALID_NAME,
    Version => INVALID_VERSION,
}

impl FieldValue for DateTime<Utc> {
    const CODE: &'static str = codes::INVALID_TIME;

    /// An instant in UTC, as `2024-02-15T00:00:00Z` or `2024-02-15 00:00:00 UTC`. A bare date is refused:
    /// it does not say where its day begins.
    fn parse(text: &str) -> Result<Self, String> {
        let zoned = text.strip_suffix('Z').or_else(|| text.strip_suffix("+00:00"));
        let local = match zoned {
            Some(local) => NaiveDateTime::parse_from_str(local, "%Y-%m-%dT%H:%M:%S"),
            None => NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S UTC"),
        };
        local
            .map(|local| local.and_utc())
            .map_err(|_| "an instant is written in UTC, like 2024-02-15T00:00:00Z".to_owned())
    }
}

fn told<T, E: Display>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|error| error.to_string())
}

/// Something wrong within one file.
#[derive(Debug)]
pub(super) struct FieldProblem {
    pub(super) position: Position,
    pub(super) field: String,
    pub(super) code: &'static str,
    pub(super) detail: String,
}

/// Where a value stands, and what its field is called there.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) position: Position,
    pub(super) field: String,
}

/// Where each field that was read stands, and each item of a list, counted without those that were refused.
pub(super) type Places = BTreeMap<(&'static str, Option<usize>), Place>;

/// The fields of one record that have not been read yet.
#[derive(Debug)]
pub(super) struct Fields {
    start: Position,
    entries: Vec<Entry>,
    known: Vec<&'static str>,
    places: Places,
    problems: Vec<FieldProblem>,
}

impl Fields {
    /// The members of a mapping that starts at `start`.
    pub(super) fn new(start: Position, entries: Vec<Entry>) -> Self {
        Self { start, entries, known: Vec::new(), places: Places::new(), problems: Vec::new() }
    }

    /// The record's name must be there, and be its file's.
    pub(super) fn name_of_file(&mut self, stem: &str) {
        let Some(name) = self.required::<String>("name") else { return };
        if name != stem {
            let position = self.places.get(&("name", None)).map_or(self.start, |place| place.position);
            let detail = format!("the record's name must be that of its file, {stem}");
            self.report(position, "name".to_owned(), codes::NAME_NOT_FILE, detail);
        }
    }

    /// A field that must be there.
    pub(super) fn required<T: FieldValue>(&mut self, field: &'static str) -> Option<T> {
        let node = self.required_node(field)?;
        self.text(field, node)
    }

    /// A field that may be missing, or hold nothing.
    pub(super) fn optional<T: FieldValue>(&mut self, field: &'static str) -> Option<T> {
        let node = self.take(field)?;
        self.text(field, node)
    }

    /// A list that may be missing, or hold nothing: then it is empty.
    pub(super) fn list<T: FieldValue>(&mut self, field: &'static str) -> Vec<T> {
        self.take(field).map_or_else(Vec::new, |node| self.items(field, node))
    }

    /// A list that must be there.
    pub(super) fn required_list<T: FieldValue>(&mut self, field: &'static str) -> Vec<T> {
        self.required_node(field).map_or_else(Vec::new, |node| self.items(field, node))
    }

    /// Reports what is left over: fields that do not exist, and repeated ones. Returns all findings.
    pub(super) fn finish(mut self) -> (Places, Vec<FieldProblem>) {
        for entry in std::mem::take(&mut self.entries) {
            let field = printable(&entry.key);
            if self.known.contains(&entry.key.as_str()) {
                let detail = "this field is in the file twice".to_owned();
                self.report(entry.position, field, codes::DUPLICATE_FIELD, detail);
                continue;
            }
            let mut detail = "there is no such field".to_owned();
            if let Some(near) = nearest(&entry.key, self.known.iter().copied()) {
                detail.push_str(&format!("; did you mean {near}?"));
            }
            self.report(entry.position, field, codes::UNKNOWN_FIELD, detail);
        }
        (self.places, self.problems)
    }

    fn required_node(&mut self, field: &'static str) -> Option<Node> {
        let node = self.take(field);
        if node.is_none() {
            let position = self.places.get(&(field, None)).map_or(self.start, |place| place.position);
            let detail = "this field must be there and hold something".to_owned();
            self.report(position, field.to_owned(), codes::MISSING_FIELD, detail);
        }
        node
    }

    /// The first value of this name, unless it holds nothing. Later ones stay, as duplicates.
    fn take(&mut self, field: &'static str) -> Option<Node> {
        self.known.push(field);
        let index = self.entries.iter().position(|entry| entry.key == field)?;
        let entry = self.entries.remove(index);
        let is_null = matches!(entry.value.value, Value::Null);
        let position = if is_null { entry.position } else { entry.value.position };
        self.places.insert((field, None), Place { position, field: field.to_owned() });
        (!is_null).then_some(entry.value)
    }

    fn items<T: FieldValue>(&mut self, field: &'static str, node: Node) -> Vec<T> {
        let Value::List(items) = node.value else {
            let detail = format!("this field holds a list, not {}", node.value.kind());
            self.report(node.position, field.to_owned(), codes::WRONG_TYPE, detail);
            return Vec::new();
        };
        let mut values = Vec::new();
        // The check of the records tells that a list is too long: one item too many is enough for it.
        for (item, node) in items.into_iter().enumerate().take(MAX_ITEMS + 1) {
            let place = Place { position: node.position, field: format!("{field}[{item}]") };
            if let Some(value) = self.text(&place.field, node) {
                self.places.insert((field, Some(values.len())), place);
                values.push(value);
            }
        }
        values
    }

    fn text<T: FieldValue>(&mut self, field: &str, node: Node) -> Option<T> {
        let (code, detail) = match node.value {
            Value::Text(text) => match T::parse(&text) {
                Ok(value) => return Some(value),
                Err(detail) => (T::CODE, detail),
            },
            other => (codes::WRONG_TYPE, format!("this holds a text, not {}", other.kind())),
        };
        self.report(node.position, field.to_owned(), code, detail);
        None
    }

    fn report(&mut self, position: Position, field: String, code: &'static str, detail: String) {
        self.problems.push(FieldProblem { position, field, code, detail });
    }
}

/// A field's name as it may be printed: something, short, and without control characters.
fn printable(name: &str) -> String {
    if name.is_empty() {
        return "\"\"".to_owned();
    }
    const LONGEST: usize = 64;
    let escaped: String = name.escape_debug().take(LONGEST).collect();
    if escaped.chars().count() == LONGEST { format!("{escaped}…") } else { escaped }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_is_written_in_utc() {
        let expected = "2024-02-15T00:00:00Z".parse::<DateTime<Utc>>().unwrap();
        for text in ["2024-02-15T00:00:00Z", "2024-02-15T00:00:00+00:00", "2024-02-15 00:00:00 UTC"] {
            assert_eq!(<DateTime<Utc> as FieldValue>::parse(text), Ok(expected), "{text}");
        }
        for text in [
            "2024-02-15",
            "2024-02-15T00:00:00",
            "2024-02-15T00:00:00+01:00",
            "2024-13-01T00:00:00Z",
            "soon",
            "",
        ] {
            assert!(<DateTime<Utc> as FieldValue>::parse(text).is_err(), "{text}");
        }
    }
}
