//! `import`: sends a file of records to a service over HTTP, shows how far it has come, and goes on after a cut.

mod results;
mod sending;

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use sha2::{Digest, Sha256};
use url::Url;

use results::{Results, Tally};
use sending::{Sending, Stopped};

use super::output::{print, print_json, print_table};
use super::runtime::block_on;
use super::{CliError, Format, GlobalArgs};

/// Send customers, subscriptions, purchases and licenses to a service, one JSON object a line.
///
/// The same file may be sent any number of times: what is recorded already is left as it is. The file with what
/// became of each line holds the activation codes of new licenses; only its owner may read it.
#[derive(Args, Debug)]
pub(crate) struct ImportArgs {
    /// What to send; `docs/api.md` says what a line holds.
    file: PathBuf,
    /// The service, such as `https://tokens.example.com`.
    #[arg(long)]
    url: Url,
    /// A file that holds an admin token with the scope `fulfillment:write`.
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// Where to write what became of each line. Beside the file when it is not given.
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
    /// Change nothing, and tell what would become of each line; up to 1,000 lines.
    #[arg(long)]
    validate_only: bool,
}

/// What is sent, as far as it is known before.
struct Contents {
    /// Those with something in them.
    lines: u64,
    sha256: String,
}

impl ImportArgs {
    pub(crate) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let token = read_token(&self.token_file)?;
        let contents = Contents::read(&self.file)?;
        let path = self.results.clone().unwrap_or_else(|| beside(&self.file));
        let sending =
            Sending::new(&self.url, token, self.file.clone(), &contents.sha256, self.validate_only)?;
        let tally = block_on(send(&sending, &contents, &path))?;
        self.report(global, &tally, &path)
    }

    fn report(&self, global: &GlobalArgs, tally: &Tally, results: &Path) -> Result<(), CliError> {
        match global.format {
            Format::Json => print_json(&json!({
                "import": tally.location,
                "created": tally.created,
                "unchanged": tally.unchanged,
                "refused": tally.refused,
                "replayed": tally.replayed,
                "results": results,
            }))?,
            Format::Table => {
                if !tally.first_refused.is_empty() {
                    let rows = tally.first_refused.iter().map(|refused| refused.row());
                    print_table(&["line", "type", "external_ref", "why"], rows)?;
                    print("")?;
                }
                let before = match tally.replayed {
                    0 => String::new(),
                    replayed => format!(" ({replayed} lines were dealt with when the file was sent before)"),
                };
                print(&format!(
                    "{}: {} created, {} unchanged, {} refused{before}. What became of each line is in {}.",
                    if self.validate_only { "Tried" } else { "Imported" },
                    tally.created,
                    tally.unchanged,
                    tally.refused,
                    results.display()
                ))?;
            }
        }
        if tally.refused == 0 {
            return Ok(());
        }
        let sentence = format!(
            "{} of {} lines were refused; mend them, and send the file again",
            tally.refused,
            tally.lines()
        );
        Err(CliError::refused(sentence))
    }
}

/// Sends until everything is told; after a cut, again.
async fn send(sending: &Sending, contents: &Contents, path: &Path) -> Result<Tally, CliError> {
    let bar = ProgressBar::new(contents.lines).with_style(style()?);
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut furthest = 0;
    let mut delays = DELAYS.iter();
    loop {
        bar.set_position(0);
        let mut results = Results::create(path)?;
        let stopped = match sending.send(&mut results, &bar).await {
            Ok(()) if results.tally().lines() == contents.lines => {
                bar.finish_and_clear();
                return results.finish();
            }
            Ok(()) => Stopped::Cut("the answer has not a line for each of the file's".into()),
            Err(stopped) => stopped,
        };
        let cut = match stopped {
            Stopped::Refused(refusal) => {
                bar.finish_and_clear();
                return Err(refusal);
            }
            Stopped::Cut(why) => why,
        };
        // As long as each attempt comes further, there is no reason to give up.
        if results.tally().lines() > furthest {
            furthest = results.tally().lines();
            delays = DELAYS.iter();
        }
        let Some(delay) = delays.next() else {
            bar.finish_and_clear();
            return Err(CliError::fault("could not send the file to its end; what was told is done")(cut));
        };
        bar.println(format!(
            "cut off after {} lines ({cut}); going on in {delay:?}",
            results.tally().lines()
        ));
        tokio::time::sleep(*delay).await;
    }
}

impl Contents {
    fn read(path: &Path) -> Result<Self, CliError> {
        let doing = || format!("could not read {}", path.display());
        let mut reader = BufReader::new(File::open(path).map_err(CliError::fault(doing()))?);
        let mut digest = Sha256::new();
        let (mut lines, mut line) = (0, Vec::new());
        while reader.read_until(b'\n', &mut line).map_err(CliError::fault(doing()))? > 0 {
            digest.update(&line);
            lines += u64::from(!line.trim_ascii().is_empty());
            line.clear();
        }
        let sha256 = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { lines, sha256 })
    }
}

fn read_token(path: &Path) -> Result<secrecy::SecretString, CliError> {
    let text = std::fs::read_to_string(path)
        .map_err(CliError::fault(format!("could not read the token in {}", path.display())))?;
    Ok(text.trim().into())
}

/// `orders.ndjson` becomes `orders.ndjson.results`.
fn beside(file: &Path) -> PathBuf {
    file.with_added_extension("results")
}

fn style() -> Result<ProgressStyle, CliError> {
    let template = "{bar:32} {human_pos}/{human_len} lines, {per_sec}, {eta} left{msg}";
    ProgressStyle::with_template(template).map_err(CliError::fault("could not show a progress bar"))
}

/// Before each attempt that follows one which came no further.
const DELAYS: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(20),
    Duration::from_secs(30),
];
