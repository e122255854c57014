//! `key-set check-deploy`: whether a build may be deployed, asked of the running service.

use std::path::{Path, PathBuf};

use clap::Args;
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::json;
use token_authority_verifier::Lock;
use token_authority_verifier::build::{Contract, Folder, LOCK};
use url::Url;

use super::policy::refusal;
use super::service::{KeySets, Service};
use crate::cli::output::{print, print_json};
use crate::cli::runtime::block_on;
use crate::cli::{CliError, Format, GlobalArgs};
use crate::domain::catalog::BackendName;

/// Check that a build may be deployed: that the running service knows its key set, and that the set is not below
/// the floor.
///
/// For the step before a deployment. A service that cannot be reached is a "no", too: what would be deployed may be
/// a build that is long out of date. A process that runs never depends on this.
#[derive(Args, Debug)]
pub(crate) struct CheckDeployArgs {
    /// The running service.
    #[arg(long, value_name = "URL")]
    url: Url,
    /// The folder that the build has embedded, or its keyset.lock alone.
    #[arg(long, value_name = "DIR|FILE")]
    embedded: PathBuf,
    /// Record the check as evidence that this backend holds the keys of the set, also while none of its processes
    /// runs.
    #[arg(long, requires_all = ["backend", "build", "token_file"])]
    record: bool,
    /// For --record: the backend's name in the catalog.
    #[arg(long, value_name = "NAME", requires = "record")]
    backend: Option<BackendName>,
    /// For --record: what is deployed, a version, a commit, the digest of an image.
    #[arg(long, value_name = "ID", requires = "record")]
    build: Option<String>,
    /// For --record: the backend's `contract.json`, so that the issuer knows what the build enforces.
    #[arg(long, value_name = "FILE", requires = "record")]
    contract: Option<PathBuf>,
    /// For --record: the file that holds the backend's token (`tab_…`).
    #[arg(long, value_name = "FILE", requires = "record", env = "TOKEN_AUTHORITY_BACKEND_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

/// The evidence that is recorded.
struct Evidence {
    backend: BackendName,
    build: String,
    /// What the build enforces.
    contract: Option<Contract>,
    token: SecretString,
}

/// What the service says that the evidence is worth.
#[derive(Debug, Deserialize, Serialize)]
struct Recorded {
    build: String,
    /// The keys for which the check counts.
    kids: Vec<String>,
}

impl CheckDeployArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let lock = read_lock(&self.embedded)?;
        let service = Service::new(&self.url)?;
        let evidence = self.evidence()?;
        let (key_sets, recorded) = block_on(async {
            let (issuer, key_sets) = (service.issuer().await?, service.key_sets().await?);
            check(&lock, &issuer, &key_sets)?;
            let recorded = match &evidence {
                Some(evidence) => Some(record(&service, &lock, evidence).await?),
                None => None,
            };
            Ok((key_sets, recorded))
        })?;
        let document = Document {
            deployable: true,
            environment: &lock.environment,
            key_set_version: lock.key_set_version,
            floor: key_sets.floor,
            head: key_sets.head,
            recorded,
        };
        match global.format {
            Format::Json => print_json(&document),
            Format::Table => document.print(),
        }
    }

    fn evidence(self) -> Result<Option<Evidence>, CliError> {
        let (Some(backend), Some(build), Some(file)) = (self.backend, self.build, self.token_file) else {
            return Ok(None);
        };
        let token = std::fs::read_to_string(&file)
            .map_err(CliError::fault(format!("could not read the token in {}", file.display())))?;
        let contract = self.contract.map(|file| read_contract(&file, &backend)).transpose()?;
        Ok(Some(Evidence { backend, build, contract, token: token.trim().into() }))
    }
}

async fn record(service: &Service, lock: &Lock, evidence: &Evidence) -> Result<Recorded, CliError> {
    let path = format!("v1/backends/{}/checked-builds", evidence.backend);
    let body = json!({
        "build": evidence.build,
        "key_set_version": lock.key_set_version,
        "key_set_digest": lock.key_set_digest,
        "enforces": evidence.contract.as_ref().map(|contract| &contract.unit_primitives),
    });
    let request = service.request(Method::POST, &path)?.bearer_auth(evidence.token.expose_secret());
    service.json(request.json(&body)).await
}

