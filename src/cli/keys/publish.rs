//! `keys publish` and `keys retire`: the next key set, which brings keys or leaves them out.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;
use token_authority_verifier::Kid;

use super::kid_argument::parse_kid;
use super::site::OpenSite;
use super::words::listed;
use crate::cli::output::{print, print_json};
use crate::cli::rotation::refusal_or_fault;
use crate::cli::runtime::block_on;
use crate::cli::{CliError, Format, GlobalArgs};
use crate::config::Settings;
use crate::rotation::publish::{Draft, NextKeySet, Published, PublishedSet, publish, take_back};

/// Draft the next key set, and publish it.
///
/// Where the root's private half is beside the service (development), it is signed and recorded at once. Elsewhere a
/// draft is written for the holders of the root to sign with `keys root sign`; give it back with `--signed`.
#[derive(Args, Debug)]
pub(crate) struct PublishArgs {
    /// The keys that the set is to bring; without any, every key that was generated.
    #[arg(value_name = "KID", value_parser = parse_kid)]
    kids: Vec<Kid>,
    /// A drained key that the set is to leave out.
    #[arg(long, value_name = "KID", value_parser = parse_kid)]
    without: Vec<Kid>,
    /// The manifest, as the root's holders have signed it: records and publishes its key set.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["kids", "without"])]
    signed: Option<PathBuf>,
}

/// Leave drained keys out of the next key set: their last tokens have expired.
///
/// What is published retires a key. So this drafts and publishes the next key set as `keys publish` does.
#[derive(Args, Debug)]
pub(crate) struct RetireArgs {
    /// The retiring keys that are to be left out.
    #[arg(value_name = "KID", required = true, value_parser = parse_kid)]
    kids: Vec<Kid>,
}

impl PublishArgs {
    pub(super) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let settings = global.settings()?;
        let published = match &self.signed {
            Some(file) => record(&settings, file)?,
            None => {
                let adding = (!self.kids.is_empty()).then(|| self.kids.into_iter().collect());
                draft(&settings, adding, self.without.into_iter().collect())?
            }
        };
        tell(&settings, global.format, &published)
    }
}

impl RetireArgs {
    pub(super) fn run(self, global: &GlobalArgs) -> Result<(), CliError> {
        let settings = global.settings()?;
        let published = draft(&settings, Some(BTreeSet::new()), self.kids.into_iter().collect())?;
        tell(&settings, global.format, &published)
    }
}

fn draft(
    settings: &Settings,
    adding: Option<BTreeSet<Kid>>,
    leaving: BTreeSet<Kid>,
) -> Result<Published, CliError> {
    block_on(async {
        let open = OpenSite::open(settings).await?;
        let next = NextKeySet {
            adding,
            leaving,
            keys_dir: &settings.keys_dir,
            root_key_file: settings.root_key_file.as_deref(),
        };
        publish(&open.site(), &next).await.map_err(refusal_or_fault(PUBLISHING))
    })
}

fn record(settings: &Settings, file: &std::path::Path) -> Result<Published, CliError> {
    let signed = std::fs::read(file)
        .map_err(CliError::fault(format!("could not read the manifest {}", file.display())))?;
    block_on(async {
        let open = OpenSite::open(settings).await?;
        let recorded = take_back(&open.site(), &settings.keys_dir, &signed).await;
        recorded.map(Published::Recorded).map_err(refusal_or_fault(PUBLISHING))
    })
}

fn tell(settings: &Settings, format: Format, published: &Published) -> Result<(), CliError> {
    let next = next(settings, published);
    match (format, published) {
        (Format::Json, Published::Recorded(set)) => print_json(&SetDocument::new(set, &next)),
        (Format::Json, Published::Drafted(draft)) => print_json(&DraftDocument::new(draft, &next)),
        (Format::Table, Published::Recorded(set)) => print(&format!("{}\n{next}", set_story(set))),
        (Format::Table, Published::Drafted(draft)) => print(&format!("{}\n{next}", draft_story(draft))),
    }
}

