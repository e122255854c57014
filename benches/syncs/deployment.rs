//! A deployment of the service on a database of its own, made with the commands that an operator would use.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use token_authority::catalog_files;
use token_authority::config::Settings;
use token_authority::domain::catalog::Catalog;
use token_authority::domain::sealed::SecretName;
use token_authority::keystore::{Keystore, kek_file};
use token_authority::storage::{Database, sealed_secrets};

use super::child::{Role, Server, free_address};
use super::outcome::{Fault, Outcome};

pub(crate) const ISSUER: &str = "https://tokens.example.com";

/// Its settings, and the folder of its keys, which goes with this value.
#[derive(Debug)]
pub(crate) struct Deployment {
    directory: tempfile::TempDir,
    database_url: String,
}

impl Deployment {
    /// Migrates an empty database and makes its first keys.
    pub(crate) fn make(database_url: String) -> Outcome<Self> {
        let deployment = Self { directory: tempfile::tempdir()?, database_url };
        kek_file::create(&deployment.directory.path().join("kek"))?;
        for command in ["migrate", "init"] {
            let output = deployment.command(PROGRAM, free_address()?).arg(command).output()?;
            if !output.status.success() {
                return Err(Fault::new(String::from_utf8_lossy(&output.stderr).into_owned()));
            }
        }
        Ok(deployment)
    }

    pub(crate) fn database_url(&self) -> &str {
        &self.database_url
    }

    /// The settings as this process would read them.
    pub(crate) fn settings(&self) -> Outcome<Settings> {
        Ok(Settings::from_sources(None, self.variables(free_address()?))?)
    }

    /// The service, as it is run in production.
    pub(crate) fn serve(&self) -> Outcome<Server> {
        let address = free_address()?;
        let mut command = self.command(PROGRAM, address);
        command.arg("serve");
        Server::start(&mut command, address)
    }

    /// The naive service, in the same environment.
    pub(crate) fn serve_naively(&self) -> Outcome<Server> {
        let address = free_address()?;
        let mut command = self.command(std::env::current_exe()?, address);
        Server::start(command.args(Role::Naive.arguments()), address)
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>, listen: SocketAddr) -> Command {
        let mut command = Command::new(program);
        command.envs(self.variables(listen)).stdout(Stdio::null());
        command
    }

    /// What an operator must set; everything else is as by default.
    fn variables(&self, listen: SocketAddr) -> Vec<(String, String)> {
        let directory = self.directory.path();
        let path = |name: &str| directory.join(name).display().to_string();
        let catalog = Path::new(env!("CARGO_MANIFEST_DIR")).join("catalog");
        let settings = [
            ("DATABASE_URL", self.database_url.clone()),
            ("KEK_FILE", path("kek")),
            ("ROOT_KEY_FILE", path("root")),
            ("KEYS_DIR", path("keys")),
            ("CATALOG_DIR", catalog.display().to_string()),
            ("ISSUER", ISSUER.to_owned()),
            ("ENVIRONMENT", "development".to_owned()),
            ("LISTEN", listen.to_string()),
            // All of the load comes from one address.
            ("CONNECTIONS_PER_ADDRESS", "10000".to_owned()),
            ("METRICS_LISTEN", "127.0.0.1:0".to_owned()),
            ("LOG_FILTER", "warn".to_owned()),
        ];
        settings.map(|(name, value)| (format!("TOKEN_AUTHORITY_{name}"), value)).into()
    }
}

/// The program that this bench was built with.
const PROGRAM: &str = env!("CARGO_BIN_EXE_token-authority");

/// The catalog that the settings name.
pub(crate) fn catalog(settings: &Settings) -> Outcome<Catalog> {
    Ok(catalog_files::read(settings.catalog_dir()?)?)
}

/// The database that the settings name.
pub(crate) fn database(settings: &Settings, connections: u32) -> Outcome<Database> {
    Ok(Database::new(&settings.database_url()?, connections)?)
}

/// The keystore of a deployment.
pub(crate) async fn keystore(settings: &Settings, database: &Database) -> Outcome<Keystore> {
    let mut tx = database.begin().await?;
    let environment = settings.environment.as_str();
    let digest_key = sealed_secrets::find_latest(&mut tx, environment, SecretName::DigestKey).await?;
    let digest_key = digest_key.ok_or_else(|| Fault::new("the deployment has no keys"))?;
    Ok(Keystore::open(Arc::new(kek_file::read(settings.kek_file()?)?), &digest_key)?)
}
