//! All instances at once, each at times of its own.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use tokio::task::JoinSet;

use super::installation::Installation;
use super::tally::Tally;
use super::{ANSWER_TIME, FleetArgs};
use crate::cli::CliError;

/// What the instances share.
#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) args: FleetArgs,
    pub(super) client: reqwest::Client,
}

impl Fleet {
    pub(super) fn new(args: FleetArgs) -> Result<Self, CliError> {
        let client = reqwest::Client::builder().timeout(ANSWER_TIME).build();
        let client = client.map_err(CliError::fault("could not prepare the client"))?;
        Ok(Self { args, client })
    }

    /// Lives through all of it.
    pub(super) async fn live(self) -> Result<Tally, CliError> {
        let fleet = Arc::new(self);
        let mut living = JoinSet::new();
        for number in 0..fleet.args.instances {
            living.spawn(Installation::live(Arc::clone(&fleet), number));
        }
        let mut tally = Tally::default();
        while let Some(lived) = living.join_next().await {
            let (one, gap) = lived.map_err(CliError::fault("an instance broke down"))??;
            tally.add(one, gap);
        }
        Ok(tally)
    }

    /// An address of the service.
    pub(super) fn address(&self, path: &str) -> String {
        format!("{}{path}", self.args.url.as_str().trim_end_matches('/'))
    }

    /// A number below a thousand that depends on nothing but the seed, the instance, and what it is for.
    pub(super) fn chance(&self, number: usize, turn: u64, what: &str) -> u16 {
        let digest = Sha256::digest(format!("{}/{number}/{turn}/{what}", self.args.seed));
        u16::from_be_bytes([digest[0], digest[1]]) % 1000
    }
}
