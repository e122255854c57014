//! Reads the catalog's YAML files into a domain catalog, with every problem told by file, line and field.

mod example;
mod fields;
mod folder;
mod problem;
mod records;
mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

pub use example::{EXAMPLE_FILES, example, write_example};
pub use folder::{MAX_FILE_BYTES, MAX_FILES};
pub use problem::{FileProblem, InvalidCatalogFiles, codes};

use crate::domain::catalog::check::{self, UnreadNames};
use crate::domain::catalog::{Catalog, CatalogError, CatalogParts, Problem, RecordKind};
use fields::{Fields, Places};
use folder::SourceFile;
use problem::Position;
use yaml::Value;

/// The catalog in this folder.
///
/// Refuses with everything that is wrong in any of its files at once: what cannot be read, what is no record,
/// and what does not fit together.
pub fn read(dir: &Path) -> Result<Catalog, InvalidCatalogFiles> {
    let mut problems = Vec::new();
    let files = folder::list(dir, &mut problems);
    assemble(dir, files, problems)
}

/// What is known of one file whose record was read.
#[derive(Debug)]
struct ReadFile {
    path: PathBuf,
    places: Places,
    /// Fields that were found wrong already: what stands in for them is not looked at again.
    wrong_fields: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Assembly {
    parts: CatalogParts,
    read: BTreeMap<(RecordKind, String), ReadFile>,
    unread: UnreadNames,
    problems: Vec<FileProblem>,
}

/// Builds the catalog from the files' texts; `problems` were found on the way to them.
fn assemble(
    dir: &Path,
    files: Vec<SourceFile>,
    problems: Vec<FileProblem>,
) -> Result<Catalog, InvalidCatalogFiles> {
    let mut assembly = Assembly { problems, ..Assembly::default() };
    // Where something else kept the folder from being read, that is told instead.
    let is_empty = !files.iter().any(|file| file.kind == RecordKind::UnitPrimitive);
    if is_empty && assembly.problems.is_empty() {
        assembly.report(
            dir.join(RecordKind::UnitPrimitive.folder()),
            None,
            None,
            codes::EMPTY_CATALOG,
            "there are no unit primitives here: nothing could ever be granted",
        );
    }
    for file in files {
        assembly.read_file(file);
    }
    assembly.check_records();
    let Assembly { parts, mut problems, .. } = assembly;
    if problems.is_empty() {
        match Catalog::new(parts) {
            Ok(catalog) => return Ok(catalog),
            Err(error) => problems.push(unexpected(dir, &error)),
        }
    }
    problems.sort_by(|a, b| (&a.path, a.line, a.column).cmp(&(&b.path, b.line, b.column)));
    Err(InvalidCatalogFiles { problems })
}

impl Assembly {
    fn read_file(&mut self, file: SourceFile) {
        let SourceFile { kind, stem, path, text } = file;
        let document = text.and_then(|text| {
            yaml::parse(&text).map_err(|error| (error.code, error.detail, Some(error.position)))
        });
        let fields = match document {
            Ok(document) => match document.value {
                Value::Map(entries) => Ok(Fields::new(document.position, entries)),
                other => {
                    let detail =
                        format!("a record is a mapping of fields to values, this is {}", other.kind());
                    Err((codes::WRONG_TYPE, detail, Some(document.position)))
                }
            },
            Err(error) => Err(error),
        };
        match fields {
            Ok(fields) => self.read_record(kind, stem, path, fields),
            Err((code, detail, position)) => {
                self.report(path, position, None, code, detail);
                self.unread.insert((kind, stem));
            }
        }
    }

    fn read_record(&mut self, kind: RecordKind, stem: String, path: PathBuf, fields: Fields) {
        match records::read_record(kind, &stem, fields, &mut self.parts) {
            Ok((places, found)) => {
                let mut wrong_fields = BTreeSet::new();
                for problem in found {
                    wrong_fields.insert(problem.field.clone());
                    self.report(
                        path.clone(),
                        Some(problem.position),
                        Some(problem.field),
                        problem.code,
                        problem.detail,
                    );
                }
                self.read.insert((kind, stem), ReadFile { path, places, wrong_fields });
            }
            Err(error) => {
                let detail = format!("the file's name is the record's name: {error}");
                self.report(path, None, None, codes::INVALID_NAME, detail);
                self.unread.insert((kind, stem));
            }
        }
    }

