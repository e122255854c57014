//! `keys root record`: the service takes the next root in.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::cli::confirm::ConfirmArgs;
use crate::cli::database::open_migrated;
use crate::cli::output::{print, print_json};
use crate::cli::rotation::{actor, refusal_or_fault};
use crate::cli::runtime::block_on;
use crate::cli::{CliError, Format, GlobalArgs};
use crate::clock::Clock;
use crate::rotation::roots::{self, NewRoot, RecordedRoot};

/// Take in the next root, which the holders of the old and of the new one have signed, and publish it.
#[derive(Args, Debug)]
pub(crate) struct RecordArgs {
    /// The signed root.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Why so few holders of the root before it are left that they cannot sign: takes the new one without them. Every
    /// backend then has to be told of it with `--trust-root`.
    #[arg(long, value_name = "REASON")]
    lost: Option<String>,
    #[command(flatten)]
    confirm: ConfirmArgs,
}

impl RecordArgs {
    pub(super) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let settings = global.settings()?;
        if self.lost.is_some() {
            self.confirm.ask("Replace the root without its consent? No backend follows by itself.")?;
        }
        let file = std::fs::read(&self.file)
            .map_err(CliError::fault(format!("could not read {}", self.file.display())))?;
        let recorded = block_on(async {
            let database = open_migrated(&settings).await?;
            let new = NewRoot {
                environment: settings.environment.as_str(),
                keys_dir: &settings.keys_dir,
                file: &file,
                is_development: settings.environment.is_development(),
                lost: self.lost.as_deref(),
                actor: &actor(),
            };
            roots::record(&database, &new, &Clock::system())
                .await
                .map_err(refusal_or_fault("could not record the root"))
        })?;
        match global.format {
            Format::Json => print_json(&Answer::new(&recorded)),
            Format::Table => print(&story(&recorded)),
        }
    }
}

fn story(recorded: &RecordedRoot) -> String {
    let RecordedRoot { version, digest, threshold, keys, is_new, written } = recorded;
    let mut story = match is_new {
        true => {
            format!("Recorded root {version}: {threshold} of {keys} keys have to sign.\n  digest {digest}")
        }
        false => format!("Root {version} is recorded already. Nothing was changed.\n  digest {digest}"),
    };
    if let Some(path) = written {
        story.push_str(&format!("\n  wrote {}", path.display()));
    }
    story.push_str(
        "\nNext: commit it. The next key set is signed by this root; the keys of the old one sign no more.",
    );
    story
}

#[derive(Serialize)]
struct Answer {
    version: u32,
    digest: String,
    threshold: u32,
    keys: usize,
    is_new: bool,
    written: Option<String>,
}

impl Answer {
    fn new(recorded: &RecordedRoot) -> Self {
        Self {
            version: recorded.version,
            digest: recorded.digest.to_string(),
            threshold: recorded.threshold,
            keys: recorded.keys,
            is_new: recorded.is_new,
            written: recorded.written.as_ref().map(|path| path.display().to_string()),
        }
    }
}
