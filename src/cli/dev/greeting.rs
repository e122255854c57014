//! What `dev` prints when it is ready: commands to paste, or one line of JSON.

use std::net::TcpListener;
use std::path::PathBuf;

use serde::Serialize;

use super::CliError;
use super::data_directory::DataDirectory;
use super::environment::{Environment, quote};
use super::state::Credentials;
use crate::embedded_postgres::Cluster;
use crate::rotation::init::Born;

/// What a program needs to use the deployment. Its `Debug` would show credentials, so it has none.
#[derive(Serialize)]
pub(super) struct Ready {
    base_url: String,
    issuer: String,
    admin_token: String,
    activation_code: String,
    database_url: String,
    environment: Environment,
}

impl Ready {
    pub(super) fn new(
        listener: &TcpListener,
        issuer: &str,
        credentials: &Credentials,
        environment: Environment,
    ) -> Result<Self, CliError> {
        let address = listener.local_addr().map_err(CliError::fault("could not learn the port"))?;
        Ok(Self {
            base_url: format!("http://{address}"),
            issuer: issuer.to_owned(),
            admin_token: credentials.admin_token.expose().to_owned(),
            activation_code: credentials.activation_code.expose().to_owned(),
            database_url: environment.database_url().to_owned(),
            environment,
        })
    }

    /// For a terminal. All of it is a script for a POSIX shell with curl, the words as its comments: without
    /// quotes and brackets, since some shells read comments that are typed.
    pub(super) fn greeting(&self, directory: &DataDirectory, cluster: &Cluster, born: &Born) -> String {
        let Self { base_url, issuer, admin_token, activation_code, .. } = self;
        let program = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("token-authority"));
        let program = quote(&program.to_string_lossy());
        let key_set = directory.keys().join(format!("development/{:04}.jwks.json", born.key_set_version));
        let key_set = quote(&key_set.to_string_lossy());
        let environment = quote(&directory.environment_file().to_string_lossy());
        let data = directory.path().display();
        let began = if cluster.is_new() { "made just now" } else { "as it was left" };
        let major = cluster.programs().major();
        let issued_as = match base_url == issuer {
            true => String::new(),
            false => format!("\n# Tokens name {issuer} as their issuer, since the first start."),
        };
        format!(
            r#"# token-authority answers at {base_url} and explains itself at {base_url}/docs
# Its data, {began}, is in {data} with a PostgreSQL {major} of its own.{issued_as}
# Token for the admin API: {admin_token}

# Paste what follows into another terminal.

# 1. Activate an instance with the code that the demo customer bought.
instance=$(curl -fsS {base_url}/v1/instances -H 'Content-Type: application/json' -d '{{
  "activation_code": "{activation_code}",
  "instance_id": "{DEMO_INSTANCE}", "hostname": "gitlab.example.com",
  "version": "17.6.0", "deployment": "self_managed"}}')
uid=$(printf '%s' "$instance" | sed 's/.*"instance_uid":"\([^"]*\)".*/\1/')
secret=$(printf '%s' "$instance" | sed 's/.*"instance_secret":"\([^"]*\)".*/\1/')
printf '%s\n' "$instance"

# 2. Sync: a short-lived token for each backend that hosts something bought.
sync=$(curl -fsS {base_url}/v1/sync -u "$uid:$secret" -H 'Content-Type: application/json' -d '{{"version": "17.6.0"}}')
printf '%s\n' "$sync"

# 3. Verify the last of the tokens offline, as its backend does.
audience=$(printf '%s' "$sync" | sed 's/.*"audience":"\([^"]*\)".*/\1/')
token=$(printf '%s' "$sync" | sed 's/.*"token":"\([^"]*\)".*/\1/')
{program} token verify "$token" --audience "$audience" --issuer {issuer} \
  --key-set {key_set}

# Other commands reach this deployment after: . {environment}
# Ctrl-C stops the service and its PostgreSQL. The next start goes on with this data, one with --reset anew."#
        )
    }
}

/// Always the same, so that pasting twice activates one instance twice instead of two.
const DEMO_INSTANCE: &str = "3f0c9a52-6a1e-4c1b-9a3e-0d5b8f7c2e11";
