//! The schema alone keeps the rules of keys: with SQL in hand and no program, each forbidden thing is refused.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use sqlx::{AssertSqlSafe, PgConnection};
use token_authority::domain::key_ring::{Digest, KeyState};

use crate::support::database::Database;
use crate::support::keys::NewDeployment;

#[tokio::test]
async fn forbidden_changes_of_keys_are_refused_by_the_constraint_that_names_them() {
    let (_database, mut connection, [active, standby]) = born().await;
    let cases = [
        (
            "signing_keys_one_active",
            format!("update signing_keys set state = 'active', activated_at = now() where kid = '{standby}'"),
        ),
        ("signing_keys_edges", format!("update signing_keys set state = 'published' where kid = '{active}'")),
        (
            "signing_keys_private_half",
            format!(
                "update signing_keys set state = 'retiring', demoted_at = now(), denial = 'issued_after', \
                 denied_after = now() where kid = '{active}'"
            ),
        ),
        (
            "signing_keys_denial",
            format!(
                "update signing_keys set state = 'revoked', ended_at = now(), sealed = null, sealed_by = null, \
                 sealed_version = null where kid = '{active}'"
            ),
        ),
        (
            "signing_keys_audited",
            format!(
                "update signing_keys set state = 'revoked', ended_at = now(), denial = 'always', sealed = null, \
                 sealed_by = null, sealed_version = null where kid = '{active}'"
            ),
        ),
        (
            "signing_keys_constant",
            format!(
                "update signing_keys set not_after = not_after - interval '1 day' where kid = '{active}'"
            ),
        ),
        (
            "signing_keys_constant",
            format!("update signing_keys set kid = repeat('A', 43) where kid = '{active}'"),
        ),
        (
            "signing_keys_constant",
            format!("update signing_keys set environment = 'other' where kid = '{active}'"),
        ),
        (
            "signing_keys_history",
            format!(
                "update signing_keys set published_at = published_at + interval '1 s' where kid = '{active}'"
            ),
        ),
        (
            "signing_keys_history",
            format!("update signing_keys set activated_at = null where kid = '{active}'"),
        ),
        ("signing_keys_sealing", format!("update signing_keys set sealed = '\\x00' where kid = '{active}'")),
        (
            "signing_keys_private_half",
            format!(
                "update signing_keys set sealed = null, sealed_by = null, sealed_version = null \
                 where kid = '{active}'"
            ),
        ),
        ("signing_keys_append_only", format!("delete from signing_keys where kid = '{standby}'")),
        ("signing_keys_append_only", "truncate signing_keys".to_owned()),
        ("signing_keys_begin", copy_of(&standby, "repeat('A', 43)", "'published'")),
        ("signing_keys_pkey", copy_of(&standby, "kid", "'generated'")),
        ("signing_keys_kid_form", copy_of(&standby, "'key-1'", "'generated'")),
    ];
    for (constraint, sql) in cases {
        assert_eq!(refusal(&mut connection, &sql).await, constraint, "{sql}");
    }
}

#[tokio::test]
async fn forbidden_changes_of_key_sets_are_refused_by_the_constraint_that_names_them() {
    let (_database, mut connection, _) = born().await;
    let cases = [
        ("key_sets_append_only", "update key_sets set jwks = '{}', jwks_digest = sha256('{}')"),
        ("key_sets_append_only", "update key_sets set created_at = now()"),
        ("key_sets_append_only", "update key_sets set manifest = manifest || '\\x20'"),
        ("key_sets_append_only", "update key_sets set payload = '{}', payload_digest = sha256('{}')"),
        ("key_sets_append_only", "delete from key_sets"),
        ("key_sets_append_only", "truncate key_sets cascade"),
        ("key_roots_append_only", "update key_roots set file = file || '\\x20'"),
        ("key_roots_append_only", "delete from key_roots"),
        (
            "key_roots_in_order",
            "insert into key_roots select environment, 3, file, payload, digest, now() from key_roots",
        ),
        (
            "key_roots_as_signed",
            "insert into key_roots select environment, 2, file, payload, digest, now() from key_roots",
        ),
        ("key_rings_grow", "update key_rings set issuer = 'https://other.example'"),
        ("key_rings_floor", "update key_rings set floor = 2"),
        ("key_rings_append_only", "delete from key_rings"),
        (
            "key_rings_begin",
            "insert into key_rings (environment, issuer, floor, created_at) values ('other', 'https://a', 1, now())",
        ),
        ("sealed_secrets_sealing", "update sealed_secrets set sealed = '\\x00'"),
        ("sealed_secrets_append_only", "delete from sealed_secrets"),
    ];
    for (constraint, sql) in cases {
        assert_eq!(refusal(&mut connection, sql).await, constraint, "{sql}");
    }

    run(&mut connection, "update key_rings set floor = 1, deny_list_serial = 2").await.unwrap();
    for sql in ["update key_rings set floor = 0", "update key_rings set deny_list_serial = 1"] {
        assert_eq!(refusal(&mut connection, sql).await, "key_rings_grow", "{sql}");
    }
}