    /// What is wrong with the records, told at the place in the file.
    fn check_records(&mut self) {
        for Problem { site, code, detail } in check::problems(&self.parts, &self.unread) {
            let Some(file) = self.read.get(&(site.kind, site.record.clone())) else { continue };
            if site.item.is_none() && file.wrong_fields.iter().any(|wrong| is_of(wrong, site.field)) {
                continue;
            }
            let place =
                file.places.get(&(site.field, site.item)).or_else(|| file.places.get(&(site.field, None)));
            let field = place.map_or_else(|| site.field.to_owned(), |place| place.field.clone());
            self.problems.push(FileProblem {
                path: file.path.clone(),
                line: place.map(|place| place.position.line),
                column: place.map(|place| place.position.column),
                field: Some(field),
                code: code.as_str(),
                detail,
            });
        }
    }

    fn report(
        &mut self,
        path: PathBuf,
        position: Option<Position>,
        field: Option<String>,
        code: &'static str,
        detail: impl Into<String>,
    ) {
        let (line, column) = (position.map(|at| at.line), position.map(|at| at.column));
        self.problems.push(FileProblem { path, line, column, field, code, detail: detail.into() });
    }
}

/// Whether `wrong` is this field or an item of it.
fn is_of(wrong: &str, field: &str) -> bool {
    wrong.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with('['))
}

