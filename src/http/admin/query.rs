//! The parameters of a query: each is taken by its name, and what is left over is refused.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use url::form_urlencoded;

use super::page::Page;
use crate::http::error::ApiError;
use crate::http::parameters::Invalid;
use crate::keystore::Keystore;

/// The parameters of one request that were not taken yet.
#[derive(Debug)]
pub(crate) struct Query {
    given: Vec<(String, String)>,
    taken: Vec<(&'static str, String)>,
    invalid: Invalid,
}

impl Query {
    /// Reads a query string.
    pub(crate) fn of(query: &str) -> Self {
        let given = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Self { given, taken: Vec::new(), invalid: Invalid::default() }
    }

    /// A bounded text.
    pub(crate) fn text(&mut self, name: &'static str) -> Option<String> {
        let text = self.take(name)?;
        self.invalid.text(&pointer(name), text, MOST_CHARACTERS)
    }

    /// A value that its text names.
    pub(crate) fn parse<T>(&mut self, name: &'static str) -> Option<T>
    where
        T: FromStr,
        T::Err: std::fmt::Display,
    {
        let text = self.take(name)?;
        self.invalid.parse(&pointer(name), &text)
    }

    /// An instant.
    pub(crate) fn instant(&mut self, name: &'static str) -> Option<DateTime<Utc>> {
        let text = self.take(name)?;
        self.invalid.instant(&pointer(name), &text)
    }

    /// `true` or `false`; `false` where it is missing.
    pub(crate) fn flag(&mut self, name: &'static str) -> bool {
        self.parse(name).unwrap_or(false)
    }

    /// How many items are asked for, within the bounds of every list.
    pub(crate) fn limit(&mut self) -> i64 {
        let limit = self.parse("limit").unwrap_or(DEFAULT_LIMIT);
        if !(1..=MOST_ITEMS).contains(&limit) {
            self.invalid.add("?limit", "out_of_range", format!("must be between 1 and {MOST_ITEMS}"));
        }
        limit
    }

    /// A cursor of the feed of events.
    pub(crate) fn cursor(&mut self, name: &'static str) -> Option<u64> {
        let text = self.take(name)?;
        self.invalid.cursor(&pointer(name), &text)
    }

    /// Passes when every parameter was taken and none was wrong.
    ///
    /// # Errors
    /// 422 with every unknown, repeated and wrong parameter.
    pub(crate) fn done(mut self) -> Result<(), ApiError> {
        self.refuse_rest();
        self.invalid.done()
    }

    /// Takes `limit` and `page_token`. All filters were taken before: a page token holds for the same ones only.
    ///
    /// # Errors
    /// As [`Query::done`], and for a token that is not ours, or was made for another list.
    pub(crate) fn page<C: FromStr>(mut self, path: &str, keystore: &Keystore) -> Result<Page<C>, ApiError> {
        let belongs_to = self.belongs_to(path);
        let limit = self.limit();
        let after = self.take("page_token").map(|token| Page::open(keystore, &belongs_to, &token));
        if let Some(None) = after {
            let detail = "is no page token of this list with these filters; start again without one";
            self.invalid.add("?page_token", "invalid", detail);
        }
        self.done()?;
        Ok(Page { after: after.flatten(), limit, belongs_to })
    }

    fn take(&mut self, name: &'static str) -> Option<String> {
        let at = self.given.iter().position(|(given, _)| given == name)?;
        let (_, value) = self.given.remove(at);
        self.taken.push((name, value.clone()));
        Some(value)
    }

    fn refuse_rest(&mut self) {
        for (name, _) in std::mem::take(&mut self.given) {
            let taken = self.taken.iter().any(|(taken, _)| *taken == name);
            let (code, detail) = match taken {
                true => ("repeated", "may be given once"),
                false => ("unknown_parameter", "is no parameter of this resource"),
            };
            self.invalid.add(&pointer(&name), code, detail);
        }
    }

    /// What a page token is bound to: the list and its filters, in whatever order they came.
    fn belongs_to(&self, path: &str) -> Vec<u8> {
        let mut taken = self.taken.clone();
        taken.sort_unstable();
        let parts = taken.iter().flat_map(|(name, value)| [*name, value.as_str()]);
        let mut bound = b"page".to_vec();
        for part in [path].into_iter().chain(parts) {
            bound.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bound.extend_from_slice(part.as_bytes());
        }
        bound
    }
}

fn pointer(name: &str) -> String {
    format!("?{name}")
}

const DEFAULT_LIMIT: i64 = 100;
const MOST_ITEMS: i64 = 1000;
const MOST_CHARACTERS: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_taken_is_refused() {
        let mut query = Query::of("state=active&stat=active&state=blocked");
        assert_eq!(query.text("state").as_deref(), Some("active"));
        let refusal = query.done().unwrap_err();
        assert_eq!(refusal.to_string(), "invalid_parameters: 2 values are wrong.");
    }

    #[test]
    fn percent_signs_and_pluses_are_decoded() {
        let mut query = Query::of("external_ref=a%2Fb+c");
        assert_eq!(query.text("external_ref").as_deref(), Some("a/b c"));
        assert!(query.done().is_ok());
    }

    #[test]
    fn a_page_belongs_to_its_list_and_filters_in_any_order() {
        let bound = |path: &str, text: &str, names: [&'static str; 2]| {
            let mut query = Query::of(text);
            for name in names {
                query.text(name);
            }
            query.belongs_to(path)
        };
        assert_eq!(bound("/a", "x=1&y=2", ["x", "y"]), bound("/a", "y=2&x=1", ["y", "x"]));
        assert_ne!(bound("/a", "x=1&y=2", ["x", "y"]), bound("/b", "x=1&y=2", ["x", "y"]));
        assert_ne!(bound("/a", "x=1&y=2", ["x", "y"]), bound("/a", "x=1&y=3", ["x", "y"]));
        assert_ne!(bound("/a", "x=1", ["x", "y"]), bound("/a", "y=1", ["x", "y"]));
    }
}
