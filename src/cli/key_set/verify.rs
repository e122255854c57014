//! `key-set verify`: whether a set is what the root has signed, and whether a build may embed it. Offline.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use token_authority_verifier::build::{Folder, check};
use token_authority_verifier::{Digest, KeySet, Manifest, Root, SignedManifest, SignedRoot, Verified};

use super::policy::{PolicyArgs, refusal};
use crate::cli::output::{print, print_json, print_table};
use crate::cli::{CliError, Format, GlobalArgs};

/// Check that a key set is what the root has signed.
///
/// A published set: the plain set and the manifest stand side by side, the roots are in `root/` beside them. An
/// embedded one: the folder is checked as a build checks it, so that languages without our build helper have the
/// same safety.
#[derive(Args, Debug)]
pub(crate) struct VerifyArgs {
    /// `0007.manifest.json`, or the `0007.jwks.json` beside it.
    #[arg(long, value_name = "FILE", required_unless_present = "embedded", requires = "TrustArgs")]
    key_set: Option<PathBuf>,
    #[command(flatten)]
    trust: TrustArgs,
    /// The folder that `key-set embed` wrote: it must be fit to build with, now.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["key_set", "TrustArgs"])]
    embedded: Option<PathBuf>,
    #[command(flatten)]
    policy: PolicyArgs,
}

/// Where trust begins.
#[derive(Args, Debug)]
#[group(multiple = false)]
struct TrustArgs {
    /// A root file that you have from a place you trust.
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// The digest of the root that you trust; later roots are followed from there.
    #[arg(long, value_name = "DIGEST")]
    trust_root: Option<Digest>,
}

/// A key set that passed.
struct VerifiedSet {
    root: Verified<Root>,
    manifest: Verified<Manifest>,
    keys: KeySet,
}

impl VerifyArgs {
    pub(super) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let verified = self.verify()?;
        match global.format {
            Format::Json => print_json(&Document::new(&verified)),
            Format::Table => verified.print(),
        }
    }

    fn verify(self) -> Result<VerifiedSet, CliError> {
        match (self.embedded, self.key_set) {
            (Some(folder), _) => verify_embedded(&folder, self.policy),
            (None, Some(file)) => verify_published(&file, self.trust),
            (None, None) => Err(CliError::refused("name a key set, or a folder that embeds one")),
        }
    }
}

fn verify_embedded(folder: &Path, policy: PolicyArgs) -> Result<VerifiedSet, CliError> {
    let set = Folder::read(folder).and_then(|files| files.open()).map_err(refusal)?;
    check(&set, &policy.policy()).map_err(refusal)?;
    let (root, manifest, keys) = (set.root().clone(), set.manifest().clone(), set.keys().clone());
    Ok(VerifiedSet { root, manifest, keys })
}

fn verify_published(file: &Path, trust: TrustArgs) -> Result<VerifiedSet, CliError> {
    let (manifest_file, jwks_file) = both_files(file)?;
    let manifest = SignedManifest::parse(&read(&manifest_file)?).map_err(refused(&manifest_file))?;
    let root = trust.find(&manifest_file, manifest.unverified().root_version)?;
    let manifest = manifest.verify(&root).map_err(refused(&manifest_file))?;
    let keys = manifest.matches(&read(&jwks_file)?).map_err(refused(&jwks_file))?;
    Ok(VerifiedSet { root, manifest, keys })
}

impl TrustArgs {
    /// The root of this version, by a chain that begins with the trusted one.
    fn find(self, manifest_file: &Path, version: u32) -> Result<Verified<Root>, CliError> {
        let folder = manifest_file.with_file_name("root");
        let (trusted_file, digest) = match (self.root, self.trust_root) {
            (Some(file), _) => {
                let digest = read_root(&file)?.digest();
                (file, digest)
            }
            (None, Some(digest)) => (find_root(&folder, digest)?, digest),
            (None, None) => return Err(CliError::refused("name the root that you trust")),
        };
        let mut root = read_root(&trusted_file)?.verify_pinned(digest).map_err(refused(&trusted_file))?;
        while root.version < version {
            let next = folder.join(format!("{}.root.json", root.version + 1));
            root = read_root(&next)?.verify_successor(&root).map_err(refused(&next))?;
        }
        Ok(root)
    }
}

