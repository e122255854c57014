//! Laws 5 to 10 of `docs/laws.md`, on a real PostgreSQL: generated sequences, races, crashes, and walks over all there is.

mod changes;
mod codes;
mod crashes;
mod memory;
mod races;
mod refusals;
mod retries;
mod secrets;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sqlx::AssertSqlSafe;

use crate::support::app::{TestApp, beginning};

/// So many sequences are drawn for a law.
const SEQUENCES: u32 = 256;

/// Many of a law's requests must fail to authenticate, all from one address: how many of them are let through in
/// a minute is a matter of the machine's speed, and of another test.
const UNLIMITED: &[(&str, &str)] = &[
    ("FAILED_AUTHENTICATIONS_PER_ADDRESS", "1000000"),
    ("FAILED_AUTHENTICATIONS_PER_CREDENTIAL", "1000000"),
];

/// Two replicas of one deployment, on one clock.
struct Replicas {
    runtime: tokio::runtime::Runtime,
    apps: [TestApp; 2],
}

impl Replicas {
    fn start() -> Self {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let apps = runtime.block_on(async {
            let one = TestApp::start_with(UNLIMITED).await;
            let other = one.another_with(UNLIMITED).await;
            [one, other]
        });
        Self { runtime, apps }
    }

    /// Runs as many sequences as a law asks for. One that fails is made as short as it can be.
    fn run<S: Strategy>(&self, sequences: S, follow: impl AsyncFn(&Self, S::Value)) {
        let config = Config { cases: SEQUENCES, failure_persistence: None, ..Config::default() };
        let outcome = TestRunner::new(config).run(&sequences, |sequence| {
            self.apps[0].clock.set(beginning());
            self.runtime.block_on(follow(self, sequence));
            Ok(())
        });
        outcome.unwrap_or_else(|error| panic!("{error}"));
        self.runtime.block_on(crate::sync_facts::assert_kept(&self.apps[0]));
    }
}

/// Drops what lives on the runtime before it.
impl Drop for Replicas {
    fn drop(&mut self) {
        let _inside = self.runtime.enter();
    }
}

/// How many rows a table has.
async fn rows(app: &TestApp, table: &str) -> i64 {
    let sql = AssertSqlSafe(format!("select count(*) from {table}"));
    sqlx::query_scalar(sql).fetch_one(&mut *app.database().await).await.unwrap()
}
