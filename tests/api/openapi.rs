//! The API's description: kept in the repository as it is served, and shown as a page without a download.

use std::fs;
use std::path::Path;

use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::support::app::{TestApp, send};

/// Writes the file anew where it has fallen behind. Look at what changed, and commit it.
#[tokio::test]
async fn the_description_in_the_repository_is_the_one_that_is_served() {
    let app = TestApp::start().await;
    let served = send(app.request(Method::GET, "/openapi.json")).await.expect(StatusCode::OK);
    assert!(served["openapi"].as_str().unwrap().starts_with("3.1."), "{}", served["openapi"]);
    let mut served = serde_json::to_string_pretty(&served).unwrap();
    served.push('\n');
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/openapi.json");
    let kept = fs::read_to_string(&path).unwrap_or_default();
    if kept != served {
        fs::write(&path, &served).unwrap();
        panic!("docs/openapi.json had fallen behind the code; it is written anew: look at it, and commit it");
    }
}

#[tokio::test]
async fn the_page_of_the_description_loads_nothing_from_elsewhere() {
    let app = TestApp::start().await;
    let to_page = send(app.request(Method::GET, "/docs")).await;
    assert_eq!(to_page.status, StatusCode::OK, "{to_page:?}");
    let page = send(app.request(Method::GET, "/docs/")).await;
    assert_eq!(page.status, StatusCode::OK);
    let mut loaded = 0;
    for attribute in ["src=\"", "href=\""] {
        for (at, _) in page.text.match_indices(attribute) {
            let address = page.text[at + attribute.len()..].split('"').next().unwrap();
            assert!(!address.contains("//"), "{address} is elsewhere");
            let address = address.trim_start_matches("./").trim_start_matches("/docs/");
            let part = send(app.request(Method::GET, &format!("/docs/{address}"))).await;
            assert_eq!(part.status, StatusCode::OK, "{address}");
            // A style or a script may load more.
            for elsewhere in ["@import", "url(http", "url(//", "importScripts(\"http"] {
                assert!(!part.text.contains(elsewhere), "{address} loads by {elsewhere}");
            }
            loaded += 1;
        }
    }
    assert!(loaded >= 4, "{}", page.text);
    let start = send(app.request(Method::GET, "/docs/swagger-initializer.js")).await.text;
    assert!(start.contains("/openapi.json") && !start.contains("https://petstore"), "{start}");
}

#[tokio::test]
async fn every_operation_has_a_name_of_its_own_and_tells_its_refusals() {
    let app = TestApp::start().await;
    let description = send(app.request(Method::GET, "/openapi.json")).await.expect(StatusCode::OK);
    let mut names = std::collections::BTreeSet::new();
    for (path, operations) in description["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let name =
                operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path} has no name"));
            assert!(names.insert(name.to_owned()), "{name} is the name of two operations");
            let answers: &Value = &operation["responses"];
            assert!(answers["4XX"]["content"]["application/problem+json"].is_object(), "{method} {path}");
        }
    }
    assert!(names.len() > 50, "{}", names.len());
}
