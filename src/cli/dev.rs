//! `dev`: everything on one machine with one command: a PostgreSQL of its own, keys, a catalog, a demo customer,
//! and the service.

mod data_directory;
mod demo;
mod environment;
mod greeting;
mod listening;
mod state;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::catalog::check_token_sizes;
use super::keystore::open_keystore;
use super::output::{print, print_json, warn};
use super::rotation::{actor, refusal_or_fault};
use super::runtime::block_on;
use super::service::Service;
use super::signals::StopSignals;
use super::{CliError, Format, GlobalArgs};
use crate::catalog_files;
use crate::clock::Clock;
use crate::config::Settings;
use crate::domain::catalog::Catalog;
use crate::embedded_postgres::{Cluster, ClusterError, Search};
use crate::keystore::kek_file;
use crate::rotation::init::{Birth, Born, init};
use crate::storage::{self, Database};
use crate::telemetry::start_logs;

use data_directory::DataDirectory;
use demo::Demo;
use environment::Environment;
use greeting::Ready;
use listening::Listening;
use state::State;

/// Run everything on this machine, to try it out and to develop against it, until SIGTERM or Ctrl-C.
///
/// The first start makes a PostgreSQL cluster, keys, a catalog to edit and a demo customer in the data directory.
/// Later ones go on with them and print the same credentials.
#[derive(Args, Debug)]
pub(crate) struct DevArgs {
    /// Where to answer HTTP; 0 is any free port. The one of the first start when it is not given, which is 8080
    /// if that is free.
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// Where everything is kept. As root /var/lib/token-authority/dev, else token-authority/dev under
    /// $XDG_DATA_HOME.
    #[arg(long, value_name = "D")]
    data_dir: Option<PathBuf>,
    /// Forget everything that is kept there, and start anew.
    #[arg(long)]
    reset: bool,
}

impl DevArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let directory = DataDirectory::open(self.data_dir)?;
        if self.reset {
            directory.reset()?;
        }
        block_on(serve(directory, self.port, global))
    }
}

async fn serve(directory: DataDirectory, port: Option<u16>, global: &GlobalArgs) -> Result<(), CliError> {
    let mut signals = StopSignals::listen()?;
    let started = tokio::select! {
        started = start(&directory, port, global) => started?,
        // Whatever runs by now ends with what holds it.
        () = signals.next() => {
            warn("stopped before it was ready");
            return Ok(());
        }
    };
    let Started { service, settings, cluster, ready, born } = started;
    match global.format {
        Format::Json => print_json(&ready)?,
        Format::Table => print(&ready.greeting(&directory, &cluster, &born))?,
    }

    // The first signal asks, the second one insists.
    let mut insist = StopSignals::listen()?;
    let mut cluster = Some(cluster);
    let mut lost = Ok(());
    let stop = async {
        tokio::select! {
            () = signals.next() => {}
            error = keep_alive(&mut cluster, &directory, &settings) => lost = Err(error),
        }
    };
    let stop_now = async move {
        insist.next().await;
        insist.next().await;
    };
    let served = service.run_until(stop, stop_now).await;
    if let Some(cluster) = cluster {
        blocking(move || cluster.stop()).await?;
    }
    lost.and(served)
}

/// Starts PostgreSQL again whenever it ends by itself: the service answers 503 until it is back. Returns only
/// when it cannot be started.
async fn keep_alive(
    cluster: &mut Option<Cluster>,
    directory: &DataDirectory,
    settings: &Settings,
) -> CliError {
    loop {
        if let Some(running) = cluster.as_mut() {
            has_ended(running).await;
        }
        // What is left of the old one holds the directory.
        if let Some(ended) = cluster.take() {
            warn(&format!(
                "PostgreSQL ended by itself and is started again; its log is {}",
                ended.log().display()
            ));
            if let Err(error) = blocking(move || ended.stop()).await {
                return error;
            }
        }
        let mut attempts = 0;
        *cluster = loop {
            match start_cluster(directory, settings).await {
                Ok(started) => break Some(started),
                // Processes of a killed server take a moment to notice, and hold its memory until then.
                Err(_) if attempts < RESTARTS => {
                    attempts += 1;
                    tokio::time::sleep(BETWEEN_RESTARTS).await;
                }
                Err(error) => return error,
            }
        };
    }
}

const RESTARTS: u32 = 20;
const BETWEEN_RESTARTS: Duration = Duration::from_millis(500);

/// What runs, in the order in which it must end.
struct Started {
    service: Service,
    settings: Arc<Settings>,
    cluster: Cluster,
    ready: Ready,
    born: Born,
}

