//! The surface that older instances speak: GraphQL with a license key alone, and seat links.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::app::{Answer, Sold, TestApp, fresh_uuid, sell, send, text};

const ACTIVATE: &str = "mutation($input: CloudActivationActivateInput!) { cloudActivationActivate(input: $input) {
    licenseKey newSubscription errors
    futureSubscriptions { cloudLicenseEnabled offlineCloudLicenseEnabled plan company email name startsAt expiresAt usersInLicenseCount } } }";
const ACCESS: &str = "query($key: String!, $version: String!) { cloudConnectorAccess(licenseKey: $key, gitlabVersion: $version) {
    serviceToken { token expiresAt } availableServices { name serviceStartTime bundledWith } catalog } }";

/// Sells to an installation that may use a license key.
async fn sell_to_older(app: &TestApp) -> Sold {
    let sold = sell(app, Some("duo_pro"), 1).await;
    let license = json!({
        "subscription_id": sold.subscription_id, "kind": "online", "max_instances": 2, "legacy_bearer": true,
    });
    let license = app.admin_post("/admin/v1/licenses", license).await;
    Sold { license_id: text(&license["id"]), activation_code: text(&license["activation_code"]), ..sold }
}

async fn ask(app: &TestApp, instance_id: Option<&str>, query: &str, variables: Value) -> Answer {
    let mut request =
        app.request(Method::POST, "/graphql").header("x-gitlab-host-name", "gitlab.example.com");
    if let Some(instance_id) = instance_id {
        request = request.header("x-gitlab-instance-id", instance_id);
    }
    send(request.json(&json!({ "query": query, "variables": variables }))).await
}

/// The license key of an installation, activated as today's instances do.
async fn activate(app: &TestApp, code: &str, instance_id: &str, unique: &str) -> Value {
    let input = json!({
        "activationCode": code, "instanceIdentifier": instance_id, "uniqueInstanceId": unique, "automated": true,
        "gitlabVersion": "17.6.1-ee", "hostname": "gitlab.example.com",
    });
    let answer = ask(app, Some(unique), ACTIVATE, json!({ "input": input })).await.expect(StatusCode::OK);
    assert_eq!(answer.get("errors"), None, "{answer}");
    answer["data"]["cloudActivationActivate"].clone()
}

async fn access(app: &TestApp, instance_id: Option<&str>, key: &str) -> Value {
    let variables = json!({ "key": key, "version": "17.6.1-ee" });
    ask(app, instance_id, ACCESS, variables).await.expect(StatusCode::OK)
}

fn claims(token: &Value) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text(token).split('.').nth(1).unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn an_older_instance_activates_and_gets_one_token_for_all_backends_for_three_days() {
    let app = TestApp::start().await;
    let sold = sell_to_older(&app).await;
    let later = json!({
        "customer_id": sold.customer_id, "license_type": "ultimate", "seats": 12, "trial": false,
        "starts_at": "2027-11-10T00:00:00Z", "ends_at": "2028-11-10T00:00:00Z",
    });
    app.admin_post("/admin/v1/subscriptions", later).await;
    let (id, unique) = (fresh_uuid(), fresh_uuid());
    let activated = activate(&app, &sold.activation_code, &id, &unique).await;
    assert_eq!((&activated["newSubscription"], &activated["errors"]), (&json!(true), &json!([])));
    let future = &activated["futureSubscriptions"][0];
    assert_eq!((&future["plan"], &future["usersInLicenseCount"]), (&json!("ultimate"), &json!(12)));
    assert_eq!(future["startsAt"], "2027-11-10T00:00:00Z");

    let key = text(&activated["licenseKey"]);
    let answer = access(&app, Some(&unique), &key).await;
    let granted = &answer["data"]["cloudConnectorAccess"];
    assert_eq!(granted["serviceToken"]["expiresAt"], "2026-11-23T12:00:00Z", "{answer}");
    let claims = claims(&granted["serviceToken"]["token"]);
    let audiences: Vec<String> = claims["aud"].as_array().unwrap().iter().map(text).collect();
    for audience in ["gitlab-ai-gateway", "gitlab-duo-workflow-service", "gitlab-security-gateway"] {
        assert!(audiences.contains(&audience.to_owned()), "{audiences:?}");
    }
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 72 * 3600);
    assert_eq!((&claims["sub"], &claims["gitlab_realm"]), (&json!(id), &json!("self-managed")));
    assert_eq!(claims["duo_seat_count"], "10");
    let services = granted["availableServices"].as_array().unwrap();
    let chat = services.iter().find(|service| service["name"] == "duo_chat").unwrap();
    assert_eq!(chat["serviceStartTime"], "2024-10-17T00:00:00Z");
    assert!(chat["bundledWith"]["duo_pro"].as_array().unwrap().contains(&json!("duo_chat")), "{chat}");
    let mut members: Vec<_> = granted["catalog"].as_object().unwrap().keys().cloned().collect();
    members.sort();
    assert_eq!(members, ["add_ons", "backend_services", "license_types", "unit_primitives"]);

    // Asked again at once: the same token. The ledger has one row, which names every backend.
    let again = access(&app, Some(&unique), &key).await;
    assert_eq!(again["data"]["cloudConnectorAccess"]["serviceToken"], granted["serviceToken"]);
    let instances = app.admin_get(&format!("/admin/v1/instances?license_id={}", sold.license_id)).await;
    let uid = text(&instances["items"][0]["instance_uid"]);
    let issued = app.admin_get(&format!("/admin/v1/instances/{uid}/issuances")).await;
    let issued = issued["items"].as_array().unwrap();
    assert_eq!(issued.len(), 1, "{issued:?}");
    assert!(text(&issued[0]["backend"]).starts_with("ai_gateway "), "{issued:?}");
}

