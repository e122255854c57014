//! `/v1/instances`: activation, secrets, release, and what is switched off.

use chrono::TimeDelta;
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::app::{
    Answer, Instance, TestApp, activate, activation, beginning, fresh_uuid, sell, send, text,
};
use crate::support::installation::Installation;

async fn post(app: &TestApp, body: &Value) -> Answer {
    send(app.request(Method::POST, "/v1/instances").json(body)).await
}

fn version() -> Value {
    json!({ "version": "17.6.1" })
}

#[tokio::test]
async fn an_installation_activates_once_and_is_known_when_it_comes_again() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 5).await;
    let body = activation(&sold.activation_code, &fresh_uuid());
    let first = post(&app, &body).await.expect(StatusCode::CREATED);
    assert!(text(&first["instance_secret"]).starts_with("tai_"));
    assert_eq!(
        first["subscription"],
        json!({
            "license_type": "premium", "starts_at": "2026-11-10T00:00:00Z", "ends_at": "2027-11-10T00:00:00Z",
            "seats": 10, "trial": false, "time_zone": "UTC",
        })
    );
    assert_eq!(first["sync"], json!({ "interval_seconds": 3600, "refresh_after": "2026-11-20T12:00:00Z" }));
    let again = post(&app, &body).await.expect(StatusCode::OK);
    assert_eq!(again["instance_uid"], first["instance_uid"]);
    assert_ne!(again["instance_secret"], first["instance_secret"]);
}

#[tokio::test]
async fn an_unknown_code_is_told_like_a_mistyped_one_and_changes_nothing() {
    let app = TestApp::start().await;
    let sold = sell(&app, None, 1).await;
    let other = TestApp::start().await;
    let mut mistyped = sold.activation_code.clone();
    mistyped.pop();
    for code in [mistyped.as_str(), "tac_nonsense", "", &sold.activation_code.replace("tac_", "tai_")] {
        post(&app, &activation(code, &fresh_uuid()))
            .await
            .refused(StatusCode::UNAUTHORIZED, "unauthenticated");
    }
    let elsewhere = post(&other, &activation(&sold.activation_code, &fresh_uuid())).await;
    let told = elsewhere.refused(StatusCode::UNAUTHORIZED, "unauthenticated");
    assert_eq!(told["detail"], "The credential is missing, wrong or expired.");
    assert_eq!(app.admin_get("/admin/v1/instances").await["items"], json!([]));
}

#[tokio::test]
async fn wrong_values_are_told_all_at_once_with_their_pointers() {
    let app = TestApp::start().await;
    let sold = sell(&app, None, 1).await;
    let body = json!({
        "activation_code": sold.activation_code, "instance_id": "no-uuid", "hostname": " ", "version": "seventeen",
        "deployment": "somewhere", "kind": "toy", "proof": "x.y.z", "something_new": true,
    });
    let problem = post(&app, &body).await.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
    let pointers: Vec<_> =
        problem["errors"].as_array().unwrap().iter().map(|error| text(&error["pointer"])).collect();
    assert_eq!(pointers, ["/instance_id", "/hostname", "/version", "/deployment", "/kind", "/public_key"]);
}