fn read_contract(file: &Path, backend: &BackendName) -> Result<Contract, CliError> {
    let json = std::fs::read(file).map_err(CliError::fault(format!("could not read {}", file.display())))?;
    let contract = Contract::parse(&json, file).map_err(|error| CliError::refused(error.to_string()))?;
    if contract.backend != backend.as_str() {
        return Err(CliError::refused(format!(
            "{} is the contract of `{}`, not of `{backend}`",
            file.display(),
            contract.backend
        )));
    }
    Ok(contract)
}

/// The lock in the folder, whose files must fit it, or the lock alone.
fn read_lock(path: &Path) -> Result<Lock, CliError> {
    if path.is_dir() {
        let set = Folder::read(path).and_then(|files| files.open()).map_err(refusal)?;
        return Ok(set.lock().clone());
    }
    let json = std::fs::read(path).map_err(CliError::fault(format!("could not read {}", path.display())))?;
    Lock::parse(&json).map_err(|error| CliError::refused(format!("{}: {error}", path.display())))
}

fn check(lock: &Lock, issuer: &str, key_sets: &KeySets) -> Result<(), CliError> {
    let refuse = |sentence: String| Err(CliError::refused(sentence));
    let version = lock.key_set_version;
    if lock.issuer != issuer {
        return refuse(format!(
            "this build trusts the issuer {}, but the service is {issuer}: its tokens would all be refused",
            lock.issuer
        ));
    }
    match key_sets.items.iter().find(|item| item.version == version) {
        None => refuse(format!(
            "the service knows no key set {version} (its newest is {}): the build is for another environment, or \
             the service was restored from an older backup",
            key_sets.head
        )),
        Some(item) if item.digest != lock.key_set_digest => refuse(format!(
            "the service's key set {version} has the digest {}, but {LOCK} says {}: the build is for another \
             environment, or its set is forged",
            item.digest, lock.key_set_digest
        )),
        Some(_) if version < key_sets.floor => refuse(format!(
            "key set {version} is below the floor {}: tokens may be signed by keys that this build does not \
             hold. Take the newest set (`token-authority key-set embed`) into the code that you want to deploy, \
             and build it again",
            key_sets.floor
        )),
        Some(_) => Ok(()),
    }
}

#[derive(Serialize)]
struct Document<'a> {
    deployable: bool,
    environment: &'a str,
    key_set_version: u32,
    floor: u32,
    head: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded: Option<Recorded>,
}

impl Document<'_> {
    fn print(&self) -> Result<(), CliError> {
        let Self { environment, key_set_version, floor, head, .. } = self;
        let newer = match head - key_set_version.min(head) {
            0 => "the newest there is".to_owned(),
            _ => format!("while {head} is the newest: embed it soon, a rotation waits for it"),
        };
        print(&format!(
            "May be deployed: key set {key_set_version} of `{environment}` is not below the floor ({floor}), and \
             is {newer}."
        ))?;
        match &self.recorded {
            Some(Recorded { build, kids }) => {
                print(&format!("Recorded: {build} holds {}.", kids.join(" and ")))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use token_authority_verifier::Digest;

    use super::*;

    fn lock(version: u32) -> Lock {
        Lock {
            issuer: "https://authority.example.com".to_owned(),
            environment: "production".to_owned(),
            root_version: 1,
            root_digest: Digest::of(b"root"),
            key_set_version: version,
            key_set_digest: Digest::of(version.to_string().as_bytes()),
            deny_list_serial: None,
        }
    }

    fn told(lock: &Lock, issuer: &str, floor: u32) -> Option<String> {
        let items = (1..=7).map(|version| super::super::service::KeySetItem {
            version,
            digest: Digest::of(version.to_string().as_bytes()),
        });
        let key_sets = KeySets { items: items.collect(), head: 7, floor };
        check(lock, issuer, &key_sets).err().map(|error| error.to_string())
    }

    #[test]
    fn a_build_below_the_floor_or_of_another_issuer_is_not_deployed() {
        let issuer = "https://authority.example.com";
        assert_eq!(told(&lock(6), issuer, 6), None);
        assert!(told(&lock(5), issuer, 6).unwrap().contains("below the floor 6"));
        assert!(told(&lock(8), issuer, 6).unwrap().contains("knows no key set 8"));
        assert!(told(&lock(6), "https://other.example", 6).unwrap().contains("would all be refused"));
        let forged = Lock { key_set_digest: Digest::of(b"x"), ..lock(6) };
        assert!(told(&forged, issuer, 6).unwrap().contains("forged"));
    }
}