#[tokio::test]
async fn a_license_key_works_for_its_own_installation_alone_and_is_stored_as_a_digest() {
    let app = TestApp::start().await;
    let sold = sell_to_older(&app).await;
    let (id, unique) = (fresh_uuid(), fresh_uuid());
    let key = text(&activate(&app, &sold.activation_code, &id, &unique).await["licenseKey"]);
    for own in [Some(id.to_uppercase()), Some(unique.clone()), None] {
        let answer = access(&app, own.as_deref(), &key).await;
        assert!(
            answer["data"]["cloudConnectorAccess"]["serviceToken"]["token"].is_string(),
            "{own:?}: {answer}"
        );
    }
    let other = access(&app, Some(&fresh_uuid()), &key).await;
    // A key that was never given out, though it looks like one, is told the same.
    let unknown = token_authority::domain::credential::Credential::from_random(
        token_authority::domain::credential::CredentialKind::LicenseKey,
        &[9; 32],
    );
    let unknown = access(&app, Some(&id), unknown.expose()).await;
    assert_eq!(other, unknown);
    assert_eq!(other["errors"][0]["extensions"]["code"], "unauthenticated", "{other}");
    assert_eq!(other["data"], Value::Null);
    let mistyped = access(&app, Some(&id), &format!("{}x", &key[..key.len() - 1])).await;
    assert_eq!(mistyped["errors"][0]["extensions"]["code"], "unauthenticated");

    let stored: i64 =
        sqlx::query_scalar("select count(*) from instance_credentials c where c::text like '%' || $1 || '%'")
            .bind(&key[4..])
            .fetch_one(&mut *app.database().await)
            .await
            .unwrap();
    assert_eq!(stored, 0);
}

#[tokio::test]
async fn activating_again_gives_another_key_and_both_go_on_until_the_newer_was_used() {
    let app = TestApp::start().await;
    let sold = sell_to_older(&app).await;
    let (id, unique) = (fresh_uuid(), fresh_uuid());
    let first = text(&activate(&app, &sold.activation_code, &id, &unique).await["licenseKey"]);
    let again = activate(&app, &sold.activation_code, &id, &unique).await;
    assert_eq!(again["newSubscription"], false);
    let second = text(&again["licenseKey"]);
    assert_ne!(first, second);
    let works = async |key: &str| access(&app, Some(&id), key).await["data"].is_object();
    assert!(works(&first).await && works(&second).await);
    app.clock.set(app.clock.now() + chrono::TimeDelta::days(7));
    assert!(!works(&first).await && works(&second).await);
}

