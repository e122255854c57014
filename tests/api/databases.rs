//! What the databases of tests promise, and how the service takes a database that is away or not its own.

use secrecy::ExposeSecret;
use sqlx::Connection;
use token_authority::storage::Schema;

use crate::support::database::Database;
use crate::support::durable::durable_cluster;

#[tokio::test]
async fn a_fresh_database_has_the_current_schema_and_no_rows_of_others() {
    let (one, other) = tokio::join!(Database::fresh(), Database::fresh());
    assert_eq!(one.storage().schema().await.unwrap(), Schema::Current);
    let mut connection = one.connection().await;
    sqlx::query("CREATE TABLE mine ()").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let mut connection = other.connection().await;
    sqlx::query("SELECT FROM mine").execute(&mut connection).await.unwrap_err();
}

#[tokio::test]
async fn many_tests_may_ask_at_once() {
    let asked = (0..20).map(|_| tokio::spawn(Database::fresh())).collect::<Vec<_>>();
    let mut urls = std::collections::HashSet::new();
    for fresh in asked {
        let database = fresh.await.unwrap();
        assert_eq!(database.storage().schema().await.unwrap(), Schema::Current);
        urls.insert(database.url().expose_secret().to_owned());
    }
    assert_eq!(urls.len(), 20);
}

#[tokio::test]
async fn an_unmigrated_database_says_what_it_lacks_until_it_is_migrated() {
    let database = Database::unmigrated().await;
    let storage = database.storage();
    let Schema::Behind(missing) = storage.schema().await.unwrap() else { panic!("it lacks everything") };
    assert_eq!(missing.first(), Some(&1));
    storage.migrate().await.unwrap();
    assert_eq!(storage.schema().await.unwrap(), Schema::Current);
    storage.migrate().await.unwrap();
}

#[tokio::test]
async fn a_database_to_which_a_newer_program_added_is_usable_until_it_takes_something_away() {
    let database = Database::fresh().await;
    let mut connection = database.connection().await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'of the future', true, '', 0)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    let storage = database.storage();
    assert_eq!(storage.schema().await.unwrap(), Schema::Ahead(vec![9999]));
    assert!(storage.schema().await.unwrap().is_usable());
    storage.migrate().await.unwrap_err();

    sqlx::query("update schema_floor set version = 9999").execute(&mut connection).await.unwrap();
    assert_eq!(storage.schema().await.unwrap(), Schema::Beyond { needs: 9999 });
    assert!(!storage.schema().await.unwrap().is_usable());
    let lowered = sqlx::query("update schema_floor set version = 36").execute(&mut connection).await;
    let refused = lowered.unwrap_err().to_string();
    assert!(refused.contains("never falls"), "{refused}");
}

#[tokio::test]
async fn two_programs_may_migrate_at_once() {
    let database = Database::unmigrated().await;
    let (one, other) = (database.storage(), database.storage());
    let (first, second) = tokio::join!(one.migrate(), other.migrate());
    first.unwrap();
    second.unwrap();
    assert_eq!(one.schema().await.unwrap(), Schema::Current);
}

#[tokio::test]
async fn what_was_committed_survives_a_crash_and_what_was_not_does_not() {
    let cluster = durable_cluster().await;
    let storage = cluster.storage();
    sqlx::query("CREATE TABLE kept (word text)").execute(&storage.pool()).await.unwrap();
    sqlx::query("INSERT INTO kept VALUES ('committed')").execute(&storage.pool()).await.unwrap();
    let mut lost = storage.begin().await.unwrap();
    sqlx::query("INSERT INTO kept VALUES ('lost')").execute(&mut *lost).await.unwrap();
    cluster.crash().await;
    drop(lost);
    cluster.start().await;

    let storage = cluster.storage();
    let words: Vec<String> =
        sqlx::query_scalar("SELECT word FROM kept").fetch_all(&storage.pool()).await.unwrap();
    assert_eq!(words, ["committed"]);
}

#[tokio::test]
async fn a_server_that_is_away_is_unavailable_and_found_again() {
    let cluster = durable_cluster().await;
    let storage = cluster.storage();
    storage.begin().await.unwrap();
    cluster.stop().await;
    let told = storage.begin().await.unwrap_err();
    assert!(told.is_unavailable(), "{told}");
    cluster.start().await;
    storage.begin().await.unwrap();
}
