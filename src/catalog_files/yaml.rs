//! Reads one YAML document into a tree that keeps the position of everything, and every scalar as it is
//! written: `17.10` is a version here, not the number 17.1.
//!
//! Deserializing into a struct would stop at a file's first mistake. The tree lets all of them be told at once.

use serde_saphyr::granit_parser::{self, Event, Marker, Parser, ScalarStyle, ScanError, Span};

use super::problem::{Position, codes};

/// One value and where it starts.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) position: Position,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Nothing, `~` or `null`.
    Null,
    Text(String),
}

impl Value {
    /// What it is, in words.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
            Self::Null => "nothing",
            Self::Text(_) => "a text",
        }
    }
}

/// One member of a mapping. Members may repeat: whoever reads them tells so.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) position: Position,
    pub(super) value: Node,
}

/// Why there is no tree.
#[derive(Debug)]
pub(super) struct YamlError {
    pub(super) position: Position,
    pub(super) code: &'static str,
    pub(super) detail: String,
}

impl YamlError {
    fn unsupported(span: Span, what: &str) -> Self {
        let detail = format!("{what} not used in catalog files; write the value out");
        Self { position: position(span.start), code: codes::UNSUPPORTED_YAML, detail }
    }
}

impl From<ScanError> for YamlError {
    fn from(error: ScanError) -> Self {
        let detail = format!("this is not YAML: {}", error.info());
        Self { position: position(*error.marker()), code: codes::SYNTAX, detail }
    }
}

/// Records are two levels deep.
const MAX_DEPTH: usize = 8;

/// The only document of a file. A file that holds nothing is [`Value::Null`].
pub(super) fn parse(text: &str) -> Result<Node, YamlError> {
    let options = granit_parser::options! {
        block_nesting_limit: MAX_DEPTH,
        emit_comments: false,
        flow_nesting_limit: MAX_DEPTH,
    };
    let mut events = Parser::new_from_str_with_options(text, options);
    let mut document = None;
    while let Some(event) = events.next() {
        let (event, span) = event?;
        match event {
            Event::StreamStart | Event::DocumentEnd | Event::StreamEnd => {}
            Event::DocumentStart(..) if document.is_some() => {
                return Err(YamlError::unsupported(span, "a second document is"));
            }
            Event::DocumentStart(..) => {}
            event => document = Some(node(event, span, &mut events)?),
        }
    }
    Ok(document.unwrap_or(Node { position: Position { line: 1, column: 1 }, value: Value::Null }))
}

type Events<'a> = dyn Iterator<Item = Result<(Event<'a>, Span), ScanError>> + 'a;

/// The node that starts with this event. The parser bounds how deep it can be.
fn node<'a>(event: Event<'a>, span: Span, events: &mut Events<'a>) -> Result<Node, YamlError> {
    if event.tag().is_some() {
        return Err(YamlError::unsupported(span, "tags are"));
    }
    if event.anchor_id().is_some() || event.is_alias() {
        return Err(YamlError::unsupported(span, "anchors and aliases are"));
    }
    let value = match event {
        Event::Scalar(text, ScalarStyle::Plain, ..) if is_null(&text) => Value::Null,
        Event::Scalar(text, ..) => Value::Text(text.into_owned()),
        Event::SequenceStart(..) => {
            let mut items = Vec::new();
            loop {
                match next(events, span)? {
                    (Event::SequenceEnd, _) => break,
                    (event, span) => items.push(node(event, span, events)?),
                }
            }
            Value::List(items)
        }
        Event::MappingStart(..) => {
            let mut entries = Vec::new();
            loop {
                let key = match next(events, span)? {
                    (Event::MappingEnd, _) => break,
                    (event, span) => node(event, span, events)?,
                };
                let Value::Text(text) = key.value else {
                    let detail = format!("the name of a field is a text, not {}", key.value.kind());
                    return Err(YamlError { position: key.position, code: codes::WRONG_TYPE, detail });
                };
                let (event, span) = next(events, span)?;
                entries.push(Entry { key: text, position: key.position, value: node(event, span, events)? });
            }
            Value::Map(entries)
        }
        _ => return Err(unfinished(span)),
    };
    Ok(Node { position: position(span.start), value })
}

