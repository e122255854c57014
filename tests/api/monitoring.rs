//! Alert rules and dashboard: accepted by Prometheus' own tool, each alert tried, every query on metrics that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use chrono::TimeDelta;
use reqwest::StatusCode;
use serde_json::{Value, json};
use token_authority::app::RiskWalk;
use token_authority::telemetry::metric_names::{Kind, METRICS};

use crate::support::app::{TestApp, activate, sell};
use crate::support::debian::{on_this_machine, unpacked};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/monitoring").join(name)
}

fn promtool(arguments: &[&str]) {
    let program = on_this_machine("promtool").unwrap_or_else(|| {
        let why = "this test needs promtool; on Debian: apt-get install prometheus";
        unpacked("prometheus", &["prometheus"], why).join("usr/bin/promtool")
    });
    let output = Command::new(program).args(arguments).current_dir(file("")).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&said));
}

#[test]
fn prometheus_takes_the_rules_and_each_alert_fires_and_stays_quiet_as_it_should() {
    promtool(&["check", "rules", "alerts.yml"]);
    promtool(&["test", "rules", "alerts.test.yml"]);
    let (rules, tests) = (read("alerts.yml"), read("alerts.test.yml"));
    let alerts: Vec<_> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() >= 15, "{alerts:?}");
    for alert in alerts {
        let fires = tests.contains(&format!("alertname: {alert}\n"));
        let is_quiet = tests.contains(&format!("alertname: {alert}, exp_alerts: []"));
        assert!(fires && is_quiet, "{alert} is not tried both ways");
    }
}

#[test]
fn rules_and_dashboard_ask_for_metrics_buckets_and_labels_that_exist() {
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let queries = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries: Vec<String> = queries.map(|target| target["expr"].as_str().unwrap().to_owned()).collect();
    let mut asked = BTreeSet::new();
    for text in queries.iter().chain([&read("alerts.yml"), &read("alerts.test.yml")]) {
        for (name, behind) in series(text) {
            let (metric, kind) = known(name).unwrap_or_else(|| panic!("there is no metric {name}"));
            asked.insert(metric);
            if let Some(bucket) = behind.split_once("le=\"").filter(|_| behind.starts_with('{')) {
                let bound: f64 = bucket.1.split('"').next().unwrap().parse().unwrap();
                let Kind::Histogram(buckets) = kind else { panic!("{name} has no buckets") };
                assert!(buckets.contains(&bound), "{name} has no bucket {bound}");
            }
        }
    }
    let all: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(asked, all, "each metric is shown or watched somewhere");
}

/// What Grafana needs of a dashboard, by its schema of version 39.
#[test]
fn the_dashboard_is_one_that_grafana_loads() {
    let dashboard: Value = serde_json::from_str(&read("dashboard.json")).unwrap();
    assert_eq!((&dashboard["schemaVersion"], &dashboard["uid"]), (&39.into(), &"token-authority".into()));
    for (member, is_right) in [
        ("title", dashboard["title"].is_string()),
        ("tags", dashboard["tags"].is_array()),
        ("time", dashboard["time"]["from"].is_string() && dashboard["time"]["to"].is_string()),
        ("templating", dashboard["templating"]["list"].is_array()),
        ("annotations", dashboard["annotations"]["list"].is_array()),
    ] {
        assert!(is_right, "{member}");
    }
    let mut ids = BTreeSet::new();
    let mut taken: BTreeMap<(u64, u64), u64> = BTreeMap::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        let id = panel["id"].as_u64().unwrap();
        assert!(ids.insert(id), "two panels have the id {id}");
        let place = |member: &str| panel["gridPos"][member].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24 && place("h") > 0, "{title} is off the grid");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert_eq!(taken.insert((x, y), id), None, "{title} lies on another panel");
            }
        }
        if panel["type"] == "row" {
            continue;
        }
        assert_eq!(panel["type"], "timeseries");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        assert!(
            panel["fieldConfig"]["defaults"]["unit"].is_string()
                && panel["fieldConfig"]["overrides"].is_array()
        );
        let targets = panel["targets"].as_array().unwrap();
        let references: BTreeSet<_> =
            targets.iter().map(|target| target["refId"].as_str().unwrap()).collect();
        assert!(!targets.is_empty() && references.len() == targets.len(), "{title}");
    }
}

/// Each series that is named, with what stands behind the name.
fn series(text: &str) -> Vec<(&str, &str)> {
    let found = text.match_indices("token_authority_").map(|(at, _)| {
        let rest = &text[at..];
        let end = rest.find(|next: char| !next.is_ascii_lowercase() && next != '_').unwrap_or(rest.len());
        let behind = &rest[end..];
        (&rest[..end], &behind[..behind.find('}').map_or(0, |end| end + 1)])
    });
    found.collect()
}

fn known(series: &str) -> Option<(&'static str, Kind)> {
    METRICS.iter().find_map(|metric| {
        let rest = series.strip_prefix(metric.name)?;
        let fits = match metric.kind {
            Kind::Histogram(_) => ["_bucket", "_count", "_sum"].contains(&rest),
            Kind::Counter | Kind::Gauge => rest.is_empty(),
        };
        fits.then_some((metric.name, metric.kind))
    })
}

fn read(name: &str) -> String {
    std::fs::read_to_string(file(name)).unwrap()
}

#[tokio::test]
async fn an_instance_that_stays_away_is_counted_as_at_risk() {
    let app = TestApp::start().await;
    let instance = activate(&app, &sell(&app, Some("duo_pro"), 1).await.activation_code).await;
    activate(&app, &sell(&app, None, 1).await.activation_code).await;
    instance.sync(&app, &json!({ "version": "17.6.1" })).await.expect(StatusCode::OK);
    let mut walk = RiskWalk::default();
    assert_eq!(walk.go_on(&app.app).await.unwrap(), Some(0), "it is expected within the hour");
    app.clock.set(app.clock.now() + TimeDelta::hours(7));
    assert_eq!(
        walk.go_on(&app.app).await.unwrap(),
        Some(1),
        "an hour is left, and nothing was heard for seven"
    );
    instance.sync(&app, &json!({ "version": "17.6.1" })).await.expect(StatusCode::OK);
    assert_eq!(walk.go_on(&app.app).await.unwrap(), Some(0));
}