#[tokio::test]
async fn the_next_key_set_is_taken_only_where_it_follows_the_head() {
    let (_database, mut connection, _) = born().await;
    let head: Vec<u8> =
        sqlx::query_scalar("select payload_digest from key_sets").fetch_one(&mut connection).await.unwrap();
    let head = Digest::new(head.try_into().unwrap());
    let next =
        NextKeySet { version: 2, prev: Some(head), said_version: 2, said_prev: Some(head), said_jwks: JWKS };
    let other = Digest::of(b"another payload");
    let cases = [
        ("key_sets_in_order", NextKeySet { version: 3, said_version: 3, ..next }),
        (
            "key_sets_in_order",
            NextKeySet { version: 1, said_version: 1, prev: None, said_prev: None, ..next },
        ),
        ("key_sets_chained", NextKeySet { prev: Some(other), said_prev: Some(other), ..next }),
        ("key_sets_as_signed", NextKeySet { said_version: 3, ..next }),
        ("key_sets_as_signed", NextKeySet { said_prev: Some(other), ..next }),
        ("key_sets_as_signed", NextKeySet { said_jwks: b"{}", ..next }),
    ];
    for (constraint, key_set) in cases {
        assert_eq!(constraint_of(key_set.insert(&mut connection).await), constraint, "{key_set:?}");
    }
    next.insert(&mut connection).await.unwrap();
    assert_eq!(
        constraint_of(next.insert(&mut connection).await),
        "key_sets_in_order",
        "a number is given once"
    );
}

