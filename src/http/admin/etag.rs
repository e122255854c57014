//! Strong entity tags (RFC 9110 §8.8.3) that name one revision of one record.

use sha2::{Digest, Sha256};

use crate::fulfillment::Expected;

/// The tag of a record at a revision. Another record's never equals it.
pub(crate) fn of(kind: &str, id: &str, revision: i64) -> String {
    format!("\"{revision}-{}\"", name(kind, id))
}

/// The revisions of this record among what If-Match lists (RFC 9110 §13.1.1). Weak tags match nothing.
pub(crate) fn expected<'a>(given: impl Iterator<Item = &'a str>, kind: &str, id: &str) -> Expected {
    let name = name(kind, id);
    let mut revisions = Vec::new();
    for tag in given.flat_map(|list| list.split(',')).map(str::trim) {
        if tag == "*" {
            return Expected::Any;
        }
        let bare = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
        let parts = bare.and_then(|bare| bare.split_once('-')).filter(|(_, of)| *of == name);
        revisions.extend(parts.and_then(|(revision, _)| revision.parse::<i64>().ok()));
    }
    Expected::OneOf(revisions)
}

/// A short name of the record.
fn name(kind: &str, id: &str) -> String {
    let digest = Sha256::digest(format!("{kind}/{id}"));
    digest[..NAME_BYTES].iter().map(|byte| format!("{byte:02x}")).collect()
}

const NAME_BYTES: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    fn expect(given: &str) -> Expected {
        expected([given].into_iter(), "customer", "one")
    }

    #[test]
    fn a_tag_names_one_revision_of_one_record() {
        assert_eq!(expect(&of("customer", "one", 3)), Expected::OneOf(vec![3]));
        assert_eq!(expect(&of("customer", "two", 3)), Expected::OneOf(vec![]));
        assert_eq!(expect(&of("license", "one", 3)), Expected::OneOf(vec![]));
    }

    #[test]
    fn a_list_matches_by_any_of_its_tags_and_a_star_by_all() {
        let list = format!("\"other\", {} ,{}", of("customer", "one", 3), of("customer", "one", 4));
        assert_eq!(expect(&list), Expected::OneOf(vec![3, 4]));
        assert_eq!(expect("*"), Expected::Any);
    }

    #[test]
    fn weak_and_broken_tags_match_nothing() {
        let tag = of("customer", "one", 3);
        for given in [format!("W/{tag}"), tag.replace('"', ""), "\"3\"".to_owned(), String::new()] {
            assert_eq!(expect(&given), Expected::OneOf(vec![]), "{given}");
        }
    }
}