#[tokio::test]
async fn the_cap_counts_each_kind_and_the_last_place_is_given_once() {
    let app = TestApp::start().await;
    let replica = app.another().await;
    let sold = sell(&app, None, 1).await;
    let attempts = (0..8).map(|n| {
        let app = if n % 2 == 0 { &app } else { &replica };
        let body = activation(&sold.activation_code, &fresh_uuid());
        async move { post(app, &body).await }
    });
    let answers = futures_util::future::join_all(attempts).await;
    let (won, lost): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.status == StatusCode::CREATED);
    assert_eq!(won.len(), 1, "{answers:?}");
    for answer in lost {
        answer.refused(StatusCode::FORBIDDEN, "instance_cap_reached");
    }
    let mut staging = activation(&sold.activation_code, &fresh_uuid());
    staging["kind"] = "staging".into();
    post(&app, &staging).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn a_released_instance_frees_its_place_when_its_last_token_expires() {
    let app = TestApp::start().await;
    let sold = sell(&app, None, 1).await;
    let instance = activate(&app, &sold.activation_code).await;
    instance.sync(&app, &version()).await.expect(StatusCode::OK);
    let receipt =
        send(instance.request(&app, Method::DELETE, "/v1/instances/me")).await.expect(StatusCode::OK);
    let signed = &receipt["receipt"];
    assert_eq!(
        receipt,
        json!({
            "receipt": signed,
            "instance_uid": instance.uid, "state": "released", "released_at": "2026-11-20T12:00:00Z",
            "place_held_until": "2026-11-20T20:00:00Z",
        })
    );
    // Asked again, the receipt is the same; and there are no more tokens.
    let again = send(instance.request(&app, Method::DELETE, "/v1/instances/me")).await.expect(StatusCode::OK);
    assert_eq!(again, receipt);
    instance.sync(&app, &version()).await.refused(StatusCode::FORBIDDEN, "instance_released");

    let newcomer = activation(&sold.activation_code, &fresh_uuid());
    post(&app, &newcomer).await.refused(StatusCode::FORBIDDEN, "instance_cap_reached");
    app.clock.set(beginning() + TimeDelta::hours(8));
    post(&app, &newcomer).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn an_instance_that_is_active_under_another_license_is_not_taken_over() {
    let app = TestApp::start().await;
    let (first, second) = (sell(&app, None, 1).await, sell(&app, None, 1).await);
    let instance = activate(&app, &first.activation_code).await;
    let moved = activation(&second.activation_code, &instance.instance_id);
    post(&app, &moved).await.refused(StatusCode::CONFLICT, "instance_mismatch");
    send(instance.request(&app, Method::DELETE, "/v1/instances/me")).await.expect(StatusCode::OK);
    post(&app, &moved).await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn after_a_rotation_the_old_secret_goes_on_for_seven_days_from_the_first_use_of_the_new_one() {
    let app = TestApp::start().await;
    let sold = sell(&app, None, 1).await;
    let old = activate(&app, &sold.activation_code).await;
    let rotated = send(old.request(&app, Method::POST, "/v1/instances/me/credential"))
        .await
        .expect(StatusCode::CREATED);
    let new = Instance { secret: text(&rotated["instance_secret"]), ..old.clone() };

    app.clock.set(beginning() + TimeDelta::days(30));
    old.sync(&app, &version()).await.expect(StatusCode::OK);
    new.sync(&app, &version()).await.expect(StatusCode::OK);
    app.clock.set(beginning() + TimeDelta::days(37) - TimeDelta::seconds(1));
    old.sync(&app, &version()).await.expect(StatusCode::OK);
    app.clock.set(beginning() + TimeDelta::days(37));
    old.sync(&app, &version()).await.refused(StatusCode::UNAUTHORIZED, "unauthenticated");
    new.sync(&app, &version()).await.expect(StatusCode::OK);
    let seen = app.admin_get(&format!("/admin/v1/instances/{}", new.uid)).await;
    assert_eq!(seen["identity_contested_at"], Value::Null);
}

#[tokio::test]
async fn a_rotation_that_is_retried_with_its_key_gives_the_same_secret() {
    let app = TestApp::start().await;
    let other_replica = app.another().await;
    let sold = sell(&app, None, 2).await;
    let old = activate(&app, &sold.activation_code).await;
    let rotate = async |app: &TestApp, who: &Instance, body: &str| {
        let request = who.request(app, Method::POST, "/v1/instances/me/credential");
        send(request.header("idempotency-key", "rotation-1").body(body.to_owned())).await
    };
    let twins = join_all([&app, &other_replica, &app].map(|app| rotate(app, &old, ""))).await;
    let first = twins[0].expect(StatusCode::CREATED);
    assert!(twins.iter().all(|twin| twin.text == twins[0].text), "{twins:?}");
    let replayed = |answer: &Answer| answer.headers.contains_key("idempotent-replayed");
    assert_eq!(twins.iter().filter(|twin| replayed(twin)).count(), 2);

    // The answer was lost: both the old secret and the new one open, a day long, and the key gives it again.
    let new = Instance { secret: text(&first["instance_secret"]), ..old.clone() };
    new.sync(&app, &version()).await.expect(StatusCode::OK);
    for who in [&old, &new] {
        app.clock.set(app.clock.now() + TimeDelta::hours(11));
        let again = rotate(&app, who, "").await;
        assert!(replayed(&again) && again.expect(StatusCode::CREATED) == first, "{again:?}");
        assert_eq!(again.headers["cache-control"], "no-store");
    }
    rotate(&app, &old, "{}").await.refused(StatusCode::CONFLICT, "idempotency_key_reused");

    // Another instance's key is its own.
    let other = activate(&app, &sold.activation_code).await;
    let others = rotate(&app, &other, "").await;
    assert!(!replayed(&others) && others.expect(StatusCode::CREATED)["instance_uid"] == other.uid);

    // What is kept for the retry is sealed.
    let rows: Vec<String> = sqlx::query_scalar("select to_jsonb(k)::text from idempotency_keys k")
        .fetch_all(&mut *app.database().await)
        .await
        .unwrap();
    let hex: String = new.secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert!(rows.len() >= 2 && !rows.iter().any(|row| row.contains(&new.secret) || row.contains(&hex)));
    app.clock.set(app.clock.now() + TimeDelta::hours(3));
    let later = rotate(&app, &new, "").await;
    assert_ne!(later.expect(StatusCode::CREATED)["instance_secret"], first["instance_secret"]);
}

#[tokio::test]
async fn an_installation_that_does_not_say_its_kind_again_stays_what_it_was() {
    let app = TestApp::start().await;
    let sold = sell(&app, None, 1).await;
    let mut staging = activation(&sold.activation_code, &fresh_uuid());
    staging["kind"] = json!("staging");
    let uid = text(&post(&app, &staging).await.expect(StatusCode::CREATED)["instance_uid"]);
    // The only place for production is taken: it could not even become one.
    post(&app, &activation(&sold.activation_code, &fresh_uuid())).await.expect(StatusCode::CREATED);

    staging.as_object_mut().unwrap().remove("kind");
    post(&app, &staging).await.expect(StatusCode::OK);
    let path = format!("/admin/v1/instances/{uid}");
    assert_eq!(app.admin_get(&path).await["kind"], "staging");
    staging["kind"] = json!("development");
    post(&app, &staging).await.expect(StatusCode::OK);
    assert_eq!(app.admin_get(&path).await["kind"], "development");
    staging["kind"] = json!("production");
    post(&app, &staging).await.refused(StatusCode::FORBIDDEN, "instance_cap_reached");
    staging["kind"] = json!("toy");
    post(&app, &staging).await.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
}

#[tokio::test]
async fn two_installations_with_one_identity_are_noticed_and_both_go_on() {
    let app = TestApp::start().await;
    let sold = sell(&app, None, 1).await;
    let original = activate(&app, &sold.activation_code).await;
    let body = activation(&sold.activation_code, &original.instance_id);
    let copied = post(&app, &body).await.expect(StatusCode::OK);
    let copy = Instance { secret: text(&copied["instance_secret"]), ..original.clone() };

    copy.sync(&app, &version()).await.expect(StatusCode::OK);
    original.sync(&app, &version()).await.expect(StatusCode::OK);
    let seen = app.admin_get(&format!("/admin/v1/instances/{}", original.uid)).await;
    assert_eq!(seen["identity_contested_at"], "2026-11-20T12:00:00Z");

    app.clock.set(beginning() + TimeDelta::days(30));
    copy.sync(&app, &version()).await.expect(StatusCode::OK);
    original.sync(&app, &version()).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn an_activation_whose_answer_was_lost_can_be_repeated_without_end() {
    let app = TestApp::start().await;
    let sold = sell(&app, None, 1).await;
    let first = activate(&app, &sold.activation_code).await;
    let body = activation(&sold.activation_code, &first.instance_id);
    let mut latest = first.clone();
    for _ in 0..4 {
        let again = post(&app, &body).await.expect(StatusCode::OK);
        latest = Instance { secret: text(&again["instance_secret"]), ..first.clone() };
    }
    first.sync(&app, &version()).await.expect(StatusCode::OK);
    latest.sync(&app, &version()).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn parallel_activations_of_one_installation_make_one_instance() {
    let app = TestApp::start().await;
    let sold = sell(&app, None, 1).await;
    let body = activation(&sold.activation_code, &fresh_uuid());
    let answers = futures_util::future::join_all((0..8).map(|_| post(&app, &body))).await;
    let made = answers.iter().filter(|answer| answer.status == StatusCode::CREATED).count();
    let again = answers.iter().filter(|answer| answer.status == StatusCode::OK).count();
    assert_eq!((made, again), (1, 7), "{answers:?}");

    // One that read its clock before the others and came after them.
    app.clock.set(beginning() - TimeDelta::seconds(5));
    for _ in 0..3 {
        post(&app, &body).await.expect(StatusCode::OK);
    }
}

#[tokio::test]
async fn an_installation_with_a_key_has_no_secret_and_is_activated_again_with_its_key_only() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    let installation = Installation::new(1);
    let activated = post(&app, &installation.activation(&app, &sold.activation_code)).await;
    let activated = activated.expect(StatusCode::CREATED);
    assert!(activated.get("instance_secret").is_none(), "{activated}");
    let uid = text(&activated["instance_uid"]);
    let sync = |installation: &Installation| {
        installation.request(&app, &uid, Method::POST, "/v1/sync").json(&version())
    };
    assert_eq!(send(sync(&installation)).await.expect(StatusCode::OK)["instance_uid"], uid);

    let plain = activation(&sold.activation_code, &installation.instance_id);
    post(&app, &plain).await.refused(StatusCode::FORBIDDEN, "forbidden");
    let mut thief = Installation::new(2);
    thief.instance_id.clone_from(&installation.instance_id);
    let theft = thief.activation(&app, &sold.activation_code);
    post(&app, &theft).await.refused(StatusCode::FORBIDDEN, "forbidden");
    post(&app, &installation.activation(&app, &sold.activation_code)).await.expect(StatusCode::OK);

    // An administrator may allow another key once.
    app.admin_post(&format!("/admin/v1/instances/{uid}:allow-reactivation"), json!({})).await;
    post(&app, &thief.activation(&app, &sold.activation_code)).await.expect(StatusCode::OK);
    send(sync(&installation)).await.refused(StatusCode::UNAUTHORIZED, "unauthenticated");
    send(sync(&thief)).await.expect(StatusCode::OK);
    let back = installation.activation(&app, &sold.activation_code);
    post(&app, &back).await.refused(StatusCode::FORBIDDEN, "forbidden");
}

#[tokio::test]
async fn a_proof_counts_for_this_key_this_issuer_this_installation_and_this_minute() {
    let app = TestApp::start().await;
    let sold = sell(&app, None, 1).await;
    let installation = Installation::new(1);
    let good = json!({ "alg": "EdDSA", "typ": "activation-proof+jwt" });
    let claims = installation.proof_claims(&app);
    let with = |member: &str, value: Value| {
        let mut changed = claims.clone();
        changed[member] = value;
        installation.jws(&good, &changed)
    };
    let now = beginning().timestamp();
    let proofs = [
        with("aud", "https://elsewhere.example".into()),
        with("instance_id", fresh_uuid().into()),
        with("exp", (now + 61).into()),
        with("exp", (now - 20).into()),
        with("iat", (now + 30).into()),
        with("jti", "".into()),
        installation.jws(&json!({ "alg": "EdDSA", "typ": "JWT" }), &claims),
        installation.jws(&json!({ "alg": "none", "typ": "activation-proof+jwt" }), &claims),
        Installation::new(2).jws(&good, &claims),
        "one.two".to_owned(),
    ];
    for proof in proofs {
        let mut body = installation.activation(&app, &sold.activation_code);
        body["proof"] = proof.clone().into();
        let problem = post(&app, &body).await.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
        assert_eq!(problem["errors"][0]["pointer"], "/proof", "{proof}: {problem}");
    }
    // A proof counts once; the same request again is a retry.
    let first = installation.activation(&app, &sold.activation_code);
    post(&app, &first).await.expect(StatusCode::CREATED);
    post(&app, &first).await.expect(StatusCode::OK);
    let mut replayed = first;
    replayed["hostname"] = "elsewhere.example.com".into();
    let problem = post(&app, &replayed).await.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
    assert_eq!(
        (&problem["errors"][0]["pointer"], &problem["errors"][0]["code"]),
        (&json!("/proof"), &json!("used"))
    );

    // A point of small order verifies what nobody signed.
    let mut weak = installation.activation(&app, &sold.activation_code);
    weak["public_key"]["x"] = "AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA".into();
    let mut private = installation.activation(&app, &sold.activation_code);
    private["public_key"]["d"] = "x".into();
    for body in [weak, private] {
        let problem = post(&app, &body).await.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
        assert_eq!(problem["errors"][0]["pointer"], "/public_key", "{problem}");
    }
}

#[tokio::test]
async fn an_assertion_is_taken_once_an_identical_retry_apart() {
    let app = TestApp::start().await;
    let sold = sell(&app, None, 1).await;
    let installation = Installation::new(1);
    let activated = post(&app, &installation.activation(&app, &sold.activation_code)).await;
    let uid = text(&activated.expect(StatusCode::CREATED)["instance_uid"]);
    let header = json!({ "alg": "EdDSA" });
    let claims = installation.assertion_claims(&app, &uid);
    let assertion = installation.jws(&header, &claims);
    let sync = |assertion: &str, body: Value| {
        app.request(Method::POST, "/v1/sync").bearer_auth(assertion).json(&body)
    };
    let first = send(sync(&assertion, version())).await.expect(StatusCode::OK);
    let retried = send(sync(&assertion, version())).await.expect(StatusCode::OK);
    assert_eq!(first["tokens"], retried["tokens"]);
    let replayed = send(sync(&assertion, json!({ "version": "17.7.0" }))).await;
    replayed.refused(StatusCode::UNAUTHORIZED, "unauthenticated");

    let now = beginning().timestamp();
    for (member, value) in [
        ("aud", json!(["http://127.0.0.1:9", "https://elsewhere.example"])),
        ("aud", json!("https://elsewhere.example")),
        ("exp", json!(now + 3600)),
        ("exp", json!(now - 60)),
        ("sub", json!(fresh_uuid())),
        ("jti", json!("")),
    ] {
        let mut wrong = installation.assertion_claims(&app, &uid);
        wrong[member] = value;
        let answer = send(sync(&installation.jws(&header, &wrong), version())).await;
        answer.refused(StatusCode::UNAUTHORIZED, "unauthenticated");
    }
}

#[tokio::test]
async fn what_its_administrator_switches_off_is_gone_at_the_next_sync_and_comes_back() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    let instance = activate(&app, &sold.activation_code).await;
    let access = |body: &Value| instance.request(&app, Method::PUT, "/v1/instances/me/access").json(body);
    let off = json!({ "disabled_unit_primitives": ["duo_chat"], "disabled_backends": ["security_gateway"] });
    assert_eq!(send(access(&off)).await.expect(StatusCode::OK), off);
    let read = send(instance.request(&app, Method::GET, "/v1/instances/me/access")).await;
    assert_eq!(read.expect(StatusCode::OK), off);

    let synced =
        instance.sync(&app, &json!({ "version": "17.6.1", "explain": true })).await.expect(StatusCode::OK);
    let backends: Vec<_> =
        synced["tokens"].as_array().unwrap().iter().map(|token| text(&token["backend"])).collect();
    assert_eq!(backends, ["ai_gateway", "duo_workflow_service", "observability_backend"]);
    assert!(!synced["tokens"][0]["unit_primitives"].as_array().unwrap().contains(&"duo_chat".into()));
    let entitlements = synced["entitlements"].as_array().unwrap();
    for name in ["duo_chat", "security_scans"] {
        let why = entitlements.iter().find(|one| one["unit_primitive"] == name).unwrap();
        assert_eq!((&why["granted"], &why["code"]), (&json!(false), &json!("disabled_by_instance")), "{why}");
    }

    let unknown = send(access(&json!({ "disabled_unit_primitives": ["duo_chatt"] }))).await;
    let problem = unknown.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
    assert_eq!(problem["errors"][0]["pointer"], "/disabled_unit_primitives/0");
    send(access(&json!({}))).await.expect(StatusCode::OK);
    let synced = instance.sync(&app, &version()).await.expect(StatusCode::OK);
    assert!(synced["tokens"][0]["unit_primitives"].as_array().unwrap().contains(&"duo_chat".into()));
}

#[tokio::test]
async fn a_registered_key_goes_on_beside_its_successor_until_a_week_after_that_was_first_used() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    let old = Installation::new(1);
    let activated = post(&app, &old.activation(&app, &sold.activation_code)).await;
    let uid = text(&activated.expect(StatusCode::CREATED)["instance_uid"]);
    let successor = |seed| {
        let mut new = Installation::new(seed);
        new.instance_id.clone_from(&old.instance_id);
        new
    };
    let register = async |by: &Installation, new: &Installation| {
        let header = json!({ "alg": "EdDSA", "typ": "activation-proof+jwt" });
        let proof = new.jws(&header, &new.proof_claims(&app));
        let body = json!({ "public_key": new.public_key(), "proof": proof });
        let request = by.request(&app, &uid, Method::POST, "/v1/instances/me/credential");
        send(request.json(&body)).await.status
    };
    let syncs = async |by: &Installation| {
        let request = by.request(&app, &uid, Method::POST, "/v1/sync");
        send(request.json(&json!({ "version": "17.6.1" }))).await.status == StatusCode::OK
    };

    // 1. The answer is lost, and the installation asks again by the key that it has, with yet another new key.
    let (lost, new) = (successor(2), successor(3));
    assert_eq!(register(&old, &lost).await, StatusCode::CREATED);
    assert!(syncs(&old).await);
    app.clock.set(app.clock.now() + TimeDelta::days(30));
    assert!(syncs(&old).await, "the new key was not used yet");
    assert_eq!(register(&old, &new).await, StatusCode::CREATED);
    assert!(!syncs(&lost).await, "nobody holds it");

    // 2. Both open until a week after the first use of the newer.
    assert!(syncs(&new).await && syncs(&old).await);
    app.clock.set(app.clock.now() + TimeDelta::days(6));
    assert!(syncs(&old).await && syncs(&new).await);
    app.clock.set(app.clock.now() + TimeDelta::days(1));
    assert!(!syncs(&old).await, "a week is over");
    assert!(syncs(&new).await);

    // 3. The same key again changes nothing; a third takes the place of the second, and none before it.
    assert_eq!(register(&new, &new).await, StatusCode::CREATED);
    let third = successor(4);
    assert_eq!(register(&new, &third).await, StatusCode::CREATED);
    assert!(syncs(&third).await && syncs(&new).await && !syncs(&old).await);

    // 4. Whoever is let in with another key leaves every old one behind.
    let fourth = successor(5);
    app.admin_post(&format!("/admin/v1/instances/{uid}:allow-reactivation"), json!({})).await;
    post(&app, &fourth.activation(&app, &sold.activation_code)).await.expect(StatusCode::OK);
    assert!(syncs(&fourth).await && !syncs(&third).await && !syncs(&new).await);
}

/// A key that is no Ed25519 key is none that an instance can register, RSA keys of any size among them.
#[tokio::test]
async fn an_rsa_key_is_no_key_of_an_instance() {
    let app = TestApp::start().await;
    let sold = sell(&app, None, 1).await;
    for bytes in [128, 255, 256] {
        use base64::Engine;
        let modulus = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(vec![0xc1; bytes]);
        let mut body = Installation::new(1).activation(&app, &sold.activation_code);
        body["public_key"] = json!({ "kty": "RSA", "n": modulus, "e": "AQAB" });
        let problem = send(app.request(Method::POST, "/v1/instances").json(&body)).await;
        assert_eq!(problem.status, StatusCode::UNPROCESSABLE_ENTITY, "{problem:?}");
        let problem = problem.json();
        assert!(problem.to_string().contains("/public_key"), "{problem}");
    }
}