/// An old copy of the database changes no key, whoever holds the pen.
#[tokio::test]
async fn in_safe_mode_no_key_changes_and_no_key_set_or_root_is_recorded() {
    let (_database, mut connection, [active, standby]) = born().await;
    run(&mut connection, "update key_rings set safe_mode_since = now(), safe_mode_reason = 'a drill'")
        .await
        .unwrap();
    let payload = r#"{"environment":"development","version":2}"#;
    let file = format!(r#"{{"payload":"{}","signatures":[]}}"#, BASE64_URL_SAFE_NO_PAD.encode(payload));
    let next = format!(
        "insert into key_roots (environment, version, file, payload, digest, recorded_at) \
         values ('development', 2, '{file}', '{payload}', sha256('{payload}'), now())"
    );
    for sql in [
        format!("update signing_keys set armed_at = now() where kid = '{standby}'"),
        copy_of(&active, "repeat('A', 43)", "'generated'"),
        next,
    ] {
        assert_eq!(refusal(&mut connection, &sql).await, "key_rings_in_safe_mode", "{sql}");
    }
    let head: Vec<u8> =
        sqlx::query_scalar("select payload_digest from key_sets").fetch_one(&mut connection).await.unwrap();
    let head = Some(Digest::new(head.try_into().unwrap()));
    let set = NextKeySet { version: 2, prev: head, said_version: 2, said_prev: head, said_jwks: JWKS };
    assert_eq!(constraint_of(set.insert(&mut connection).await), "key_rings_in_safe_mode");
    let sql = "update key_rings set safe_mode_reason = null";
    assert_eq!(
        refusal(&mut connection, sql).await,
        "key_rings_safe_mode",
        "it has a reason, or is not there"
    );
}

/// The trigger and the program draw the same picture: every pair of states is tried.
#[tokio::test]
async fn the_trigger_allows_exactly_the_edges_of_the_program() {
    let (_database, mut connection, [active, _]) = born().await;
    for (index, from) in KeyState::ALL.iter().enumerate() {
        let kid = format!("{}{index}", "A".repeat(42));
        arrange(&mut connection, &active, &kid, *from).await;
        for to in KeyState::ALL.iter().filter(|to| *to != from) {
            let sql = format!("update signing_keys set state = '{to}' where kid = '{kid}'");
            let by_edge = refusal(&mut connection, &sql).await == "signing_keys_edges";
            assert_eq!(by_edge, !from.may_become(*to), "{from} → {to}");
        }
    }
}

#[tokio::test]
async fn a_denial_only_grows_stricter_and_a_dead_key_keeps_its_story() {
    let (_database, mut connection, [active, _]) = born().await;
    let [retiring, revoked] = ["B", "C"].map(|letter| letter.repeat(43));
    arrange(&mut connection, &active, &retiring, KeyState::Retiring).await;
    arrange(&mut connection, &active, &revoked, KeyState::Revoked).await;
    let set = |kid: &str, what: &str| format!("update signing_keys set {what} where kid = '{kid}'");
    for (constraint, sql) in [
        ("signing_keys_denial_grows", set(&retiring, "denied_after = denied_after + interval '1 s'")),
        ("signing_keys_denial_grows", set(&retiring, "denial = null, denied_after = null")),
        ("signing_keys_denial_grows", set(&revoked, "denial = 'issued_after', denied_after = now()")),
        ("signing_keys_history", set(&revoked, "ended_at = now() + interval '1 s'")),
        ("signing_keys_sealing", set(&retiring, "sealed = '\\x00', sealed_by = 'kek', sealed_version = 1")),
    ] {
        assert_eq!(refusal(&mut connection, &sql).await, constraint, "{sql}");
    }
    run(&mut connection, &set(&retiring, "denial = 'always', denied_after = null")).await.unwrap();
}

#[tokio::test]
async fn a_key_is_published_only_by_a_key_set_that_carries_it() {
    let (_database, mut connection, [_, standby]) = born().await;
    let kid = "D".repeat(43);
    let birth = format!(
        "with born as ({} returning kid) insert into audit_events (id, at, actor, action, subject_kind, subject_id) \
         select gen_random_uuid(), now(), 'test', 'key.generated', 'signing_key', kid from born",
        copy_of(&standby, &format!("'{kid}'"), "'generated'")
    );
    run(&mut connection, &birth).await.unwrap();
    let sql = format!(
        "update signing_keys set state = 'published', published_in = 1, published_at = now() where kid = '{kid}'"
    );
    assert_eq!(refusal(&mut connection, &sql).await, "signing_keys_carried");
}

#[tokio::test]
async fn no_private_member_gets_into_a_public_key() {
    let (_database, mut connection, [active, _]) = born().await;
    let sql = copy_of(&active, "repeat('E', 43)", "'generated'")
        .replace("'generated', public_jwk", "'generated', public_jwk || '{\"d\": \"x\"}'");
    assert_eq!(refusal(&mut connection, &sql).await, "signing_keys_public_only");
}

/// A database whose first keys were made, and the kids of the access-token keys: the active one, its standby.
async fn born() -> (Database, PgConnection, [String; 2]) {
    let database = Database::fresh().await;
    NewDeployment::in_temporary_folder().init(&database).await.unwrap();
    let mut connection = database.connection().await;
    let kids: Vec<String> =
        sqlx::query_scalar("select kid from signing_keys where purpose = 'access_tokens' order by state")
            .fetch_all(&mut connection)
            .await
            .unwrap();
    (database, connection, kids.try_into().unwrap())
}

/// Inserts a copy of a key under another name; its birth alone, whatever became of the key.
fn copy_of(kid: &str, new_kid: &str, state: &str) -> String {
    format!(
        "insert into signing_keys (kid, environment, purpose, alg, state, public_jwk, generated_at, not_after, \
                                   sealed, sealed_by, sealed_version) \
         select {new_kid}, environment, purpose, alg, {state}, public_jwk, generated_at, not_after, \
                sealed, sealed_by, sealed_version from signing_keys where kid = '{kid}'"
    )
}

/// Puts a key into any state, past all triggers; the checks of its columns hold all the same.
async fn arrange(connection: &mut PgConnection, like: &str, kid: &str, state: KeyState) {
    let (published, active, demoted, ended, denial, sealed) = match state {
        KeyState::Generated => (false, false, false, false, "null", true),
        KeyState::Published => (true, false, false, false, "null", true),
        // Of an algorithm of its own, since another key is active.
        KeyState::Active => (true, true, false, false, "null", true),
        KeyState::Retiring => (true, true, true, false, "'issued_after'", false),
        KeyState::Retired => (true, true, true, true, "'always'", false),
        KeyState::Revoked => (true, true, false, true, "'always'", false),
        KeyState::Abandoned => (false, false, false, true, "null", false),
    };
    let when = |set: bool| if set { "now()" } else { "null" };
    let sealed = |column: &'static str| if sealed { column } else { "null" };
    let alg = if state == KeyState::Active { "'RS256'" } else { "alg" };
    let denied_after = when(denial == "'issued_after'");
    let sql = format!(
        "set session_replication_role = replica; \
         insert into signing_keys (kid, environment, purpose, alg, state, public_jwk, generated_at, not_after, \
                published_in, published_at, activated_at, demoted_at, ended_at, denial, denied_after, \
                sealed, sealed_by, sealed_version) \
         select '{kid}', environment, purpose, {alg}, '{state}', public_jwk, generated_at, not_after, {}, {}, {}, {}, \
                {}, {denial}, {denied_after}, {}, {}, {} from signing_keys where kid = '{like}'; \
         set session_replication_role = origin",
        if published { "1" } else { "null" },
        when(published),
        when(active),
        when(demoted),
        when(ended),
        sealed("sealed"),
        sealed("sealed_by"),
        sealed("sealed_version"),
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.unwrap();
}

/// A row for the next key set, and what its manifest says.
#[derive(Clone, Copy, Debug)]
struct NextKeySet {
    version: u32,
    prev: Option<Digest>,
    said_version: u32,
    said_prev: Option<Digest>,
    said_jwks: &'static [u8],
}

const JWKS: &[u8] = br#"{"keys":[]}"#;

impl NextKeySet {
    async fn insert(&self, connection: &mut PgConnection) -> sqlx::Result<()> {
        let payload = serde_json::json!({
            "environment": "development",
            "version": self.said_version,
            "root_version": 1,
            "jwks_sha256": Digest::of(self.said_jwks),
            "prev": self.said_prev,
        });
        let payload = payload.to_string().into_bytes();
        let manifest =
            serde_json::json!({ "payload": BASE64_URL_SAFE_NO_PAD.encode(&payload), "signatures": [] });
        sqlx::query(
            "insert into key_sets (environment, version, jwks, manifest, payload, jwks_digest, payload_digest, prev, \
                                   root_version, created_at) \
             values ('development', $1, $2, $3, $4, sha256($2), sha256($4), $5, 1, now())",
        )
        .bind(i64::from(self.version))
        .bind(JWKS)
        .bind(manifest.to_string().into_bytes())
        .bind(&payload)
        .bind(self.prev.map(|prev| prev.as_bytes().to_vec()))
        .execute(connection)
        .await
        .map(|_| ())
    }
}

async fn run(connection: &mut PgConnection, sql: &str) -> sqlx::Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(connection).await.map(|_| ())
}

/// The constraint that refused the statement.
async fn refusal(connection: &mut PgConnection, sql: &str) -> String {
    constraint_of(run(connection, sql).await)
}

fn constraint_of(outcome: sqlx::Result<()>) -> String {
    match outcome {
        Ok(()) => "nothing refused it".to_owned(),
        Err(error) => match error.as_database_error().and_then(|error| error.constraint()) {
            Some(constraint) => constraint.to_owned(),
            None => error.to_string(),
        },
    }
}
