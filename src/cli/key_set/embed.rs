//! `key-set embed`: takes a published key set into a backend's repository, after every check there is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use token_authority_verifier::build::{DENY_LIST, Embedding, Folder, LOCK, MANIFEST, Published, Trust};
use token_authority_verifier::{Digest, Kid, Lock};
use url::Url;

use super::policy::{PolicyArgs, refusal};
use super::service::Service;
use crate::cli::output::{print, print_json};
use crate::cli::runtime::block_on;
use crate::cli::{CliError, Format, GlobalArgs};

/// Take a key set into a backend's repository.
///
/// Writes jwks.json, manifest.json, root.json, deny-list.jws and keyset.lock, all of which belong into version
/// control. The same set gives the same bytes, on every machine and at any time. Nothing is written unless
/// everything is right.
#[derive(Args, Debug)]
pub(crate) struct EmbedArgs {
    /// Where the set is published: the service's URL, or a folder (`keys/production`). Neither is trusted: the
    /// root's signatures are.
    #[arg(long, value_name = "URL|DIR")]
    from: String,
    /// The folder in the backend's repository. A folder per environment.
    #[arg(long, value_name = "DIR")]
    into: PathBuf,
    /// The digest of the root that you trust, for the first embedding; later ones follow keyset.lock.
    #[arg(long, value_name = "DIGEST")]
    trust_root: Option<Digest>,
    /// Another version than the newest; never one below keyset.lock.
    #[arg(long, value_name = "N")]
    set_version: Option<u32>,
    #[command(flatten)]
    policy: PolicyArgs,
}

impl EmbedArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let before = Folder::lock(&self.into).map_err(refusal)?;
        let trust = trust(before.clone(), self.trust_root, &self.into)?;
        let kids_before = kids(&self.into);
        let source = Source::parse(&self.from, self.policy.environment());
        let published = match &source {
            Source::Service(url) => block_on(async { Service::new(url)?.published(self.set_version).await })?,
            Source::Folder(folder) => Published::read(folder, self.set_version).map_err(refusal)?,
        };
        let Embedding { set, folder } = published.check(&trust, &self.policy.policy()).map_err(refusal)?;
        let changed = folder.write(&self.into).map_err(refusal)?;

        let kids: BTreeSet<Kid> = set.keys().iter().map(|key| key.kid()).collect();
        let document = Document {
            changed,
            previous_version: before.map(|lock| lock.key_set_version),
            lock: set.lock(),
            added: kids.difference(&kids_before).copied().collect(),
            removed: kids_before.difference(&kids).copied().collect(),
            build_before: set.manifest().build_before.to_string(),
            development: set.root().development,
        };
        match global.format {
            Format::Json => print_json(&document),
            Format::Table => document.print(&self.into),
        }
    }
}

/// Trust goes on from the lock; only where there is none, the person says where it begins.
fn trust(lock: Option<Lock>, named: Option<Digest>, into: &Path) -> Result<Trust, CliError> {
    match (lock, named) {
        (Some(lock), Some(named)) if named != lock.root_digest => {
            // An older root of the same chain says nothing new, but cannot be told from a foreign one here.
            Err(CliError::refused(format!(
                "{} trusts the root {}, not {named}; leave --trust-root out to go on from there, or remove the \
                 folder to begin anew",
                into.join(LOCK).display(),
                lock.root_digest
            )))
        }
        (Some(lock), _) => {
            // What cannot be read is written anew.
            let deny_list = std::fs::read(into.join(DENY_LIST)).ok();
            let manifest = std::fs::read(into.join(MANIFEST)).ok();
            Ok(Trust::Lock { lock, deny_list, manifest })
        }
        (None, Some(named)) => Ok(Trust::Root(named)),
        (None, None) => Err(CliError::refused(format!(
            "there is no {} yet: name the root that you trust with --trust-root sha256:…; the operator of the \
             issuer wrote its digest down when the keys were made",
            into.join(LOCK).display()
        ))),
    }
}

/// Where a set is published.
enum Source {
    Folder(PathBuf),
    Service(Url),
}

impl Source {
    fn parse(text: &str, environment: Option<&str>) -> Self {
        match Url::parse(text) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => Self::Service(url),
            _ => {
                let folder = PathBuf::from(text);
                // `keys` with an environment named is `keys/<environment>`.
                let inner = environment.map(|name| folder.join(name)).filter(|inner| inner.is_dir());
                Self::Folder(inner.unwrap_or(folder))
            }
        }
    }
}

/// The keys that are embedded so far, as far as they can be read: to tell what changes.
fn kids(folder: &Path) -> BTreeSet<Kid> {
    let set = Folder::read(folder).and_then(|files| files.open());
    set.map(|set| set.keys().iter().map(|key| key.kid()).collect()).unwrap_or_default()
}

#[derive(Serialize)]
struct Document<'a> {
    /// The files that were written; none if the set was there already.
    changed: Vec<&'static str>,
    previous_version: Option<u32>,
    lock: &'a Lock,
    added: Vec<Kid>,
    removed: Vec<Kid>,
    build_before: String,
    development: bool,
}

impl Document<'_> {
    fn print(&self, into: &Path) -> Result<(), CliError> {
        let Lock { environment, issuer, key_set_version, key_set_digest, .. } = self.lock;
        let into = into.display();
        if self.changed.is_empty() {
            return print(&format!(
                "Key set {key_set_version} of `{environment}` is in {into} already; nothing changed."
            ));
        }
        let before = self.previous_version.map(|version| format!(" (was {version})")).unwrap_or_default();
        print(&format!(
            "Key set {key_set_version} of `{environment}` ({issuer}) is in {into} now{before}.\n\n  \
             digest        {key_set_digest}\n  root          {} (version {}{})\n  deny list     {}\n  \
             build before  {}\n  keys          {}\n\nCommit {into} ({}), rebuild, and deploy.",
            self.lock.root_digest,
            self.lock.root_version,
            if self.development { ", for development only" } else { "" },
            self.lock.deny_list_serial.map_or_else(|| "none".to_owned(), |serial| serial.to_string()),
            self.build_before,
            self.keys(),
            self.changed.join(", "),
        ))
    }

    fn keys(&self) -> String {
        let signed = |sign: &str, kids: &[Kid]| -> Vec<String> {
            kids.iter().map(|kid| format!("{sign}{kid}")).collect()
        };
        let changes = [signed("+", &self.added), signed("−", &self.removed)].concat();
        if changes.is_empty() { "the same as before".to_owned() } else { changes.join("\n                ") }
    }
}
