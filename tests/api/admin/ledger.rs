//! Keys, key sets and issuances as an auditor reads them.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::app::{TestApp, activate, sell, send, text};

fn column(page: &Value, member: &str) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|item| text(&item[member])).collect()
}

#[tokio::test]
async fn every_key_is_listed_with_its_state_and_without_its_private_half() {
    let app = TestApp::start().await;
    let all = app.admin_get("/admin/v1/keys").await;
    assert_eq!(all["items"].as_array().unwrap().len(), 6, "one that signs and its standby, for each purpose");
    let active = app.admin_get("/admin/v1/keys?state=active&purpose=access_tokens&alg=EdDSA").await;
    let [key] = active["items"].as_array().unwrap().as_slice() else { panic!("{active}") };
    assert_eq!(key["published_in"], 1);
    assert_eq!(key["public_key"]["kid"], key["kid"]);
    assert!(key["public_key"].get("d").is_none() && !all.to_string().contains("sealed"), "{all}");
    assert_eq!(&app.admin_get(&format!("/admin/v1/keys/{}", text(&key["kid"]))).await, key);
    // Page by page, each once.
    let mut kids = Vec::new();
    let mut path = "/admin/v1/keys?limit=4".to_owned();
    loop {
        let page = app.admin_get(&path).await;
        kids.extend(column(&page, "kid"));
        let Some(token) = page["next_page_token"].as_str() else { break };
        path = format!("/admin/v1/keys?limit=4&page_token={token}");
    }
    assert_eq!(kids, column(&all, "kid"));
    let unknown = format!("/admin/v1/keys/{}", "A".repeat(43));
    send(app.admin(Method::GET, &unknown)).await.refused(StatusCode::NOT_FOUND, "not_found");
    let wrong = send(app.admin(Method::GET, "/admin/v1/keys?state=young")).await;
    wrong.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
}

#[tokio::test]
async fn key_sets_are_told_as_they_were_published() {
    let app = TestApp::start().await;
    let list = app.admin_get("/admin/v1/key-sets").await;
    let public = app.admin_get("/v1/key-sets/latest").await;
    assert_eq!((&list["items"][0]["version"], &list["items"][0]["digest"]), (&json!(1), &public["digest"]));
    let one = app.admin_get("/admin/v1/key-sets/1").await;
    assert_eq!(
        (&one["manifest"], &one["jwks"], &one["prev"]),
        (&public["manifest"], &public["jwks"], &Value::Null)
    );
    for missing in ["2", "0", "latest", "4294967296"] {
        let answer = send(app.admin(Method::GET, &format!("/admin/v1/key-sets/{missing}"))).await;
        answer.refused(StatusCode::NOT_FOUND, "not_found");
    }
}

#[tokio::test]
async fn issuances_are_found_by_token_instance_key_and_time() {
    let app = TestApp::start().await;
    let sold = sell(&app, Some("duo_pro"), 2).await;
    let [one, other] =
        [activate(&app, &sold.activation_code).await, activate(&app, &sold.activation_code).await];
    let body = json!({ "version": "17.6.1" });
    one.sync(&app, &body).await.expect(StatusCode::OK);
    app.clock.set("2026-11-20T14:00:00Z".parse().unwrap());
    one.sync(&app, &body).await.expect(StatusCode::OK);
    other.sync(&app, &body).await.expect(StatusCode::OK);

    let jtis =
        async |filter: &str| column(&app.admin_get(&format!("/admin/v1/issuances?{filter}")).await, "jti");
    let all = jtis("").await;
    assert!(all.len() >= 3 && all.is_sorted_by(|later, earlier| later > earlier), "latest first: {all:?}");
    let ones = jtis(&format!("instance_uid={}", one.uid)).await;
    let others = jtis(&format!("instance_uid={}", other.uid)).await;
    assert_eq!(ones.len(), 2 * others.len());
    assert_eq!(ones.len() + others.len(), all.len());
    let listed = app.admin_get(&format!("/admin/v1/instances/{}/issuances", one.uid)).await;
    assert_eq!(column(&listed, "jti"), ones);
    assert_eq!(jtis(&format!("jti={}", all[0])).await, all[..1]);
    assert_eq!(jtis(&format!("jti={}&instance_uid={}", ones[0], other.uid)).await, [""; 0]);
    let early = jtis("issued_before=2026-11-20T14:00:00Z").await;
    assert_eq!(early, ones[ones.len() / 2..]);
    let late = jtis("issued_after=2026-11-20T14:00:00Z").await;
    assert_eq!([late, early].concat(), all);

    let keys = app.admin_get("/admin/v1/keys?purpose=access_tokens").await;
    let (mut signed, mut never) = (Vec::new(), Vec::new());
    for key in keys["items"].as_array().unwrap() {
        let found = jtis(&format!("kid={}", text(&key["kid"]))).await;
        if key["state"] == "active" { signed = found } else { never = found }
    }
    assert_eq!(signed, all);
    assert_eq!(never, [""; 0]);
    assert_eq!(jtis(&format!("kid={}", "A".repeat(43))).await, [""; 0]);

    let page = app.admin_get("/admin/v1/issuances?limit=1").await;
    let next = format!("/admin/v1/issuances?limit=1&page_token={}", text(&page["next_page_token"]));
    assert_eq!(column(&app.admin_get(&next).await, "jti"), all[1..2]);
    let read = app.admin_get(&format!("/admin/v1/issuances/{}", all[0])).await;
    assert_eq!(read, page["items"][0]);
}
