//! What backends say that they enforce, against what is sold.

use chrono::TimeDelta;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::app::{Answer, TestApp, send};
use crate::support::fleet::{Backend, Process};

const REPORT: &str = "/admin/v1/reports/contracts";

/// Every unit primitive that the backend hosts.
fn hosted(app: &TestApp, backend: &str) -> Vec<String> {
    let catalog = app.app.catalog.load();
    let hosted = catalog
        .catalog
        .unit_primitives()
        .iter()
        .filter(|primitive| primitive.backend_services.iter().any(|host| host.as_str() == backend));
    hosted.map(|primitive| primitive.name.to_string()).collect()
}

async fn tell(app: &TestApp, process: &Process, enforces: &Value) -> Answer {
    let mut report = process.report();
    report["enforces"] = enforces.clone();
    process.send(app, &report).await
}

#[tokio::test]
async fn what_is_sold_and_enforced_nowhere_and_what_is_enforced_and_not_sold_is_reported() {
    let app = TestApp::start().await;
    let gateway = Backend::register(&app, "ai_gateway", "gitlab-ai-gateway", "embedded", 1).await;
    let keys = app.deployment().keys.path();
    let one = gateway.start(keys, 1, "gateway-1");
    let all = hosted(&app, "ai_gateway");

    // 1. A process of today tells no contract: of its backend nothing is concluded.
    assert_eq!(one.send(&app, &one.report()).await.status, StatusCode::OK);
    let report = app.admin_get(REPORT).await;
    assert_eq!((&report["holds"], &report["enforced_nowhere"]), (&json!(true), &json!([])));
    assert!(report["undeclared"].as_array().unwrap().contains(&json!("ai_gateway")), "{report}");
    assert_eq!(report["builds"][0]["enforces"], Value::Null);

    // 2. Whoever enforces everything that it hosts has nothing to fear.
    assert_eq!(tell(&app, &one, &json!(all)).await.status, StatusCode::OK);
    let report = app.admin_get(REPORT).await;
    assert_eq!(
        (&report["holds"], &report["enforced_nowhere"], &report["not_sellable"]),
        (&json!(true), &json!([]), &json!([]))
    );
    assert_eq!(
        report["builds"],
        json!([{ "backend": "ai_gateway", "build": "build-1", "processes": 1, "enforces": all }])
    );
    assert!(!report["undeclared"].as_array().unwrap().contains(&json!("ai_gateway")), "{report}");

    // 3. Another version runs beside it: it forgot one, demands an older name, one of another backend, and one that
    //    nobody sells.
    let mut two = gateway.start(keys, 1, "gateway-2");
    two.build = "build-2".to_owned();
    let mut enforces: Vec<&str> = all.iter().map(String::as_str).filter(|name| *name != "duo_chat").collect();
    enforces.extend(["fly_to_the_moon", "security_scans"]);
    assert_eq!(tell(&app, &two, &json!(enforces)).await.status, StatusCode::OK);
    let report = app.admin_get(REPORT).await;
    assert_eq!(
        report["enforced_nowhere"],
        json!([{ "unit_primitive": "duo_chat", "backends": ["ai_gateway"] }])
    );
    assert_eq!(
        report["not_sellable"],
        json!([
            { "unit_primitive": "fly_to_the_moon", "backend": "ai_gateway", "reason": "unknown" },
            { "unit_primitive": "security_scans", "backend": "ai_gateway", "reason": "hosted_elsewhere" },
        ])
    );
    assert_eq!(report["holds"], false);
    let listed = app.admin_get("/admin/v1/backends/ai_gateway/deployments").await;
    assert_eq!(listed["items"][0]["enforces"], json!(all));

    // 4. When it is gone, the difference is.
    assert_eq!(two.sign_off(&app).await.status, StatusCode::NO_CONTENT);
    assert_eq!(app.admin_get(REPORT).await["holds"], true);

    // 5. Of a backend that is scaled to zero, its pipeline has told.
    let checked = json!({
        "build": "v2", "key_set_version": 1, "key_set_digest": one.digest, "enforces": ["duo_chat"],
    });
    let path = "/v1/backends/ai_gateway/checked-builds";
    let recorded = send(app.request(Method::POST, path).bearer_auth(&gateway.token).json(&checked)).await;
    assert_eq!(recorded.status, StatusCode::OK, "{recorded:?}");
    assert_eq!(app.admin_get(REPORT).await["builds"][0]["build"], "build-1", "what runs goes before");
    app.clock.set(app.clock.now() + TimeDelta::hours(2));
    let report = app.admin_get(REPORT).await;
    assert_eq!(
        report["builds"],
        json!([{ "backend": "ai_gateway", "build": "v2", "processes": 0, "enforces": ["duo_chat"] }])
    );
    assert_eq!(report["enforced_nowhere"].as_array().unwrap().len(), all.len() - 1);
}

#[tokio::test]
async fn a_contract_that_is_none_is_refused_with_its_place() {
    let app = TestApp::start().await;
    let gateway = Backend::register(&app, "ai_gateway", "gitlab-ai-gateway", "embedded", 1).await;
    let one = gateway.start(app.deployment().keys.path(), 1, "gateway-1");
    let refused = tell(&app, &one, &json!(["duo_chat", "Duo chat", ""])).await;
    let problem = refused.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
    let pointers: Vec<_> =
        problem["errors"].as_array().unwrap().iter().map(|error| &error["pointer"]).collect();
    assert_eq!(pointers, [&json!("/enforces/1"), &json!("/enforces/2")]);
    let endless: Vec<String> = (0..2000).map(|number| format!("primitive_{number}")).collect();
    let problem = tell(&app, &one, &json!(endless)).await;
    let problem = problem.refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
    assert_eq!(
        (&problem["errors"][0]["pointer"], &problem["errors"][0]["code"]),
        (&json!("/enforces"), &json!("too_long"))
    );
    // The same name twice is one name, in any order.
    assert_eq!(tell(&app, &one, &json!(["duo_chat", "ask_epic", "duo_chat"])).await.status, StatusCode::OK);
    assert_eq!(app.admin_get(REPORT).await["builds"][0]["enforces"], json!(["ask_epic", "duo_chat"]));
}
