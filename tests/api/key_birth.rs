//! The birth of a deployment: what `init` makes, that it finishes after a crash, and that it never forks a chain.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sqlx::Row;
use token_authority::domain::key_ring::KeyState;
use token_authority::domain::sealed::SecretName;
use token_authority::keystore::Keystore;
use token_authority::rotation::RotationError;
use token_authority::rotation::published_files::PublishError;
use token_authority::storage::{sealed_secrets, signing_keys};
use token_authority_verifier::{Claims, Purpose, SignedManifest, SignedRoot, Verifier};

use crate::support::database::Database;
use crate::support::keys::NewDeployment;

#[tokio::test]
async fn init_makes_for_each_purpose_a_key_that_signs_and_one_beside_it() {
    let (database, deployment) = (Database::fresh().await, NewDeployment::in_temporary_folder());
    let born = deployment.init(&database).await.unwrap();
    assert!(born.made);
    assert_eq!((born.key_set_version, born.written.len()), (1, 3));

    let mut connection = database.connection().await;
    let keys = signing_keys::list(&mut connection, "development").await.unwrap();
    for purpose in [Purpose::AccessTokens, Purpose::AuditCheckpoints, Purpose::DenyList] {
        let of_purpose: Vec<_> =
            keys.iter().map(|listed| &listed.key).filter(|key| key.purpose == purpose).collect();
        let states: Vec<_> = of_purpose.iter().map(|key| key.state).collect();
        assert_eq!(states, [KeyState::Active, KeyState::Published], "{purpose}");
        let born_at = "2026-11-20T12:00:00Z".parse::<chrono::DateTime<chrono::Utc>>().unwrap();
        let lives: Vec<_> = of_purpose.iter().map(|key| (key.not_after - born_at).num_days()).collect();
        assert_eq!(lives, [310, 400], "{purpose}");
    }
    assert_eq!(keys.len(), 6);
}

#[tokio::test]
async fn what_init_publishes_verifies_from_the_root_down_to_a_token() {
    let (database, deployment) = (Database::fresh().await, NewDeployment::in_temporary_folder());
    let born = deployment.init(&database).await.unwrap();
    let files = published(&deployment.keys_dir().join("development"));
    let names: Vec<_> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["0001.jwks.json", "0001.manifest.json", "root/1.root.json"]);

    let root =
        SignedRoot::parse(&files["root/1.root.json"]).unwrap().verify_pinned(born.root_digest).unwrap();
    assert!(root.development);
    let manifest = SignedManifest::parse(&files["0001.manifest.json"]).unwrap().verify(&root).unwrap();
    assert_eq!((manifest.version, manifest.prev, manifest.min_deployable_version), (1, None, 1));
    assert_eq!((manifest.max_token_ttl, manifest.leeway), (259_200, 30));
    assert_eq!(manifest.jwks_sha256, born.key_set_digest);
    assert_eq!(manifest.created.to_string(), "2026-11-20T12:00:00Z");
    assert_eq!(manifest.build_before.to_string(), "2027-09-26T12:00:00Z");

    let mut connection = database.connection().await;
    let active = signing_keys::list_active(&mut connection, "development").await.unwrap();
    let active = active.into_iter().find(|key| key.purpose == Purpose::AccessTokens).unwrap();
    let digest_key =
        sealed_secrets::find_latest(&mut connection, "development", SecretName::DigestKey).await.unwrap();
    let keystore = Keystore::open(Arc::clone(&deployment.kek), &digest_key.unwrap()).unwrap();
    let kid = active.kid.to_string();
    let sealed = signing_keys::find_sealed(&mut connection, "development", &kid).await.unwrap().unwrap();
    let signer = keystore.unseal_signer(&sealed).unwrap();

    let claims = claims();
    let token = signer.sign_compact(&serde_json::to_vec(&claims).unwrap()).unwrap();
    let verifier = Verifier::from_manifest(&manifest, &files["0001.jwks.json"], "gitlab-ai-gateway").unwrap();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(claims.iat.cast_unsigned());
    assert_eq!(verifier.verify(&token, now), Ok(claims));
}

#[tokio::test]
async fn init_run_again_changes_nothing_and_writes_again_what_a_crash_left_out() {
    let (database, deployment) = (Database::fresh().await, NewDeployment::in_temporary_folder());
    let first = deployment.init(&database).await.unwrap();
    let folder = deployment.keys_dir().join("development");
    let files = published(&folder);

    let again = deployment.init(&database).await.unwrap();
    assert!(!again.made && again.written.is_empty());
    assert_eq!((again.root_digest, again.key_set_digest), (first.root_digest, first.key_set_digest));

    // Killed between the commit and the last file.
    fs::remove_file(folder.join("0001.manifest.json")).unwrap();
    assert_eq!(deployment.init(&database).await.unwrap().written, [folder.join("0001.manifest.json")]);
    fs::remove_dir_all(&folder).unwrap();
    assert_eq!(deployment.init(&database).await.unwrap().written.len(), 3);
    assert_eq!(published(&folder), files, "byte for byte");
}

