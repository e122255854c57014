//! `keys root new-key`, `create` and `rotate`: a holder's key, and the roots to be signed.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use token_authority_verifier::{Digest, Jwk, Root, SignedRoot, Timestamp, Verified};

use super::{DocumentAnswer, next, refusal_or_fault};
use crate::cli::output::{print, print_json};
use crate::cli::{CliError, Format};
use crate::clock::Clock;
use crate::config::{EnvironmentName, Issuer};
use crate::keystore::root_key::RootKey;
use crate::keystore::write_once;
use crate::root_ceremony::{CeremonyError, Document, Published};

/// Make one holder's key. Its private half never leaves this machine.
#[derive(Args, Debug)]
pub(crate) struct NewKeyArgs {
    /// Where the private half goes; the public half goes beside it, with `.pub.json` appended.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Draft the first root of an environment: whose keys may sign, and how many have to.
#[derive(Args, Debug)]
pub(crate) struct CreateArgs {
    /// The issuer of the tokens, as the service is configured.
    #[arg(long, value_name = "URL")]
    issuer: Issuer,
    /// The environment. Only `development` gives a root that production builds refuse.
    #[arg(long, value_name = "NAME")]
    environment: EnvironmentName,
    #[command(flatten)]
    holders: HolderArgs,
}

/// Draft the next root: other holders, another threshold. Holders of the old and of the new root sign it.
#[derive(Args, Debug)]
pub(crate) struct RotateArgs {
    /// What was published: `keys/<environment>`.
    #[arg(long, value_name = "DIR")]
    published: PathBuf,
    /// The digest of a root that you trust; later ones are followed from there.
    #[arg(long, value_name = "DIGEST")]
    trust_root: Digest,
    #[command(flatten)]
    holders: HolderArgs,
}

#[derive(Args, Debug)]
struct HolderArgs {
    /// A holder's public half, as `new-key` wrote it; once for each.
    #[arg(long = "holder", value_name = "FILE", required = true)]
    holders: Vec<PathBuf>,
    /// How many of the holders have to sign.
    #[arg(long, value_name = "K")]
    threshold: u32,
    /// Where the draft goes.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
}

impl NewKeyArgs {
    pub(super) fn run(self, format: Format) -> Result<(), CliError> {
        let failed = |error| refusal_or_fault(CeremonyError::RootKey(error));
        let key = RootKey::create(&self.file).map_err(failed)?.public_key();
        let mut public = self.file.as_os_str().to_owned();
        public.push(".pub.json");
        let public = PathBuf::from(public);
        write_once(&public, key.to_canonical_json().as_bytes(), 0o644)
            .map_err(CliError::fault(format!("could not write {}", public.display())))?;
        match format {
            Format::Json => print_json(&NewKeyAnswer {
                kid: key.kid().to_string(),
                private_half: self.file.display().to_string(),
                public_half: public.display().to_string(),
                public_key: key,
            }),
            Format::Table => print(&format!(
                "Made the root key {}.\n  private half  {}\n  public half   {}\nNext: keep two copies of the private \
                 half in two places, and give the public half to whoever drafts the root.",
                key.kid(),
                self.file.display(),
                public.display()
            )),
        }
    }
}

impl CreateArgs {
    pub(super) fn run(self, format: Format) -> Result<(), CliError> {
        let root = Root {
            issuer: self.issuer.as_str().to_owned(),
            environment: self.environment.as_str().to_owned(),
            version: 1,
            threshold: self.holders.threshold,
            keys: self.holders.keys()?,
            created: today(),
            development: self.environment.is_development(),
        };
        draft(root, None, &self.holders.out, format)
    }
}

impl RotateArgs {
    pub(super) fn run(self, format: Format) -> Result<(), CliError> {
        let roots = Published::new(&self.published).roots_from(self.trust_root).map_err(refusal_or_fault)?;
        let Some(newest) = roots.last() else { return Err(CliError::refused("nothing was published there")) };
        let root = Root {
            version: newest.version + 1,
            threshold: self.holders.threshold,
            keys: self.holders.keys()?,
            created: today().max(newest.created),
            ..Root::clone(newest)
        };
        draft(root, Some(newest), &self.holders.out, format)
    }
}

impl HolderArgs {
    fn keys(&self) -> Result<Vec<Jwk>, CliError> {
        let mut keys = Vec::with_capacity(self.holders.len());
        for path in &self.holders {
            let json =
                std::fs::read(path).map_err(CliError::fault(format!("could not read {}", path.display())))?;
            let refused = |source| refusal_or_fault(CeremonyError::HolderKey { path: path.clone(), source });
            keys.push(Jwk::from_json(&json).map_err(refused)?);
        }
        keys.sort_by_key(Jwk::kid);
        Ok(keys)
    }
}

fn draft(root: Root, previous: Option<&Verified<Root>>, out: &Path, format: Format) -> Result<(), CliError> {
    let signed = SignedRoot::new(root).map_err(|error| CliError::refused(error.to_string()))?;
    let document = Document::Root(signed);
    let standings = document.standings(previous).map_err(|error| CliError::refused(error.to_string()))?;
    write_once(out, document.to_canonical_json().as_bytes(), 0o644)
        .map_err(CliError::fault(format!("could not write {}", out.display())))?;
    let answer = DocumentAnswer::new(out, &document, &standings);
    match format {
        Format::Json => print_json(&answer),
        Format::Table => print(&format!("Drafted {answer}\n{}", next(&document, &standings))),
    }
}

/// Whole seconds, as documents tell it.
fn today() -> Timestamp {
    Timestamp::from_unix(Clock::system().now().timestamp()).unwrap_or(Timestamp::MAX)
}

#[derive(Serialize)]
struct NewKeyAnswer {
    kid: String,
    private_half: String,
    public_half: String,
    public_key: Jwk,
}
