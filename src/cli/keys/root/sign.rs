//! `keys root sign`, `merge` and `show`: one holder's signature, copies put together, and how far a document is.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use token_authority_verifier::{Digest, Root, Verified};

use super::{DocumentAnswer, next, refusal_or_fault};
use crate::cli::confirm::ConfirmArgs;
use crate::cli::output::{print, print_json, warn};
use crate::cli::{CliError, Format};
use crate::root_ceremony::{Document, Published, Request, Review};

/// Sign a draft with one holder's key, offline: needs no database and no settings.
///
/// Shows what it changes, remembers what it signs in a file beside the key, and refuses anything but the next
/// document of the same chain.
#[derive(Args, Debug)]
pub(crate) struct SignArgs {
    /// The draft of a root or a manifest, or a copy that other holders have signed.
    #[arg(value_name = "DRAFT")]
    draft: PathBuf,
    /// The holder's private half, as `new-key` or `openssl genpkey -algorithm ed25519` makes it.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// What was published before: `keys/<environment>`, or a copy of it. Not needed for the first root.
    #[arg(long, value_name = "DIR")]
    published: Option<PathBuf>,
    /// The digest of a root that you trust, when this key has not signed before.
    #[arg(long, value_name = "DIGEST")]
    trust_root: Option<Digest>,
    /// What this key signed under the same number, given up before it was published.
    #[arg(long, value_name = "DIGEST")]
    instead_of: Option<Digest>,
    /// Where the signed document goes; in place of the draft by default.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

/// Put the signatures of several copies of one document together.
#[derive(Args, Debug)]
pub(crate) struct MergeArgs {
    /// Copies of one document, each with signatures of its own.
    #[arg(value_name = "FILE", required = true, num_args = 2..)]
    files: Vec<PathBuf>,
    /// Where the document with all of the signatures goes.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

/// Show what a root or a manifest says, and who has signed it.
#[derive(Args, Debug)]
pub(crate) struct ShowArgs {
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    by: ByArgs,
}

/// The root by which signatures are checked; without it a first root alone can be checked.
#[derive(Args, Debug)]
struct ByArgs {
    /// What was published: `keys/<environment>`, or a copy of it.
    #[arg(long, value_name = "DIR", requires = "trust_root")]
    published: Option<PathBuf>,
    /// The digest of a root that you trust; later ones are followed from there.
    #[arg(long, value_name = "DIGEST", requires = "published")]
    trust_root: Option<Digest>,
}

impl SignArgs {
    pub(super) fn run(self, format: Format) -> Result<(), CliError> {
        let draft = Document::read(&self.draft).map_err(refusal_or_fault)?;
        let published = self.published.as_deref().map(Published::new);
        let request = Request {
            key_file: &self.key,
            draft: &draft,
            published: published.as_ref(),
            trust_root: self.trust_root,
            instead_of: self.instead_of,
        };
        let review = Review::new(&request).map_err(refusal_or_fault)?;

        // On stderr, so that whoever answers sees it and programs read one document.
        let (kind, version) = (draft.kind(), draft.version());
        warn(&format!("{kind} {version} of `{}` ({})", draft.environment(), draft.issuer()));
        for change in review.changes() {
            warn(&format!("  {change}"));
        }
        if review.changes().is_empty() {
            warn("  changes nothing");
        }
        if review.is_for_development() {
            warn("  for development only: no production build takes it");
        }
        let kid = review.kid();
        self.confirm.ask(&format!("Sign {kind} {version} ({}) with {kid}?", draft.digest()))?;

        let changes = review.changes().iter().map(ToString::to_string).collect();
        let signature = review.sign().map_err(refusal_or_fault)?;
        let out = self.out.as_deref().unwrap_or(&self.draft);
        signature.document.write(out).map_err(refusal_or_fault)?;
        let document = DocumentAnswer::new(out, &signature.document, &signature.standings);
        match format {
            Format::Json => {
                print_json(&SignAnswer { signed_by: signature.kid.to_string(), changes, document })
            }
            Format::Table => {
                print(&format!("Signed {document}\n{}", next(&signature.document, &signature.standings)))
            }
        }
    }
}

impl MergeArgs {
    pub(super) fn run(self, format: Format) -> Result<(), CliError> {
        let mut merged: Option<Document> = None;
        for file in &self.files {
            let copy = Document::read(file).map_err(refusal_or_fault)?;
            merged = Some(match merged {
                None => copy,
                Some(merged) => merged
                    .merged(&copy)
                    .map_err(|error| CliError::refused(format!("{}: {error}", file.display())))?,
            });
        }
        let Some(document) = merged else { return Err(CliError::refused("there is nothing to merge")) };
        document.write(&self.out).map_err(refusal_or_fault)?;
        show(&self.out, &document, None, "Merged into ", format)
    }
}

impl ShowArgs {
    pub(super) fn run(self, format: Format) -> Result<(), CliError> {
        let document = Document::read(&self.file).map_err(refusal_or_fault)?;
        let roots = match (&self.by.published, self.by.trust_root) {
            (Some(folder), Some(digest)) => {
                Published::new(folder).roots_from(digest).map_err(refusal_or_fault)?
            }
            _ => vec![],
        };
        let root = match &document {
            Document::Manifest(manifest) => {
                let named = manifest.unverified().root_version;
                roots.into_iter().find(|root| root.version == named)
            }
            Document::Root(root) => {
                let version = root.unverified().version;
                roots.into_iter().find(|root| root.version + 1 == version)
            }
        };
        show(&self.file, &document, root.as_ref(), "", format)
    }
}

fn show(
    file: &Path,
    document: &Document,
    root: Option<&Verified<Root>>,
    done: &str,
    format: Format,
) -> Result<(), CliError> {
    let standings = document.standings(root).map_err(|error| CliError::refused(error.to_string()))?;
    let answer = DocumentAnswer::new(file, document, &standings);
    match format {
        Format::Json => print_json(&ShownAnswer {
            document: answer,
            says: serde_json::from_slice(match document {
                Document::Manifest(manifest) => manifest.payload(),
                Document::Root(root) => root.payload(),
            })
            .map_err(CliError::fault("could not show the document"))?,
            claimed_by: document.signers().iter().map(ToString::to_string).collect(),
        }),
        Format::Table => {
            let claimed = document.signers().len();
            print(&format!("{done}{answer}\n  {claimed} signatures, of which those above were verified"))
        }
    }
}

#[derive(Serialize)]
struct SignAnswer<'a> {
    signed_by: String,
    changes: Vec<String>,
    document: DocumentAnswer<'a>,
}

#[derive(Serialize)]
struct ShownAnswer<'a> {
    document: DocumentAnswer<'a>,
    /// What is signed.
    says: serde_json::Value,
    /// Whoever claims to have signed; `document.signatures` holds what was verified.
    claimed_by: Vec<String>,
}
