//! For `build.rs`: checks the embedded key set, fails the build with a sentence, and hands the files to the compiler.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::EmbeddingError;
use super::checks::{Policy, check};
use super::contract::{Contract, ContractError};
use super::files::{DENY_LIST, Folder, JWKS, LOCK, MANIFEST, ROOT, read};

/// What a build script says about the key set that its backend embeds.
///
/// ```no_run
/// // build.rs
/// token_authority_verifier::build::BuildScript::new("keys/production")
///     .environment("production")
///     .audience("gitlab-ai-gateway")
///     .contract("contract.json")
///     .run();
/// ```
///
/// The backend then has [`include_key_set!`](crate::include_key_set).
#[derive(Clone, Debug)]
pub struct BuildScript {
    folder: PathBuf,
    environment: Option<String>,
    audience: Option<String>,
    contract: Option<PathBuf>,
    allow_development: Option<bool>,
}

impl BuildScript {
    /// The folder that `token-authority key-set embed` wrote, relative to the package.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        let folder = folder.into();
        Self { folder, environment: None, audience: None, contract: None, allow_development: None }
    }

    /// Fails the build if the set is of another environment.
    #[must_use]
    pub fn environment(mut self, name: impl Into<String>) -> Self {
        self.environment = Some(name.into());
        self
    }

    /// Fails the build if no key may sign for this audience, the catalog's `jwt_aud` of the backend.
    #[must_use]
    pub fn audience(mut self, audience: impl Into<String>) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// The backend's contract, relative to the package: the unit primitives that it enforces.
    #[must_use]
    pub fn contract(mut self, file: impl Into<PathBuf>) -> Self {
        self.contract = Some(file.into());
        self
    }

    /// Whether a root that was made for development may be trusted. Unless told, builds with optimizations
    /// (`PROFILE` is `release`) do not.
    #[must_use]
    pub fn allow_development(mut self, allow: bool) -> Self {
        self.allow_development = Some(allow);
        self
    }

    /// Checks, and writes what [`include_key_set!`](crate::include_key_set) includes. On a refusal it tells the
    /// sentence as Cargo's error and ends the build.
    #[expect(clippy::print_stdout, reason = "this is how a build script speaks to Cargo")]
    pub fn run(self) {
        for watched in [Some(&self.folder), self.contract.as_ref()].into_iter().flatten() {
            println!("cargo::rerun-if-changed={}", watched.display());
        }
        println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
        let release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
        let outcome = match env::var_os("OUT_DIR") {
            Some(out_dir) => {
                self.write(Path::new(&out_dir), release, build_time()).map_err(|error| sentence(&error))
            }
            None => Err("this runs in a build script: Cargo sets OUT_DIR there".to_owned()),
        };
        if let Err(sentence) = outcome {
            println!("cargo::error={sentence}");
            std::process::exit(1);
        }
    }

    /// The same into any folder and at any time, for tests.
    ///
    /// # Errors
    /// See [`EmbeddingError`].
    pub fn write(&self, out_dir: &Path, release: bool, now: SystemTime) -> Result<(), EmbeddingError> {
        let folder = Folder::read(&self.folder)?;
        let policy = Policy {
            environment: self.environment.clone(),
            audience: self.audience.clone(),
            allow_development: self.allow_development.unwrap_or(!release),
            now,
        };
        check(&folder.open()?, &policy)?;
        let contract = self.contract.as_deref().map(read_contract).transpose()?;

        // What was checked is what is compiled in: the compiler reads these copies.
        folder.write(&out_dir.join("key_set"))?;
        let code = code(folder.embedded().deny_list.is_some(), contract.as_ref());
        let path = out_dir.join("key_set.rs");
        fs::write(&path, code).map_err(EmbeddingError::io("write", &path))
    }
}

/// When the build takes place: `SOURCE_DATE_EPOCH` if it is set, so that a build of last year can be repeated bit by
/// bit (<https://reproducible-builds.org/specs/source-date-epoch/>), otherwise now.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "a build has no clock but the machine's")]
pub fn build_time() -> SystemTime {
    let epoch = env::var("SOURCE_DATE_EPOCH").ok().and_then(|seconds| seconds.parse().ok());
    epoch.map_or_else(SystemTime::now, |seconds| UNIX_EPOCH + Duration::from_secs(seconds))
}

fn read_contract(path: &Path) -> Result<Contract, EmbeddingError> {
    let json = read(path)?.ok_or_else(|| ContractError::Malformed {
        path: path.to_owned(),
        why: "there is no such file".to_owned(),
    })?;
    Ok(Contract::parse(&json, path)?)
}

/// One line, as Cargo prints it.
fn sentence(error: &EmbeddingError) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        let because = source.to_string();
        if !text.contains(&because) {
            let _ = write!(text, ": {because}");
        }
        next = source.source();
    }
    text.replace('\n', " ")
}

fn code(has_deny_list: bool, contract: Option<&Contract>) -> String {
    let file = |name: &str| format!("include_bytes!(concat!(env!(\"OUT_DIR\"), \"/key_set/{name}\"))");
    let deny_list = if has_deny_list { format!("Some({})", file(DENY_LIST)) } else { "None".to_owned() };
    let mut code = format!(
        "/// The key set of this build.\n\
         pub(crate) static KEY_SET: ::token_authority_verifier::EmbeddedKeySet<'static> =\n    \
         ::token_authority_verifier::EmbeddedKeySet {{\n        \
         lock: {},\n        root: {},\n        manifest: {},\n        jwks: {},\n        deny_list: {deny_list},\n    }};\n",
        file(LOCK),
        file(ROOT),
        file(MANIFEST),
        file(JWKS),
    );
    let Some(Contract { backend, unit_primitives }) = contract else { return code };
    let _ = write!(
        code,
        "\n/// This backend's name in the catalog.\n\
         #[allow(dead_code, reason = \"for backends that report themselves\")]\npub(crate) const BACKEND: &str = {backend:?};\n\n\
         /// What this backend enforces, as its contract says.\n\
         #[allow(dead_code, reason = \"for backends that tell it\")]\npub(crate) const ENFORCES: &[&str] = &{unit_primitives:?};\n\n\
         /// The unit primitives of the contract. What is named here and nowhere enforced is dead code, and the\n\
         /// compiler says so; what is enforced and not named here does not compile.\n\
         pub(crate) mod unit_primitives {{\n"
    );
    for name in unit_primitives {
        let _ = writeln!(code, "    pub(crate) const {}: &str = {name:?};", name.to_uppercase());
    }
    code.push_str("}\n");
    code
}