/// Records that were checked and are refused all the same: a mistake in this program, told rather than hidden.
fn unexpected(dir: &Path, error: &CatalogError) -> FileProblem {
    FileProblem {
        path: dir.to_owned(),
        line: None,
        column: None,
        field: None,
        code: codes::INTERNAL,
        detail: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;
    use crate::domain::catalog::{BackendName, Realm, UnitPrimitiveName};

    const CHAT: &str = "\
name: chat
description: Answers questions.
feature_category: chat
license_types: [premium]
backend_services: [gateway]
add_ons: [pro]
";

    /// A folder with one record of each kind, with these files instead of or besides them.
    fn folder(changes: &[(&str, &[u8])]) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let files: [(&str, &[u8]); 5] = [
            ("add_ons/pro.yml", b"name: pro\n"),
            ("backend_services/gateway.yml", b"name: gateway\njwt_aud: example-gateway\n"),
            ("license_types/premium.yml", b"name: premium\n"),
            ("services/chat.yml", b"name: chat\ngitlab_realm: [self-managed]\nunit_primitives: [chat]\n"),
            ("unit_primitives/chat.yml", CHAT.as_bytes()),
        ];
        for (path, text) in files.iter().chain(changes) {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        dir
    }

    /// What is wrong with that folder, one line each, without the folder's own name.
    fn problems(changes: &[(&str, &str)]) -> Vec<String> {
        let changes: Vec<_> = changes.iter().map(|(path, text)| (*path, text.as_bytes())).collect();
        problems_in(folder(&changes).path())
    }

    fn problems_in(dir: &Path) -> Vec<String> {
        let prefix = format!("{}/", dir.display());
        read(dir)
            .unwrap_err()
            .problems
            .iter()
            .map(|problem| problem.to_string().replace(&prefix, ""))
            .collect()
    }

    #[test]
    fn the_example_is_what_is_publicly_known() {
        let catalog = example().unwrap();
        assert_eq!(catalog.unit_primitives().len(), 37);
        assert_eq!(catalog.backends().len(), 4);
        assert_eq!(catalog.add_ons().len(), 7);
        assert_eq!(catalog.license_types().len(), 2);
        assert_eq!(catalog.services().len(), 8);
        let chat = catalog.unit_primitive(&"duo_chat".parse().unwrap()).unwrap();
        assert_eq!(chat.cut_off_date.unwrap().to_rfc3339(), "2024-10-17T00:00:00+00:00");
        assert_eq!(chat.min_gitlab_version, Some("16.9".parse().unwrap()));
        assert_eq!(chat.min_gitlab_version_for_free_access, Some("16.8".parse().unwrap()));
        let gateway = catalog.backend(&BackendName::new("ai_gateway").unwrap()).unwrap();
        assert_eq!(gateway.audience, "gitlab-ai-gateway");
    }

    #[test]
    fn every_primitive_of_the_example_is_offered_to_instances_that_customers_run() {
        for primitive in example().unwrap().unit_primitives() {
            let realms = primitive.realms.as_ref();
            assert!(realms.is_none_or(|realms| realms.contains(&Realm::SelfManaged)), "{}", primitive.name);
        }
    }

    #[test]
    fn a_folder_is_read_whatever_the_order_of_its_lines() {
        let reordered = "# a comment\nadd_ons:\n- pro\nbackend_services: [gateway]\nlicense_types:\n  - premium\n\
                         group:\nfeature_category: 'chat'\ndescription: \"Answers questions.\"\nname: chat\n";
        let plain = read(folder(&[]).path()).unwrap();
        let other = read(folder(&[("unit_primitives/chat.yml", reordered.as_bytes())]).path()).unwrap();
        assert_eq!(plain.digest(), other.digest());
        assert!(plain.unit_primitive(&UnitPrimitiveName::new("chat").unwrap()).is_some());
    }

    #[test]
    fn all_problems_of_all_files_are_told_at_once() {
        let chat = "\
name: chatt
descripton: Answers questions.
feature_category: chat
cut_off_date: 2024-02-30T00:00:00Z
min_gitlab_version: sixteen
documentation_url: docs/chat.md
license_types: premium
backend_services: [gateway, gatewey]
add_ons:
  - Pro
  - pro
  - pro
add_ons: []
";
        let found = problems(&[
            ("add_ons/pro.yml", "name: pro\nprice: 9\n"),
            (
                "services/chat.yml",
                "name: chat\nbasic_unit_primitive: chat\ngitlab_realm: [moon]\nunit_primitives: []\n",
            ),
            ("unit_primitives/chat.yml", chat),
        ]);
        assert_eq!(
            found,
            [
                "add_ons/pro.yml:2:1: price: there is no such field (unknown_field)",
                "services/chat.yml:2:23: basic_unit_primitive: chat is not among the service's unit_primitives \
                 (basic_not_in_service)",
                "services/chat.yml:3:16: gitlab_realm[0]: a realm is gitlab-com or self-managed (invalid_realm)",
                "services/chat.yml:4:18: unit_primitives: the list names nothing (empty_list)",
                "unit_primitives/chat.yml:1:1: description: this field must be there and hold something \
                 (missing_field)",
                "unit_primitives/chat.yml:1:7: name: the record's name must be that of its file, chat \
                 (name_not_file)",
                "unit_primitives/chat.yml:2:1: descripton: there is no such field; did you mean description? \
                 (unknown_field)",
                "unit_primitives/chat.yml:4:15: cut_off_date: an instant is written in UTC, like \
                 2024-02-15T00:00:00Z (invalid_time)",
                "unit_primitives/chat.yml:5:21: min_gitlab_version: a version is written like 17.1 or 17.1.0: \
                 unexpected character 's' while parsing major version number (invalid_version)",
                "unit_primitives/chat.yml:6:20: documentation_url: a link is an absolute http or https URL \
                 without credentials, of at most 512 bytes (invalid_link)",
                "unit_primitives/chat.yml:7:16: license_types: this field holds a list, not a text (wrong_type)",
                "unit_primitives/chat.yml:8:29: backend_services[1]: there is no backend service gatewey; did \
                 you mean gateway? (unknown_link)",
                "unit_primitives/chat.yml:10:5: add_ons[0]: a name has 1 to 64 characters out of a–z, 0–9 and _ \
                 (invalid_name)",
                "unit_primitives/chat.yml:12:5: add_ons[2]: this is in the list twice (duplicate_item)",
                "unit_primitives/chat.yml:13:1: add_ons: this field is in the file twice (duplicate_field)",
            ]
        );
    }

    #[test]
    fn an_alias_names_one_primitive_only() {
        let with_aliases = |name: &str, aliases: &str| {
            format!("name: {name}\ndescription: x\nfeature_category: x\nalias_names: {aliases}\n")
        };
        assert_eq!(
            problems(&[
                ("unit_primitives/one.yml", &with_aliases("one", "[old, chat]")),
                ("unit_primitives/two.yml", &with_aliases("two", "[old, two]")),
            ]),
            [
                "unit_primitives/one.yml:4:20: alias_names[1]: chat is the name of a unit primitive \
                 (ambiguous_alias)",
                "unit_primitives/two.yml:4:15: alias_names[0]: old is an alias of one too (ambiguous_alias)",
                "unit_primitives/two.yml:4:20: alias_names[1]: this is the record's own name (ambiguous_alias)",
            ]
        );
        let catalog =
            read(folder(&[("unit_primitives/one.yml", with_aliases("one", "[old]").as_bytes())]).path())
                .unwrap();
        let found = catalog.unit_primitive(&UnitPrimitiveName::new("old").unwrap()).unwrap();
        assert_eq!(found.name.as_str(), "one");
    }

    #[test]
    fn two_backends_never_share_an_audience() {
        assert_eq!(
            problems(&[
                ("backend_services/other.yml", "name: other\njwt_aud: example-gateway\n"),
                ("backend_services/third.yml", "name: third\njwt_aud: two words\n"),
            ]),
            [
                "backend_services/other.yml:2:10: jwt_aud: gateway has this audience: tokens for one backend \
                 would pass at the other (duplicate_audience)",
                "backend_services/third.yml:2:10: jwt_aud: an audience has 1 to 255 visible ASCII characters \
                 (invalid_audience)",
            ]
        );
    }

    #[test]
    fn a_file_that_cannot_be_read_is_told_once_and_not_by_the_links_to_it() {
        assert_eq!(
            problems(&[("add_ons/pro.yml", "name: pro\n  description: x\n")]).len(),
            1,
            "the primitive's link to pro is no problem of its own"
        );
        let found = problems(&[("add_ons/pro.yml", "- pro\n"), ("license_types/premium.yml", "")]);
        assert_eq!(
            found,
            [
                "add_ons/pro.yml:1:1: a record is a mapping of fields to values, this is a list (wrong_type)",
                "license_types/premium.yml:1:1: a record is a mapping of fields to values, this is nothing \
                 (wrong_type)",
            ]
        );
    }

    #[test]
    fn yaml_that_hides_what_it_says_is_refused() {
        let found = problems(&[("add_ons/pro.yml", "name: &n pro\ndescription: *n\n")]);
        assert_eq!(
            found,
            ["add_ons/pro.yml:1:10: anchors and aliases are not used in catalog files; write the \
                            value out (unsupported_yaml)"]
        );
    }

    #[test]
    fn a_file_that_is_not_utf8_is_told_with_its_place() {
        let dir = folder(&[("add_ons/pro.yml", b"name: pro\ndescription: caf\xe9\n")]);
        assert_eq!(problems_in(dir.path()), ["add_ons/pro.yml:2:17: this is not UTF-8 (not_utf8)"]);
    }

    #[test]
    fn sizes_are_bounded() {
        let large = format!("name: pro\n#{}\n", "x".repeat(64 * 1024));
        assert_eq!(
            problems(&[("add_ons/pro.yml", &large)]),
            ["add_ons/pro.yml: a catalog file has at most 65536 bytes (too_large)"]
        );
        let long = format!("name: pro\ndescription: {}\n", "x".repeat(1001));
        assert_eq!(
            problems(&[("add_ons/pro.yml", &long)]),
            ["add_ons/pro.yml:2:14: description: a text has at most 1000 characters (invalid_text)"]
        );
        let many: Vec<_> = (0..300).map(|n| format!("a{n}")).collect();
        let many = format!("{CHAT}alias_names: [{}]\n", many.join(", "));
        assert_eq!(
            problems(&[("unit_primitives/chat.yml", &many)]).len(),
            1,
            "an overlong list is told once"
        );
    }

    #[test]
    fn what_does_not_belong_in_a_folder_is_refused() {
        let dir = folder(&[
            ("add_ons/notes.txt", b"x"),
            ("add_ons/Pro.yml", b"name: Pro\n"),
            ("add_ons/nested.yml/x", b"x"),
            ("add_ons/.pro.yml.swp", b"skipped"),
            ("unit_primitive/chat.yml", CHAT.as_bytes()),
            ("README.md", b"welcome"),
        ]);
        assert_eq!(
            problems_in(dir.path()),
            [
                "add_ons/Pro.yml: the file's name is the record's name: a name has 1 to 64 characters out of \
                 a–z, 0–9 and _ (invalid_name)",
                "add_ons/nested.yml: this is not a file (unexpected_entry)",
                "add_ons/notes.txt: only files whose names end in .yml belong here (unexpected_entry)",
                "unit_primitive: a catalog's folders are add_ons, backend_services, license_types, services, \
                 unit_primitives; did you mean unit_primitives? (unexpected_entry)",
            ]
        );
    }

    #[cfg(unix)]
    #[test]
    fn a_link_that_leads_nowhere_is_unreadable_and_a_good_one_is_followed() {
        let dir = folder(&[]);
        std::os::unix::fs::symlink("nowhere.yml", dir.path().join("add_ons/lost.yml")).unwrap();
        let found = problems_in(dir.path());
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("add_ons/lost.yml: cannot be read: "), "{found:?}");

        fs::remove_file(dir.path().join("add_ons/lost.yml")).unwrap();
        let target = dir.path().join("..pro-of-today");
        fs::rename(dir.path().join("add_ons/pro.yml"), &target).unwrap();
        std::os::unix::fs::symlink(&target, dir.path().join("add_ons/pro.yml")).unwrap();
        assert!(read(dir.path()).is_ok());
    }

    #[test]
    fn an_empty_or_missing_folder_is_no_catalog() {
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(
            problems_in(empty.path()),
            [
                "unit_primitives: there are no unit primitives here: nothing could ever be granted (empty_catalog)"
            ]
        );
        let missing = read(&empty.path().join("missing")).unwrap_err();
        assert_eq!(missing.problems.len(), 1);
        assert_eq!(missing.problems[0].code, codes::UNREADABLE);
    }

    #[derive(Clone, Debug)]
    enum Slip {
        Drop,
        Insert(String),
        Repeat,
    }

    fn slip() -> impl Strategy<Value = Slip> {
        prop_oneof![
            Just(Slip::Drop),
            "[-:\\[\\]{}a-z0-9 \"'#&*|\n]{1,8}".prop_map(Slip::Insert),
            Just(Slip::Repeat)
        ]
    }

    proptest! {
        /// Whatever slips into a file, reading it ends with a catalog, or with problems that stand in a file.
        #[test]
        fn a_slip_of_the_hand_gives_a_catalog_or_problems_with_places(
            file in 0..EXAMPLE_FILES.len(), line in 0_usize..12, slip in slip(),
        ) {
            let (path, text) = EXAMPLE_FILES[file];
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            let line = line % lines.len();
            match slip {
                Slip::Drop => drop(lines.remove(line)),
                Slip::Insert(slipped) => lines[line].push_str(&slipped),
                Slip::Repeat => lines.insert(line, lines[line].clone()),
            }
            let text = lines.join("\n");
            let files = example::with_file(path, &text);
            if let Err(error) = assemble(Path::new("catalog"), files, Vec::new()) {
                prop_assert!(!error.problems.is_empty());
                for problem in error.problems {
                    prop_assert_ne!(problem.code, codes::INTERNAL);
                    let of_file = problem.path == Path::new("catalog").join(path);
                    let last = text.lines().count() + 1;
                    prop_assert!(problem.line.is_some_and(|line| (1..=last).contains(&line)) || !of_file);
                    prop_assert!(problem.line.is_some(), "{}", problem);
                }
            }
        }
    }
}
