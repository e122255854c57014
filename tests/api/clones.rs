//! Two installations with one identity are noticed by their one-time values; a lost answer is no copy.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::app::{Instance, TestApp, activate, sell, send, text};

/// An installation as its disk has it: whoever copies the disk copies this.
#[derive(Clone)]
struct Disk {
    instance: Instance,
    sync_value: Value,
}

impl Disk {
    async fn new(app: &TestApp) -> Self {
        let instance = activate(app, &sell(app, Some("duo_pro"), 1).await.activation_code).await;
        Self { instance, sync_value: Value::Null }
    }

    /// A sync whose answer arrives.
    async fn sync(&mut self, app: &TestApp) -> Value {
        let answer = self.sync_in_vain(app).await;
        self.sync_value = answer["sync_value"].clone();
        assert!(self.sync_value.is_string(), "{answer}");
        answer
    }

    /// A sync whose answer is lost.
    async fn sync_in_vain(&self, app: &TestApp) -> Value {
        let body = json!({ "version": "17.6.1", "sync_value": self.sync_value });
        self.instance.sync(app, &body).await.expect(StatusCode::OK)
    }

    async fn contested(&self, app: &TestApp) -> bool {
        app.admin_get(&format!("/admin/v1/instances/{}", self.instance.uid)).await["identity_contested_at"]
            .is_string()
    }
}

async fn settle(app: &TestApp, uid: &str, finding: &str) -> crate::support::app::Answer {
    let path = format!("/admin/v1/instances/{uid}");
    let etag = send(app.admin(Method::GET, &path)).await.headers["etag"].clone();
    let body = json!({ "finding": finding, "reason": "told by their administrator" });
    send(app.admin(Method::POST, &format!("{path}:settle-identity")).header("if-match", etag).json(&body))
        .await
}

#[tokio::test]
async fn an_installation_whose_answers_are_lost_is_no_copy() {
    let app = TestApp::start().await;
    let mut disk = Disk::new(&app).await;
    for _ in 0..3 {
        disk.sync_in_vain(&app).await;
        disk.sync_in_vain(&app).await;
        disk.sync(&app).await;
        disk.sync(&app).await;
    }
    assert!(!disk.contested(&app).await);
}

#[tokio::test]
async fn two_copies_are_noticed_told_of_and_never_locked_out() {
    let app = TestApp::start().await;
    let mut original = Disk::new(&app).await;
    original.sync(&app).await;
    let mut copy = original.clone();
    original.sync(&app).await;
    copy.sync(&app).await;
    let noticed = [original.sync(&app).await, copy.sync(&app).await];
    assert!(noticed.iter().any(|answer| answer["identity_contested"] == true), "{noticed:?}");
    // Both go on.
    for disk in [&mut original, &mut copy] {
        let answer = disk.sync(&app).await;
        assert!(!answer["tokens"].as_array().unwrap().is_empty());
        assert_eq!(answer["identity_contested"], true);
    }
    assert!(original.contested(&app).await);
    let contested = app.admin_get("/admin/v1/instances?contested=true").await;
    assert_eq!(contested["items"].as_array().unwrap().len(), 1);
    let told: i64 =
        sqlx::query_scalar("select count(*) from audit_events where action = 'instance.identity_contested'")
            .fetch_one(&mut *app.database().await)
            .await
            .unwrap();
    assert_eq!(told, 1, "once, however often they sync");

    // The administrator finds that the copy is gone; the original goes on unnoticed.
    settle(&app, &original.instance.uid, "restored").await.expect(StatusCode::OK);
    for _ in 0..3 {
        let answer = original.sync(&app).await;
        assert_eq!(answer.get("identity_contested"), None, "{answer}");
    }
    // And if it is not gone, it is noticed again.
    copy.sync(&app).await;
    assert!(original.contested(&app).await);
}