fn set_story(set: &PublishedSet) -> String {
    let mut lines = match set.is_new {
        true => vec![format!("Published key set {} ({}).", set.version, set.digest)],
        false => vec![format!(
            "Key set {} is the newest, and says that already. Nothing was changed.",
            set.version
        )],
    };
    if !set.published.is_empty() {
        lines.push(format!("  brings {}", listed(&set.published)));
    }
    if !set.retired.is_empty() {
        lines.push(format!("  leaves out {}, retired now", listed(&set.retired)));
    }
    lines.extend(set.written.iter().map(|path| format!("  wrote {}", path.display())));
    lines.join("\n")
}

fn draft_story(draft: &Draft) -> String {
    let mut lines = vec![format!(
        "Drafted key set {} ({}) for version {} of the root: {}. Nothing is published yet.",
        draft.version,
        draft.digest,
        draft.root_version,
        draft.path.display()
    )];
    if !draft.publishes.is_empty() {
        lines.push(format!("  is to bring {}", listed(&draft.publishes)));
    }
    if !draft.leaves_out.is_empty() {
        lines.push(format!("  is to leave out {}", listed(&draft.leaves_out)));
    }
    lines.join("\n")
}

fn next(settings: &Settings, published: &Published) -> String {
    match published {
        Published::Drafted(draft) => format!(
            "Next: {} of the {} holders of the root sign it (`token-authority keys root sign {} --key … --published {}`); \
             then `token-authority keys publish --signed {}`.",
            draft.threshold,
            draft.holders,
            draft.path.display(),
            settings.keys_dir.join(settings.environment.as_str()).display(),
            draft.path.display()
        ),
        Published::Recorded(set) if set.published.is_empty() => format!(
            "Next: commit {}; backends embed it with their next build.",
            settings.keys_dir.join(settings.environment.as_str()).display()
        ),
        Published::Recorded(set) => format!(
            "Next: commit {}; rebuild and deploy every backend with key set {}, then `token-authority keys arm KID`. \
             `token-authority keys plan` says who still lacks it.",
            settings.keys_dir.join(settings.environment.as_str()).display(),
            set.version
        ),
    }
}

const PUBLISHING: &str = "could not publish the next key set";

#[derive(Serialize)]
struct SetDocument<'a> {
    outcome: &'static str,
    version: u32,
    digest: String,
    root_version: u32,
    published: Vec<String>,
    retired: Vec<String>,
    written: Vec<String>,
    next: &'a str,
}

#[derive(Serialize)]
struct DraftDocument<'a> {
    outcome: &'static str,
    version: u32,
    /// Of the manifest's payload.
    manifest_digest: String,
    draft: String,
    root_version: u32,
    threshold: u32,
    holders: usize,
    publishes: Vec<String>,
    leaves_out: Vec<String>,
    next: &'a str,
}

impl<'a> SetDocument<'a> {
    fn new(set: &PublishedSet, next: &'a str) -> Self {
        Self {
            outcome: if set.is_new { "published" } else { "unchanged" },
            version: set.version,
            digest: set.digest.to_string(),
            root_version: set.root_version,
            published: texts(&set.published),
            retired: texts(&set.retired),
            written: set.written.iter().map(|path| path.display().to_string()).collect(),
            next,
        }
    }
}

impl<'a> DraftDocument<'a> {
    fn new(draft: &Draft, next: &'a str) -> Self {
        Self {
            outcome: "drafted",
            version: draft.version,
            manifest_digest: draft.digest.to_string(),
            draft: draft.path.display().to_string(),
            root_version: draft.root_version,
            threshold: draft.threshold,
            holders: draft.holders,
            publishes: texts(&draft.publishes),
            leaves_out: texts(&draft.leaves_out),
            next,
        }
    }
}

fn texts(kids: &BTreeSet<Kid>) -> Vec<String> {
    kids.iter().map(ToString::to_string).collect()
}
