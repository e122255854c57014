//! The audit as evidence: numbered as it was committed, and whatever is done to it is found.

mod exports;
mod order;
mod tampering;

use sqlx::{AssertSqlSafe, PgConnection};
use token_authority::audit::verification::{self, Finding};

use crate::support::app::TestApp;

/// What a look at every event shows now.
async fn findings(app: &TestApp) -> Vec<Finding> {
    let mut tx = app.app.database.begin_snapshot().await.unwrap();
    verification::verify(&mut tx, None).await.unwrap().findings
}

/// Does with psql what no trigger sees: as a superuser who switches them off.
async fn tamper(connection: &mut PgConnection, statements: &str) {
    let script = format!("begin; set local session_replication_role = replica; {statements}; commit;");
    sqlx::raw_sql(AssertSqlSafe(script)).execute(connection).await.unwrap();
}