#[tokio::test]
async fn of_two_inits_at_once_one_makes_the_keys() {
    let (database, deployment) = (Database::fresh().await, NewDeployment::in_temporary_folder());
    let (one, other) = tokio::join!(deployment.init(&database), deployment.init(&database));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_ne!(one.made, other.made);
    assert_eq!(one.key_set_digest, other.key_set_digest);
    assert_eq!(published(&deployment.keys_dir().join("development")).len(), 3);
}

#[tokio::test]
async fn published_files_are_never_replaced() {
    let (database, deployment) = (Database::fresh().await, NewDeployment::in_temporary_folder());
    deployment.init(&database).await.unwrap();
    let jwks = deployment.keys_dir().join("development/0001.jwks.json");
    fs::write(&jwks, "{}").unwrap();
    let refusal = deployment.init(&database).await.unwrap_err();
    assert!(matches!(refusal, RotationError::Publish(PublishError::Differs { .. })), "{refusal}");
    assert_eq!(fs::read(&jwks).unwrap(), b"{}");
}

#[tokio::test]
async fn an_empty_database_does_not_fork_a_chain_that_was_published() {
    let deployment = NewDeployment::in_temporary_folder();
    deployment.init(&Database::fresh().await).await.unwrap();
    let (files, other) = (published(&deployment.keys_dir()), Database::fresh().await);
    let refusal = deployment.init(&other).await.unwrap_err();
    assert!(matches!(refusal, RotationError::PublishedElsewhere { .. }), "{refusal}");
    assert_eq!(published(&deployment.keys_dir()), files);
    let left: i64 = sqlx::query_scalar("select count(*) from key_rings")
        .fetch_one(&mut other.connection().await)
        .await
        .unwrap();
    assert_eq!(left, 0, "nothing stays behind");
}

#[tokio::test]
async fn the_issuer_of_a_deployment_never_changes() {
    let (database, mut deployment) = (Database::fresh().await, NewDeployment::in_temporary_folder());
    deployment.init(&database).await.unwrap();
    deployment.issuer = "https://other.example".to_owned();
    let refusal = deployment.init(&database).await.unwrap_err();
    assert!(matches!(refusal, RotationError::OtherIssuer { .. }), "{refusal}");
}

#[tokio::test]
async fn each_change_of_a_key_has_one_audit_row() {
    let (database, deployment) = (Database::fresh().await, NewDeployment::in_temporary_folder());
    deployment.init(&database).await.unwrap();
    let rows = sqlx::query(
        "select action, count(*) as rows, count(distinct subject_id) as subjects from audit_events \
         where subject_kind = 'signing_key' group by action order by action",
    )
    .fetch_all(&mut database.connection().await)
    .await
    .unwrap();
    let rows: Vec<(String, i64, i64)> =
        rows.iter().map(|row| (row.get("action"), row.get("rows"), row.get("subjects"))).collect();
    let expected = [("key.activated", 3), ("key.generated", 6), ("key.published", 6)];
    assert_eq!(rows, expected.map(|(action, count)| (action.to_owned(), count, count)));
}

/// Whoever reads the whole database and every published file finds no private half.
#[tokio::test]
async fn no_seed_is_stored_or_published_in_the_clear() {
    let (database, deployment) = (Database::fresh().await, NewDeployment::in_temporary_folder());
    deployment.init(&database).await.unwrap();
    let mut connection = database.connection().await;
    let sealed =
        sqlx::query("select kid, environment, purpose, sealed, sealed_by, sealed_version from signing_keys")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    let published: Vec<u8> = published(&deployment.keys_dir()).into_values().flatten().collect();
    for row in sealed {
        let kid: String = row.get("kid");
        let key = signing_keys::find_sealed(&mut connection, "development", &kid).await.unwrap().unwrap();
        let binding = token_authority::keystore::sealing::Binding {
            environment: "development",
            purpose: key.purpose.name(),
            name: &kid,
            row_version: key.private_half.row_version,
        };
        let seed = deployment.kek.open(&key.private_half, &binding).unwrap();
        assert_eq!(seed.len(), 32);
        for haystack in [row.get::<Vec<u8>, _>("sealed"), published.clone()] {
            assert!(!haystack.windows(32).any(|window| window == seed.as_slice()));
        }
    }
}

fn claims() -> Claims {
    Claims {
        iss: "https://licensing.example".to_owned(),
        sub: "8f5f1a4e-8b4e-4c0e-9a53-0f3f1f5a1c11".to_owned(),
        aud: vec!["gitlab-ai-gateway".to_owned()],
        iat: 1_795_176_000,
        nbf: 1_795_175_995,
        exp: 1_795_204_800,
        jti: "019a9f3c-0000-7000-8000-000000000000".to_owned(),
        scopes: vec!["duo_chat".to_owned()],
        gitlab_realm: "self-managed".to_owned(),
        gitlab_instance_uid: "019a9f3c-0000-7000-8000-000000000001".to_owned(),
        duo_seat_count: None,
    }
}

/// Every file below a folder, by its path in it.
fn published(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    files
}