#[tokio::test]
async fn an_instance_that_never_brings_a_value_is_as_before() {
    let app = TestApp::start().await;
    let disk = Disk::new(&app).await;
    for _ in 0..2 {
        let answer = disk.instance.sync(&app, &json!({ "version": "17.6.1" })).await.expect(StatusCode::OK);
        assert_eq!((answer.get("sync_value"), answer.get("identity_contested")), (None, None));
    }
    let lines: i64 = sqlx::query_scalar("select count(*) from sync_lines")
        .fetch_one(&mut *app.database().await)
        .await
        .unwrap();
    assert_eq!(lines, 0);
}

#[tokio::test]
async fn what_was_never_handed_out_to_the_instance_counts_as_nothing() {
    let app = TestApp::start().await;
    let (mut one, mut other) = (Disk::new(&app).await, Disk::new(&app).await);
    one.sync(&app).await;
    other.sync(&app).await;
    for text in [json!("nonsense"), json!(""), other.sync_value.clone()] {
        let body = json!({ "version": "17.6.1", "sync_value": text });
        one.instance.sync(&app, &body).await.expect(StatusCode::OK);
    }
    one.sync(&app).await;
    assert!(!one.contested(&app).await);
}

#[tokio::test]
async fn a_contest_is_settled_with_a_finding_and_only_where_there_is_one() {
    let app = TestApp::start().await;
    let mut original = Disk::new(&app).await;
    original.sync(&app).await;
    let uid = original.instance.uid.clone();
    settle(&app, &uid, "restored").await.refused(StatusCode::CONFLICT, "conflict");
    settle(&app, &uid, "forgotten").await.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
    for finding in ["moved", "restored", "staging_copy"] {
        let mut copy = original.clone();
        for _ in 0..2 {
            original.sync(&app).await;
            copy.sync(&app).await;
        }
        assert!(original.contested(&app).await, "{finding}");
        let settled = settle(&app, &uid, finding).await.expect(StatusCode::OK);
        assert_eq!(settled["identity_contested_at"], Value::Null, "{finding}: {settled}");
        // Nobody is locked out.
        original.sync(&app).await;
    }
}

#[tokio::test]
async fn each_kind_of_instance_has_places_of_its_own() {
    let app = TestApp::start().await;
    let sold = sell(&app, None, 1).await;
    let activate = async |kind: &str| {
        let mut body =
            crate::support::app::activation(&sold.activation_code, &crate::support::app::fresh_uuid());
        body["kind"] = kind.into();
        send(app.request(Method::POST, "/v1/instances").json(&body)).await
    };
    for kind in ["production", "staging", "development"] {
        activate(kind).await.expect(StatusCode::CREATED);
        activate(kind).await.refused(StatusCode::FORBIDDEN, "instance_cap_reached");
    }
}

#[tokio::test]
async fn an_instance_sees_what_it_sends_by_field_and_purpose() {
    let app = TestApp::start().await;
    let disk = Disk::new(&app).await;
    let body = json!({ "version": "17.8.0", "usage": { "billable_users": 3 } });
    disk.instance.sync(&app, &body).await.expect(StatusCode::OK);
    let seen = send(disk.instance.request(&app, Method::GET, "/v1/instances/me/reported")).await;
    let seen = seen.expect(StatusCode::OK);
    let items = seen["items"].as_array().unwrap();
    let value = |field: &str| items.iter().find(|item| item["field"] == field).unwrap()["value"].clone();
    assert_eq!(value("version"), "17.8.0");
    assert_eq!(value("usage"), json!({ "billable_users": 3 }));
    assert_eq!(value("instance_id"), disk.instance.instance_id);
    assert!(items.iter().all(|item| !text(&item["purpose"]).is_empty() && !text(&item["kept"]).is_empty()));
    send(app.request(Method::GET, "/v1/instances/me/reported"))
        .await
        .refused(StatusCode::UNAUTHORIZED, "unauthenticated");
}

