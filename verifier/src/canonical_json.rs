//! Canonical JSON (RFC 8785) for documents made of strings, integers, booleans, null, arrays and objects.

use serde::Serialize;
use serde_json::Value;

/// Integers that every JSON implementation keeps exactly (RFC 7493 §2.2).
const LARGEST_EXACT: i64 = (1 << 53) - 1;

/// The one spelling of `document`; `None` where it holds a number that is no exact integer.
pub(crate) fn to_bytes<T: Serialize>(document: &T) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(1024);
    write(&serde_json::to_value(document).ok()?, &mut bytes)?;
    Some(bytes)
}

fn write(value: &Value, out: &mut Vec<u8>) -> Option<()> {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(value) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        Value::Number(number) => {
            let integer = number.as_i64().filter(|n| n.unsigned_abs() <= LARGEST_EXACT.unsigned_abs())?;
            out.extend_from_slice(integer.to_string().as_bytes());
        }
        Value::String(text) => write_text(text, out)?,
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out)?;
            }
            out.push(b']');
        }
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            // The order is by UTF-16 code units (RFC 8785 §3.2.3), whichever order the map keeps.
            members.sort_by(|(left, _), (right, _)| left.encode_utf16().cmp(right.encode_utf16()));
            out.push(b'{');
            for (index, (name, value)) in members.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_text(name, out)?;
                out.push(b':');
                write(value, out)?;
            }
            out.push(b'}');
        }
    }
    Some(())
}

/// serde_json escapes exactly what RFC 8785 §3.2.2.2 escapes, and in the same way.
fn write_text(text: &str, out: &mut Vec<u8>) -> Option<()> {
    serde_json::to_writer(out, text).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_sorted_and_nothing_is_spaced() {
        let value = json!({"b": [1, {"z": null, "a": true}], "a": "x", "B": -7});
        assert_eq!(to_bytes(&value).unwrap(), br#"{"B":-7,"a":"x","b":[1,{"a":true,"z":null}]}"#);
    }

    #[test]
    fn members_are_sorted_as_in_rfc_8785_3_2_3() {
        let value = json!({
            "\u{20ac}": "Euro Sign", "\r": "Carriage Return", "\u{fb33}": "Hebrew Letter Dalet With Dagesh",
            "1": "One", "\u{1f600}": "Emoji: Grinning Face", "\u{80}": "Control",
            "\u{f6}": "Latin Small Letter O With Diaeresis"
        });
        let text = String::from_utf8(to_bytes(&value).unwrap()).unwrap();
        let places =
            ["Carriage", "One", "Control", "Latin", "Euro", "Emoji", "Hebrew"].map(|word| text.find(word));
        assert!(places.is_sorted() && places[0].is_some(), "{text}");
    }

    #[test]
    fn strings_are_escaped_as_in_rfc_8785_3_2_2_2() {
        let value = json!("\u{20ac}$\u{f}\nA'B\"\\\"/\u{7f}\u{8}\u{c}\r\t");
        assert_eq!(
            String::from_utf8(to_bytes(&value).unwrap()).unwrap(),
            "\"€$\\u000f\\nA'B\\\"\\\\\\\"/\u{7f}\\b\\f\\r\\t\""
        );
    }

    #[test]
    fn numbers_that_others_would_round_are_refused() {
        for value in [json!(1.5), json!(1e3), json!(u64::MAX), json!((1_i64 << 53)), json!(i64::MIN)] {
            assert_eq!(to_bytes(&value), None, "{value}");
        }
        assert!(to_bytes(&json!(LARGEST_EXACT)).is_some());
    }
}