async fn start(
    directory: &DataDirectory,
    port: Option<u16>,
    global: &GlobalArgs,
) -> Result<Started, CliError> {
    // 1. The port, since the issuer of the first start is named after it, and that for good.
    let mut state = State::read_or_new(directory)?;
    let listening = Listening::choose(port, state.port())?;
    let issuer = state.fix_issuer(&listening).to_owned();
    state.save(directory)?;

    // 2. PostgreSQL.
    let mut environment = Environment::new(directory, &issuer)?;
    let settings = environment.settings(global, &listening)?;
    start_logs(settings.log_format, &settings.log_filter).map_err(CliError::fault("could not log"))?;
    let cluster = start_cluster(directory, &settings).await?;
    environment.set_database_url(cluster.url(DATABASE));
    let settings = environment.settings(global, &listening)?;

    // 3. What an administrator of a deployment does once: database, schema, keys, catalog.
    let database = prepare_database(&settings).await?;
    let born = make_keys(directory, &settings, &database).await?;
    let catalog = read_catalog(directory, &mut state, &settings)?;

    // 4. What its customers and backends do once.
    let keystore = open_keystore(&settings, &database).await?;
    let demo = Demo {
        clock: &Clock::system(),
        database: &database,
        keystore: &keystore,
        catalog: &catalog,
        settings: &settings,
    };
    let credentials = demo.find_or_make(directory, &mut state).await?;
    demo.register_backends().await?;

    // 5. The service.
    environment.write(directory)?;
    let sockets = listening.into_sockets(&settings)?;
    let ready = Ready::new(&sockets.public, &issuer, &credentials, environment)?;
    let settings = Arc::new(settings);
    let service = Service::start_on(sockets, Arc::clone(&settings), database, keystore, catalog).await?;
    Ok(Started { service, settings, cluster, ready, born })
}

async fn start_cluster(directory: &DataDirectory, settings: &Settings) -> Result<Cluster, CliError> {
    let search = Search::everywhere(settings.postgres_bin.clone(), warn);
    let path = directory.path().to_owned();
    blocking(move || Cluster::start_in(&path, &search)).await
}

/// A cluster's calls block; the runtime must not.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ClusterError> + Send + 'static,
) -> Result<T, CliError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Ok(done?),
        Err(panic) => Err(CliError::fault("the work on PostgreSQL ended early")(panic)),
    }
}

async fn has_ended(cluster: &mut Cluster) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    while cluster.is_running() {
        tick.tick().await;
    }
}

async fn prepare_database(settings: &Settings) -> Result<Database, CliError> {
    let url = settings.database_url()?;
    storage::create_if_missing(&url).await.map_err(CliError::fault("could not make the database"))?;
    let database = Database::new(&url, settings.database_connections.get())
        .map_err(CliError::fault("could not use the database"))?;
    database.migrate().await.map_err(CliError::fault("could not migrate the database"))?;
    Ok(database)
}

async fn make_keys(
    directory: &DataDirectory,
    settings: &Settings,
    database: &Database,
) -> Result<Born, CliError> {
    let kek_path = directory.kek_file();
    if !kek_path.exists() {
        kek_file::create(&kek_path).map_err(CliError::fault("could not make the key-encryption key"))?;
    }
    let kek = kek_file::read(&kek_path).map_err(CliError::fault("could not use the key-encryption key"))?;
    let birth = Birth {
        environment: settings.environment.as_str(),
        issuer: settings.issuer()?.as_str(),
        keys_dir: &settings.keys_dir,
        kek: &kek,
        root_key_file: settings.root_key_file.as_deref(),
        token_algs: &settings.token_algs,
        is_development: true,
        actor: &actor(),
    };
    init(database, &birth, &Clock::system()).await.map_err(refusal_or_fault("could not make the keys"))
}

/// The catalog of the setting `catalog_dir`, else the copy of the example in the data directory. That follows
/// the program's example until somebody edits it.
fn read_catalog(
    directory: &DataDirectory,
    state: &mut State,
    settings: &Settings,
) -> Result<Catalog, CliError> {
    let refused = |error: catalog_files::InvalidCatalogFiles| CliError::refused(error.to_string());
    let path = settings.catalog_dir()?;
    if path == directory.catalog() {
        let example = catalog_files::example().map_err(refused)?;
        let is_copied = |catalog: &Catalog| state.copied_example() == Some(catalog.digest().as_str());
        let unedited = || catalog_files::read(path).is_ok_and(|copy| is_copied(&copy));
        if !path.exists() || (!is_copied(&example) && unedited()) {
            directory.write_example()?;
            state.copy_example(example.digest().as_str());
            state.save(directory)?;
        }
    }
    let catalog = catalog_files::read(path).map_err(refused)?;
    check_token_sizes(&catalog, settings)?;
    Ok(catalog)
}

/// The name of the database within the cluster.
const DATABASE: &str = "token_authority";
