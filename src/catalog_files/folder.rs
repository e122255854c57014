//! Finds the files of a catalog on disk and reads their texts, within bounds.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::problem::{FileProblem, Position, codes};
use crate::domain::catalog::RecordKind;
use crate::domain::catalog::check::{MAX_RECORDS, nearest};

/// The largest file that is read.
pub const MAX_FILE_BYTES: u64 = 64 * 1024;
/// The most files in one folder.
pub const MAX_FILES: usize = MAX_RECORDS;

/// Besides the folders of records this may lie in a catalog's folder.
const README: &str = "README.md";

/// One file of a catalog: its text, or why there is none.
#[derive(Debug)]
pub(super) struct SourceFile {
    pub(super) kind: RecordKind,
    pub(super) stem: String,
    pub(super) path: PathBuf,
    pub(super) text: Result<String, (&'static str, String, Option<Position>)>,
}

/// The files in the folders of `dir`, sorted. What does not belong there is reported, except what begins with
/// a dot: such files belong to editors and tools.
pub(super) fn list(dir: &Path, problems: &mut Vec<FileProblem>) -> Vec<SourceFile> {
    let mut files = Vec::new();
    for (name, path) in entries(dir, RecordKind::ALL.len() + MAX_STRAY_ENTRIES, problems) {
        match RecordKind::ALL.into_iter().find(|kind| kind.folder() == name) {
            Some(kind) => files.extend(files_of(kind, &path, problems)),
            None if name == README => {}
            None => {
                let folders = RecordKind::ALL.map(RecordKind::folder);
                let mut detail = format!("a catalog's folders are {}", folders.join(", "));
                if let Some(near) = nearest(&name, folders.into_iter()) {
                    detail.push_str(&format!("; did you mean {near}?"));
                }
                problems.push(of_path(path, codes::UNEXPECTED_ENTRY, detail));
            }
        }
    }
    files
}

/// How many entries of a catalog's folder are looked at that do not belong there.
const MAX_STRAY_ENTRIES: usize = 20;

fn files_of(kind: RecordKind, folder: &Path, problems: &mut Vec<FileProblem>) -> Vec<SourceFile> {
    let mut files = Vec::new();
    for (name, path) in entries(folder, MAX_FILES, problems) {
        let Some(stem) = name.strip_suffix(".yml") else {
            let detail = "only files whose names end in .yml belong here".to_owned();
            problems.push(of_path(path, codes::UNEXPECTED_ENTRY, detail));
            continue;
        };
        let text = read_text(&path);
        files.push(SourceFile { kind, stem: stem.to_owned(), path, text });
    }
    files
}

/// The names in a folder, sorted, at most `limit`, and without those that begin with a dot.
fn entries(folder: &Path, limit: usize, problems: &mut Vec<FileProblem>) -> Vec<(String, PathBuf)> {
    let listed = fs::read_dir(folder).and_then(|entries| {
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if !name.starts_with('.') {
                names.push((name, entry.path()));
            }
            if names.len() > limit {
                break;
            }
        }
        Ok(names)
    });
    match listed {
        Ok(mut names) => {
            if names.len() > limit {
                let detail = format!("there are more than {limit} entries here");
                problems.push(of_path(folder.to_owned(), codes::TOO_MANY_FILES, detail));
                names.truncate(limit);
            }
            names.sort_unstable();
            names
        }
        Err(error) => {
            problems.push(of_path(folder.to_owned(), codes::UNREADABLE, cannot_read(&error)));
            Vec::new()
        }
    }
}

fn read_text(path: &Path) -> Result<String, (&'static str, String, Option<Position>)> {
    let unreadable = |error: io::Error| (codes::UNREADABLE, cannot_read(&error), None);
    // Opening a pipe would wait for its writer.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err((codes::UNEXPECTED_ENTRY, "this is not a file".to_owned(), None));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let detail = format!("a catalog file has at most {MAX_FILE_BYTES} bytes");
        return Err((codes::TOO_LARGE, detail, None));
    }
    String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let detail = "this is not UTF-8".to_owned();
        (codes::NOT_UTF8, detail, Some(end_of(&String::from_utf8_lossy(valid))))
    })
}

/// The position right after a text.
fn end_of(text: &str) -> Position {
    let line = text.matches('\n').count() + 1;
    let column = text.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    Position { line, column }
}

fn cannot_read(error: &io::Error) -> String {
    format!("cannot be read: {error}")
}

fn of_path(path: PathBuf, code: &'static str, detail: String) -> FileProblem {
    FileProblem { path, line: None, column: None, field: None, code, detail }
}