#[tokio::test]
async fn a_license_that_was_not_made_for_it_gives_no_license_key() {
    let app = TestApp::start().await;
    let sold = sell(&app, None, 1).await;
    let refused = activate(&app, &sold.activation_code, &fresh_uuid(), &fresh_uuid()).await;
    assert_eq!(refused["licenseKey"], Value::Null);
    assert!(text(&refused["errors"][0]).contains("legacy_bearer"), "{refused}");
    let wrong = activate(&app, "tac_nonsense", &fresh_uuid(), &fresh_uuid()).await;
    assert_eq!(wrong["errors"], json!(["The activation code is not valid."]));
    let left: i64 = sqlx::query_scalar("select count(*) from instances")
        .fetch_one(&mut *app.database().await)
        .await
        .unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn failures_are_limited_for_each_key() {
    let app = TestApp::start().await;
    let sold = sell_to_older(&app).await;
    let id = fresh_uuid();
    let key = text(&activate(&app, &sold.activation_code, &id, &fresh_uuid()).await["licenseKey"]);
    let mut codes = Vec::new();
    for _ in 0..15 {
        let answer = access(&app, Some(&fresh_uuid()), &key).await;
        codes.push(text(&answer["errors"][0]["extensions"]["code"]));
    }
    assert_eq!(codes.first().map(String::as_str), Some("unauthenticated"));
    assert_eq!(codes.last().map(String::as_str), Some("rate_limited"), "{codes:?}");
}

#[tokio::test]
async fn it_is_a_graphql_server_with_introspection_aliases_fragments_and_errors_in_their_member() {
    let app = TestApp::start().await;
    let sold = sell_to_older(&app).await;
    let id = fresh_uuid();
    let key = text(&activate(&app, &sold.activation_code, &id, &fresh_uuid()).await["licenseKey"]);
    let query =
        "query Q($k: String!) { one: cloudConnectorAccess(licenseKey: $k, gitlabVersion: \"17.6\") { ...T }
        two: cloudConnectorAccess(licenseKey: $k, gitlabVersion: \"17.6\") { ...T __typename } }
        fragment T on CloudConnectorAccess { serviceToken { token } }";
    let answer = ask(&app, Some(&id), query, json!({ "k": key })).await.expect(StatusCode::OK);
    assert_eq!(answer["data"]["one"]["serviceToken"], answer["data"]["two"]["serviceToken"], "{answer}");
    assert_eq!(answer["data"]["two"]["__typename"], "CloudConnectorAccess");

    let introspection = "{ __schema { queryType { name } mutationType { name } types { name kind fields(includeDeprecated: true) {
        name args { name type { ...R } } type { ...R } } inputFields { name type { ...R } } } } }
        fragment R on __Type { kind name ofType { kind name ofType { kind name ofType { kind name ofType { kind name } } } } }";
    let told = ask(&app, None, introspection, json!({})).await.expect(StatusCode::OK);
    assert_eq!(told.get("errors"), None, "{told}");
    let types: Vec<_> =
        told["data"]["__schema"]["types"].as_array().unwrap().iter().map(|one| text(&one["name"])).collect();
    assert!(types.contains(&"CloudActivationActivateInput".to_owned()), "{types:?}");

    for (query, variables) in [
        ("{ nothingLikeIt }", json!({})),
        ("{ cloudConnectorAccess(licenseKey: 7, gitlabVersion: \"17.6\") { catalog } }", json!({})),
        (
            "query($k: String!) { cloudConnectorAccess(licenseKey: $k, gitlabVersion: \"17.6\") { catalog } }",
            json!({}),
        ),
        ("{ cloudConnectorAccess(", json!({})),
    ] {
        let answer = ask(&app, None, query, variables).await.expect(StatusCode::OK);
        assert!(!text(&answer["errors"][0]["message"]).is_empty(), "{query}: {answer}");
        assert_eq!(answer["data"], Value::Null, "{query}");
    }
}