fn next<'a>(events: &mut Events<'a>, span: Span) -> Result<(Event<'a>, Span), YamlError> {
    events.next().ok_or_else(|| unfinished(span)).and_then(|event| event.map_err(YamlError::from))
}

fn unfinished(span: Span) -> YamlError {
    let detail = "this is not YAML: the document is not finished".to_owned();
    YamlError { position: position(span.start), code: codes::SYNTAX, detail }
}

fn is_null(plain: &str) -> bool {
    matches!(plain, "" | "~" | "null" | "Null" | "NULL")
}

/// The parser counts lines from one and columns from zero.
fn position(marker: Marker) -> Position {
    Position { line: marker.line().max(1), column: marker.col() + 1 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entries(text: &str) -> Vec<Entry> {
        match parse(text).unwrap().value {
            Value::Map(entries) => entries,
            other => panic!("{other:?}"),
        }
    }

    fn error(text: &str) -> (usize, usize, &'static str) {
        let error = parse(text).unwrap_err();
        (error.position.line, error.position.column, error.code)
    }

    #[test]
    fn everything_has_its_position() {
        let entries = entries("# a comment\nname: duo\nadd_ons:\n  - one\n  - two\nrealms: [a, \"b\"]\n");
        assert_eq!(entries[0].value.position, Position { line: 2, column: 7 });
        let Value::List(items) = &entries[1].value.value else { panic!() };
        assert_eq!(items[1].position, Position { line: 5, column: 5 });
        assert_eq!(entries[2].position, Position { line: 6, column: 1 });
        let Value::List(items) = &entries[2].value.value else { panic!() };
        assert_eq!(items[1].position, Position { line: 6, column: 13 });
    }

    #[test]
    fn a_scalar_stays_as_it_is_written() {
        for (yaml, expected) in
            [("17.10", "17.10"), ("true", "true"), ("'17.10'", "17.10"), ("0x1f", "0x1f"), ("'null'", "null")]
        {
            let entries = entries(&format!("v: {yaml}\n"));
            assert!(matches!(&entries[0].value.value, Value::Text(text) if text == expected), "{yaml}");
        }
        for yaml in ["", "~", "null"] {
            assert!(matches!(entries(&format!("v: {yaml}\n"))[0].value.value, Value::Null), "{yaml}");
        }
    }

    #[test]
    fn a_file_that_holds_nothing_is_null() {
        for text in ["", "\n", "# only a comment\n", "---\n"] {
            assert!(matches!(parse(text).unwrap().value, Value::Null), "{text:?}");
        }
    }

    #[test]
    fn what_hides_values_is_refused() {
        assert_eq!(error("a: &x 1\nb: *x\n"), (1, 7, codes::UNSUPPORTED_YAML));
        assert_eq!(error("a: 1\nb: !!str 2\n"), (2, 10, codes::UNSUPPORTED_YAML));
        assert_eq!(error("a: 1\n---\nb: 2\n"), (2, 1, codes::UNSUPPORTED_YAML));
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_place() {
        assert_eq!(error("a: 1\nb: [1, 2\n").2, codes::SYNTAX);
        assert_eq!(error("a: 1\n b: 2\n").0, 2);
        assert_eq!(error("a: b: c\n").2, codes::SYNTAX);
        assert_eq!(error("[1, 2]: x\n").2, codes::WRONG_TYPE);
        assert_eq!(error(&"[".repeat(100)).2, codes::SYNTAX);
        assert_eq!(error(&format!("a: {}", "- ".repeat(100))).2, codes::SYNTAX);
    }

    proptest! {
        #[test]
        fn no_text_makes_reading_panic(text in "[-a-c0-9:\\[\\]{}&*!|>'\"%@`#,? \n\t~é]{0,120}") {
            let _ = parse(&text);
        }
    }
}