#[tokio::test]
async fn a_release_is_answered_with_a_receipt_that_the_manifest_verifies() {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let app = TestApp::start().await;
    let disk = Disk::new(&app).await;
    let released =
        send(disk.instance.request(&app, Method::DELETE, "/v1/instances/me")).await.expect(StatusCode::OK);
    let receipt = text(&released["receipt"]);
    let (signed, signature) = receipt.rsplit_once('.').unwrap();
    let part =
        |part: &str| -> Value { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap() };
    let (header, claims) = signed.split_once('.').unwrap();
    let (header, claims) = (part(header), part(claims));
    assert_eq!(header["typ"], "release-receipt+jwt");
    assert_eq!((&claims["sub"], &claims["state"]), (&json!(disk.instance.uid), &json!("released")));

    let set = send(app.request(Method::GET, "/v1/key-sets/latest")).await.expect(StatusCode::OK);
    let manifest = part(&text(&set["manifest"]["payload"]));
    let key = manifest["keys"].as_array().unwrap().iter().find(|key| key["kid"] == header["kid"]).unwrap();
    assert_eq!(key["purpose"], "audit_checkpoints");
    let point: [u8; 32] = URL_SAFE_NO_PAD.decode(text(&key["jwk"]["x"])).unwrap().try_into().unwrap();
    let signature =
        ed25519_dalek::Signature::from_slice(&URL_SAFE_NO_PAD.decode(signature).unwrap()).unwrap();
    ed25519_dalek::VerifyingKey::from_bytes(&point)
        .unwrap()
        .verify_strict(signed.as_bytes(), &signature)
        .unwrap();
}

#[tokio::test]
async fn a_key_is_replaced_by_another_whose_private_half_is_held() {
    use crate::support::installation::Installation;
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 1).await;
    let first = Installation::new(1);
    let activated =
        send(app.request(Method::POST, "/v1/instances").json(&first.activation(&app, &sold.activation_code)));
    let uid = text(&activated.await.expect(StatusCode::CREATED)["instance_uid"]);
    let mut second = Installation::new(2);
    second.instance_id.clone_from(&first.instance_id);
    let proof = |by: &Installation| {
        by.jws(&json!({ "alg": "EdDSA", "typ": "activation-proof+jwt" }), &by.proof_claims(&app))
    };
    let rotate = async |body: Value| {
        send(first.request(&app, &uid, Method::POST, "/v1/instances/me/credential").json(&body)).await
    };
    // Without a proof, with one by another key, and with a weak key.
    let identity = {
        use base64::Engine;
        let mut point = [0; 32];
        point[0] = 1;
        json!({ "kty": "OKP", "crv": "Ed25519", "x": base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(point) })
    };
    for body in [
        json!({ "public_key": second.public_key() }),
        json!({ "public_key": second.public_key(), "proof": proof(&first) }),
        json!({ "public_key": identity, "proof": proof(&second) }),
        json!({ "public_key": { "kty": "RSA", "crv": "", "x": "" }, "proof": proof(&second) }),
    ] {
        rotate(body).await.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
    }
    rotate(json!({})).await.refused(StatusCode::FORBIDDEN, "forbidden");
    let rotated = rotate(json!({ "public_key": second.public_key(), "proof": proof(&second) })).await;
    assert_eq!(rotated.expect(StatusCode::CREATED), json!({ "instance_uid": uid }));
    let sync = async |by: &Installation| {
        send(by.request(&app, &uid, Method::POST, "/v1/sync").json(&json!({ "version": "17.6.1" })))
            .await
            .status
    };
    // The first one goes on for a week.
    assert_eq!((sync(&second).await, sync(&first).await), (StatusCode::OK, StatusCode::OK));
    app.clock.set(app.clock.now() + chrono::TimeDelta::days(7));
    assert_eq!((sync(&second).await, sync(&first).await), (StatusCode::OK, StatusCode::UNAUTHORIZED));
}
