//! What commands print: tables for people, one JSON document for programs, complaints on stderr.

use std::io::{ErrorKind, Write};

use clap::ValueEnum;
use comfy_table::{ContentArrangement, ContentLineStyle, LineStyle, Table, TableStyle};
use serde::Serialize;

use super::CliError;

/// How a command prints its answer.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// One JSON document, for programs.
    Json,
    /// Aligned columns, for people.
    #[default]
    Table,
}

/// Prints one JSON document on one line.
pub(crate) fn print_json<T: Serialize>(document: &T) -> Result<(), CliError> {
    let text =
        serde_json::to_string(document).map_err(CliError::fault("could not write the answer as JSON"))?;
    print(&text)
}

/// Prints rows under a header, aligned; cells wrap where the terminal ends.
pub(crate) fn print_table<R>(header: &[&str], rows: impl IntoIterator<Item = R>) -> Result<(), CliError>
where
    R: IntoIterator<Item = String>,
{
    let mut table = Table::new();
    table
        .load_style(STYLE)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_header(header.iter().copied());
    for row in rows {
        table.add_row(row);
    }
    print(&table.to_string())
}

/// Prints a text and a line end.
///
/// A reader who has seen enough (`token-authority … | head`) is no fault.
pub(crate) fn print(text: &str) -> Result<(), CliError> {
    let mut stdout = std::io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(CliError::fault("could not write to the standard output")(error))
        }
        _ => Ok(()),
    }
}

/// Tells something on stderr, in one line, while a command goes on.
pub(crate) fn warn(line: &str) {
    // With stderr gone there is nobody left to tell.
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

/// Prints why a command did not do what it was asked, on stderr.
pub(crate) fn complain(error: &CliError) {
    // With stderr gone there is nobody left to tell; the exit code still says it.
    let _ = writeln!(std::io::stderr().lock(), "error: {}", error.report());
}

/// Columns apart, the header underlined, nothing between rows.
const STYLE: TableStyle = TableStyle::new()
    .header_lines(ContentLineStyle::none().junction('│'))
    .header_separator(LineStyle::none().fill('─').junction('┼'))
    .content_lines(ContentLineStyle::none().junction('│'));