#[tokio::test]
async fn what_would_cost_too_much_is_refused_before_it_runs() {
    let app = TestApp::start().await;
    let sold = sell_to_older(&app).await;
    let id = fresh_uuid();
    let key = text(&activate(&app, &sold.activation_code, &id, &fresh_uuid()).await["licenseKey"]);
    let field = |alias: usize, key: &str| {
        format!(
            "a{alias}: cloudConnectorAccess(licenseKey: \"{key}\", gitlabVersion: \"17.6\") {{ serviceToken {{ token }} }} "
        )
    };
    let many: String = (0..50).map(|alias| field(alias, &key)).collect();
    let deep = format!(
        "{{ __schema {{ types {{ {} }} }} }}",
        "fields { type { ".repeat(30) + "name" + &" } }".repeat(30)
    );
    let cyclic = "{ __schema { types { ...A } } } fragment A on __Type { ofType { ...B } } fragment B on __Type { ofType { ...A } }";
    let two = format!("{{ {} {} }}", field(1, &key), field(2, &other_key()));
    for (what, query) in [
        ("many fields", format!("{{ {many} }}")),
        ("a deep one", deep),
        ("a cycle of fragments", cyclic.to_owned()),
        ("text that is nested without end", "{a".repeat(20_000)),
        ("two keys", two),
    ] {
        let answer = ask(&app, Some(&id), &query, json!({})).await.expect(StatusCode::OK);
        assert!(answer["errors"].as_array().is_some_and(|errors| !errors.is_empty()), "{what}: {answer}");
        assert_eq!(answer["data"], Value::Null, "{what}");
    }
    let batch = json!([{ "query": "{ __typename }" }, { "query": "{ __typename }" }]);
    send(app.request(Method::POST, "/graphql").json(&batch))
        .await
        .refused(StatusCode::UNPROCESSABLE_ENTITY, "invalid_parameters");
    let in_address = send(app.request(Method::GET, "/graphql?query={__typename}")).await;
    in_address.refused(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed");
}

#[tokio::test]
async fn reported_seats_and_versions_are_kept_with_their_history() {
    let app = TestApp::start().await;
    let sold = sell_to_older(&app).await;
    let id = fresh_uuid();
    let key = text(&activate(&app, &sold.activation_code, &id, &fresh_uuid()).await["licenseKey"]);
    let report = async |version: &str, seats: u64, key: &str, instance_id: &str| {
        let body = json!({
            "gitlab_version": version, "timestamp": "2026-11-20T11:00:00Z", "license_key": key,
            "max_historical_user_count": seats + 3, "billable_users_count": seats, "hostname": "gitlab.example.com",
            "instance_id": id, "unique_instance_id": id, "add_on_metrics": [{ "add_on_type": "duo_pro", "assigned_seats": seats }],
        });
        let request =
            app.request(Method::POST, "/api/v1/seat_links").header("x-gitlab-instance-id", instance_id);
        send(request.json(&body)).await
    };
    let told = report("17.6.1", 5, &key, &id).await.expect(StatusCode::OK);
    assert_eq!((&told["success"], &told["license"]), (&json!(true), &Value::Null));
    report("17.7.0", 8, &key, &id).await.expect(StatusCode::OK);
    report("17.7.0", 8, &key, &id).await.expect(StatusCode::OK);
    for (key, instance_id) in
        [(other_key(), id.clone()), (key.clone(), fresh_uuid()), ("no key".to_owned(), id.clone())]
    {
        let refused = report("17.7.0", 9, &key, &instance_id).await.expect(StatusCode::UNAUTHORIZED);
        assert_eq!(refused["success"], false);
        assert_eq!(refused["errors"], json!(["The license key is not valid."]));
    }
    let instances = app.admin_get(&format!("/admin/v1/instances?license_id={}", sold.license_id)).await;
    let uid = text(&instances["items"][0]["instance_uid"]);
    let reports = app.admin_get(&format!("/admin/v1/instances/{uid}/reports")).await;
    let seen: Vec<_> = reports["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (text(&one["version"]), one["usage"]["billable_users_count"].as_u64()))
        .collect();
    let expected = [("17.7.0", Some(8)), ("17.6.1", Some(5)), ("17.6.1", None)];
    assert_eq!(seen, expected.map(|(version, seats)| (version.to_owned(), seats)));
}

/// One that was never given out.
fn other_key() -> String {
    use token_authority::domain::credential::{Credential, CredentialKind};
    Credential::from_random(CredentialKind::LicenseKey, &[3; 32]).expose().to_owned()
}
