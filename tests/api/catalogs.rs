//! What once decided is stored for good, and found again by its digest, its number and its time.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Connection, PgConnection};
use token_authority::catalog_files;
use token_authority::domain::catalog::{Catalog, CatalogDigest};
use token_authority::storage::{StorageError, catalogs};

use crate::support::database::Database;

fn example() -> Catalog {
    catalog_files::example().unwrap()
}

/// The example with another description, so that its digest differs.
fn changed() -> Catalog {
    let text = example().canonical_json().replacen("Answers questions", "Answers all questions", 1);
    Catalog::from_json(&text).unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

async fn record_active(connection: &mut PgConnection, catalog: &Catalog, now: DateTime<Utc>) {
    let mut tx = connection.begin().await.unwrap();
    catalogs::record_active(&mut tx, catalog, now).await.unwrap();
    tx.commit().await.unwrap();
}

async fn active_at(connection: &mut PgConnection, instant: DateTime<Utc>) -> Option<CatalogDigest> {
    catalogs::find_active_at(connection, instant).await.unwrap().map(|catalog| catalog.digest().clone())
}

#[tokio::test]
async fn a_catalog_is_stored_once_however_often_it_is_loaded() {
    let database = Database::fresh().await;
    let connection = &mut database.connection().await;
    let noon = at("2026-11-20T12:00:00Z");
    let number = catalogs::insert_if_new(connection, &example(), noon).await.unwrap();
    for _ in 0..5 {
        let again =
            catalogs::insert_if_new(connection, &example(), noon + TimeDelta::hours(1)).await.unwrap();
        assert_eq!(again, number);
    }
    // Loading it again used up no number: there are few.
    assert_eq!(catalogs::insert_if_new(connection, &changed(), noon).await.unwrap(), number + 1);

    let stored = catalogs::find_by_digest(connection, example().digest()).await.unwrap().unwrap();
    assert_eq!((stored.number, stored.first_loaded_at), (number, noon));
    assert_eq!(stored.catalog.digest(), example().digest());
    assert_eq!(stored.catalog.unit_primitives(), example().unit_primitives());
    let by_number = catalogs::find_by_number(connection, number + 1).await.unwrap().unwrap();
    assert_eq!(by_number.catalog.digest(), changed().digest());
    assert_eq!(catalogs::find_number(connection, changed().digest()).await.unwrap(), Some(number + 1));
    assert!(catalogs::find_by_number(connection, 99).await.unwrap().is_none());
    assert_eq!(catalogs::find_number(connection, &CatalogDigest::of("{}")).await.unwrap(), None);
}

#[tokio::test]
async fn the_past_names_the_catalog_that_decided_then() {
    let database = Database::fresh().await;
    let connection = &mut database.connection().await;
    let (one, other) = (example(), changed());
    let noon = at("2026-11-20T12:00:00Z");
    let hours = TimeDelta::hours;
    record_active(connection, &one, noon).await;
    record_active(connection, &one, noon + hours(1)).await;
    record_active(connection, &other, noon + hours(2)).await;
    // A replica whose clock is behind goes back to the first one.
    record_active(connection, &one, noon).await;

    assert_eq!(active_at(connection, noon - TimeDelta::microseconds(1)).await, None);
    assert_eq!(active_at(connection, noon).await.as_ref(), Some(one.digest()));
    assert_eq!(active_at(connection, noon + hours(1)).await.as_ref(), Some(one.digest()));
    assert_eq!(active_at(connection, noon + hours(2)).await.as_ref(), Some(one.digest()));
    let rows: i64 =
        sqlx::query_scalar("select count(*) from catalog_activations").fetch_one(connection).await.unwrap();
    assert_eq!(rows, 3, "what decided already is not recorded again");
}

#[tokio::test]
async fn replicas_that_start_at_once_agree() {
    let database = Database::fresh().await;
    let noon = at("2026-11-20T12:00:00Z");
    let start = || async {
        let mut connection = database.connection().await;
        let mut tx = connection.begin().await?;
        let number = catalogs::record_active(&mut tx, &example(), noon).await?;
        tx.commit().await?;
        Ok::<_, StorageError>(number)
    };
    let (one, two, three) = tokio::join!(start(), start(), start());
    let numbers = [one.unwrap(), two.unwrap(), three.unwrap()];
    assert!(numbers.iter().all(|number| *number == numbers[0]), "{numbers:?}");
    let connection = &mut database.connection().await;
    let rows: i64 =
        sqlx::query_scalar("select count(*) from catalog_activations").fetch_one(connection).await.unwrap();
    assert_eq!(rows, 1);
}

#[tokio::test]
async fn what_decided_can_be_neither_changed_nor_forged() {
    let database = Database::fresh().await;
    let connection = &mut database.connection().await;
    record_active(connection, &example(), at("2026-11-20T12:00:00Z")).await;
    for (statement, constraint) in [
        ("update catalogs set content = '{}'", "catalogs_append_only"),
        ("delete from catalogs", "catalogs_append_only"),
        ("truncate catalogs cascade", "catalogs_append_only"),
        ("update catalog_activations set activated_at = now()", "catalog_activations_append_only"),
        ("delete from catalog_activations", "catalog_activations_append_only"),
        (
            "insert into catalogs (digest, content, first_loaded_at) values ('sha256:00', '{}', now())",
            "catalogs_digest",
        ),
    ] {
        let refused: StorageError =
            sqlx::query(statement).execute(&mut *connection).await.unwrap_err().into();
        assert_eq!(refused.constraint(), Some(constraint), "{statement}");
    }
}