/// The manifest and the plain set, from the name of either.
fn both_files(given: &Path) -> Result<(PathBuf, PathBuf), CliError> {
    let name = given.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let number = name.strip_suffix(MANIFEST).or_else(|| name.strip_suffix(JWKS)).ok_or_else(|| {
        CliError::refused(format!(
            "{} is named neither like 0007{MANIFEST} nor like 0007{JWKS}",
            given.display()
        ))
    })?;
    let file = |ending| given.with_file_name(format!("{number}{ending}"));
    Ok((file(MANIFEST), file(JWKS)))
}

const MANIFEST: &str = ".manifest.json";
const JWKS: &str = ".jwks.json";

/// The root with this digest, among those that were published.
fn find_root(folder: &Path, digest: Digest) -> Result<PathBuf, CliError> {
    let reading = || format!("could not read {}", folder.display());
    let mut seen = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(CliError::fault(reading()))? {
        let path = entry.map_err(CliError::fault(reading()))?.path();
        if path.to_str().is_some_and(|path| path.ends_with(".root.json")) {
            seen.insert(read_root(&path)?.digest(), path);
        }
    }
    seen.remove(&digest).ok_or_else(|| {
        let seen: Vec<_> = seen.keys().map(ToString::to_string).collect();
        CliError::refused(format!(
            "no root in {} is {digest}; there are: {}",
            folder.display(),
            seen.join(", ")
        ))
    })
}

fn read_root(path: &Path) -> Result<SignedRoot, CliError> {
    SignedRoot::parse(&read(path)?).map_err(refused(path))
}

fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    std::fs::read(path).map_err(CliError::fault(format!("could not read {}", path.display())))
}

fn refused<E: std::error::Error + Send + Sync + 'static>(path: &Path) -> impl FnOnce(E) -> CliError {
    CliError::fault(format!("{} is not to be trusted", path.display()))
}

impl VerifiedSet {
    fn print(&self) -> Result<(), CliError> {
        let Self { root, manifest, .. } = self;
        print(&format!(
            "Key set {} of `{}` ({}) is what its root has signed.\n\n  digest        {}\n  root          {} \
             (version {}{})\n  made          {}\n  build before  {}\n  tokens live   {} s at most, clocks may \
             differ by {} s\n",
            manifest.version,
            manifest.environment,
            manifest.issuer,
            manifest.jwks_sha256,
            root.digest(),
            root.version,
            if root.development { ", for development only" } else { "" },
            manifest.created,
            manifest.build_before,
            manifest.max_token_ttl,
            manifest.leeway,
        ))?;
        print_table(
            &["kid", "purpose", "alg", "ends"],
            manifest.keys.iter().map(|key| {
                [key.kid.to_string(), key.purpose.to_string(), key.alg.to_string(), key.not_after.to_string()]
            }),
        )
    }
}

#[derive(Serialize)]
struct Document<'a> {
    verified: bool,
    issuer: &'a str,
    environment: &'a str,
    version: u32,
    digest: Digest,
    root: RootDocument,
    manifest: &'a Manifest,
    /// How many keys may sign access tokens.
    access_token_keys: usize,
}

#[derive(Serialize)]
struct RootDocument {
    version: u32,
    digest: Digest,
    development: bool,
}

impl<'a> Document<'a> {
    fn new(set: &'a VerifiedSet) -> Self {
        let VerifiedSet { root, manifest, keys } = set;
        Self {
            verified: true,
            issuer: &manifest.issuer,
            environment: &manifest.environment,
            version: manifest.version,
            digest: manifest.jwks_sha256,
            root: RootDocument {
                version: root.version,
                digest: root.digest(),
                development: root.development,
            },
            manifest,
            access_token_keys: keys.iter().len(),
        }
    }
}
