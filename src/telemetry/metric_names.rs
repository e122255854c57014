//! Every metric in one table: its name, kind, labels and meaning.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// Each active key, as labels; 1 while it is active. Labels `kid`, `alg`, `purpose`.
pub const ACTIVE_KEY: &str = "token_authority_active_key";
/// Authentications that failed. Label `surface`: `instances`, `backends`, `admin`.
pub const AUTHENTICATION_FAILURES: &str = "token_authority_authentication_failures_total";
/// Whether this replica does the work that one does for all.
pub const BACKGROUND_WORK: &str = "token_authority_background_work";
/// How long a batch of syncs took, from its first read to its commit.
pub const BATCH_DURATION: &str = "token_authority_batch_duration_seconds";
/// How many syncs were decided and committed together.
pub const BATCH_SIZE: &str = "token_authority_batch_size";
/// Which version runs, as a label; always 1. Label `version`.
pub const BUILD_INFO: &str = "token_authority_build_info";
/// By how much the database's clock is ahead of this process's.
pub const CLOCK_SKEW: &str = "token_authority_clock_skew_seconds";
/// Connections that were closed at once, since their address had too many.
pub const CONNECTIONS_REFUSED: &str = "token_authority_connections_refused_total";
/// How old the signature of the deny list is.
pub const DENY_LIST_AGE: &str = "token_authority_deny_list_age_seconds";
/// Processes that accepted a forged probe. Label `backend`.
pub const DISPROVED_PROCESSES: &str = "token_authority_disproved_processes_total";
/// Answers. Labels `route` (the pattern, never the path) and `status`.
pub const HTTP_REQUESTS: &str = "token_authority_http_requests_total";
/// Instances whose tokens will die before they can be expected to sync.
pub const INSTANCES_AT_RISK: &str = "token_authority_instances_at_risk";
/// How long until a key ends; 0 for one that was left out. Labels `kid`, `alg`, `purpose`.
pub const KEY_END: &str = "token_authority_key_end_seconds";
/// How long the longest waiting sync has waited; 0 when none waits.
pub const OLDEST_WAITING: &str = "token_authority_oldest_waiting_seconds";
/// Connections to the database. Label `state`: `idle`, `used`.
pub const POOL_CONNECTIONS: &str = "token_authority_pool_connections";
/// Syncs that wait for their batch.
pub const QUEUE_DEPTH: &str = "token_authority_queue_depth";
/// Standbys that could sign at once in an emergency. Labels `alg`, `purpose`.
pub const READY_STANDBYS: &str = "token_authority_ready_standbys";
/// Syncs answered. Label `code`: `ok`, or the code of the refusal or fault.
pub const SYNCS: &str = "token_authority_syncs_total";
/// How long a sync took, from its arrival to its answer, the wait for a batch included.
pub const SYNC_DURATION: &str = "token_authority_sync_duration_seconds";
/// Reports of key sets that were never published. Label `backend`.
pub const UNKNOWN_KEY_SETS: &str = "token_authority_unknown_key_sets_total";
/// Registered backends for whose algorithm no key may sign. Label `alg`.
pub const UNSERVED_BACKENDS: &str = "token_authority_unserved_backends";
/// Events that enabled webhooks have still before them.
pub const WEBHOOK_BACKLOG: &str = "token_authority_webhook_backlog";
/// Attempts to deliver an event. Label `outcome`: `delivered`, `failed`, `gone`.
pub const WEBHOOK_DELIVERIES: &str = "token_authority_webhook_deliveries_total";

/// What kind of metric it is, and the buckets of a histogram.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counted by upper bounds.
    Histogram(&'static [f64]),
}

/// One metric, as Prometheus and the documentation tell of it.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// The name, as scraped.
    pub name: &'static str,
    /// The kind.
    pub kind: Kind,
    /// The unit.
    pub unit: Unit,
    /// The labels.
    pub labels: &'static [&'static str],
    /// The help text.
    pub about: &'static str,
}

/// From a sync that hardly waits to the one that its deadline ends.
const SECONDS: &[f64] = &[
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0,
];

const SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Every metric, by name.
pub const METRICS: &[Metric] = &[
    Metric {
        name: ACTIVE_KEY,
        kind: Kind::Gauge,
        unit: Unit::Count,
        labels: &["kid", "alg", "purpose"],
        about: "1 for each key that is active, by kid, algorithm and purpose; access_tokens is what mints",
    },
    Metric {
        name: AUTHENTICATION_FAILURES,
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["surface"],
        about: "Authentications that failed, by surface",
    },
    Metric {
        name: BACKGROUND_WORK,
        kind: Kind::Gauge,
        unit: Unit::Count,
        labels: &[],
        about: "1 on the replica that does the work that one does for all: partitions, webhooks, deny list, anchors",
    },
    Metric {
        name: BATCH_DURATION,
        kind: Kind::Histogram(SECONDS),
        unit: Unit::Seconds,
        labels: &[],
        about: "Time from the first read of a batch of syncs to its commit",
    },
    Metric {
        name: BATCH_SIZE,
        kind: Kind::Histogram(SIZES),
        unit: Unit::Count,
        labels: &[],
        about: "Syncs that were decided, recorded and committed together",
    },
    Metric {
        name: BUILD_INFO,
        kind: Kind::Gauge,
        unit: Unit::Count,
        labels: &["version"],
        about: "1 for the version that runs",
    },
    Metric {
        name: CLOCK_SKEW,
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        labels: &[],
        about: "By how much the database's clock is ahead of this process's; 5 seconds either way make it unready",
    },
    Metric {
        name: CONNECTIONS_REFUSED,
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &[],
        about: "Connections that were closed at once, since their address had too many",
    },
    Metric {
        name: DENY_LIST_AGE,
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        labels: &[],
        about: "Age of the deny list's signature; it is signed anew every hour, so two hours are an alarm",
    },
    Metric {
        name: DISPROVED_PROCESSES,
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["backend"],
        about: "Processes that accepted a forged probe: they verify nothing; any increase is an alarm",
    },
    Metric {
        name: HTTP_REQUESTS,
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["route", "status"],
        about: "HTTP answers, by route pattern and status",
    },
    Metric {
        name: INSTANCES_AT_RISK,
        kind: Kind::Gauge,
        unit: Unit::Count,
        labels: &[],
        about: "Instances whose tokens will die within a day and before their next expected sync; counted in rounds of 1,000 instances each 30 seconds",
    },
    Metric {
        name: KEY_END,
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        labels: &["kid", "alg", "purpose"],
        about: "Time until a key of the newest key set ends, 0 for one that was left out; thirty days of an active key are an alarm",
    },
    Metric {
        name: OLDEST_WAITING,
        kind: Kind::Gauge,
        unit: Unit::Seconds,
        labels: &[],
        about: "Age of the sync that has waited longest for its batch, 0 when none waits",
    },
    Metric {
        name: POOL_CONNECTIONS,
        kind: Kind::Gauge,
        unit: Unit::Count,
        labels: &["state"],
        about: "Connections to the database, by state (idle, used)",
    },
    Metric {
        name: QUEUE_DEPTH,
        kind: Kind::Gauge,
        unit: Unit::Count,
        labels: &[],
        about: "Syncs that wait for their batch",
    },
    Metric {
        name: READY_STANDBYS,
        kind: Kind::Gauge,
        unit: Unit::Count,
        labels: &["alg", "purpose"],
        about: "Standbys that every backend has proved and that could sign at once; below 1 is an alarm",
    },
    Metric {
        name: SYNC_DURATION,
        kind: Kind::Histogram(SECONDS),
        unit: Unit::Seconds,
        labels: &[],
        about: "Time from the arrival of a sync to its answer, the wait for its batch included",
    },
    Metric {
        name: SYNCS,
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["code"],
        about: "Syncs answered, by outcome: issued, repeated, nothing_granted, or the code of the refusal or fault",
    },
    Metric {
        name: UNKNOWN_KEY_SETS,
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["backend"],
        about: "Reports of a key set that was never published; any increase is an alarm",
    },
    Metric {
        name: UNSERVED_BACKENDS,
        kind: Kind::Gauge,
        unit: Unit::Count,
        labels: &["alg"],
        about: "Registered backends that get no tokens, since no key may sign with their algorithm; above 0 is an alarm",
    },
    Metric {
        name: WEBHOOK_BACKLOG,
        kind: Kind::Gauge,
        unit: Unit::Count,
        labels: &[],
        about: "Events that enabled webhooks have still before them, in all",
    },
    Metric {
        name: WEBHOOK_DELIVERIES,
        kind: Kind::Counter,
        unit: Unit::Count,
        labels: &["outcome"],
        about: "Attempts to deliver an event to a webhook, by outcome: delivered, failed, gone",
    },
];

/// Gives each metric its unit and help text.
pub(super) fn describe_all() {
    for metric in METRICS {
        match metric.kind {
            Kind::Counter => describe_counter!(metric.name, metric.unit, metric.about),
            Kind::Gauge => describe_gauge!(metric.name, metric.unit, metric.about),
            Kind::Histogram(_) => describe_histogram!(metric.name, metric.unit, metric.about),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn names_are_sorted_and_say_what_they_are() {
        assert!(METRICS.is_sorted_by(|one, next| one.name < next.name));
        for metric in METRICS {
            assert!(metric.name.starts_with("token_authority_"), "{}", metric.name);
            assert_eq!(
                metric.name.ends_with("_total"),
                matches!(metric.kind, Kind::Counter),
                "{}",
                metric.name
            );
            assert_eq!(metric.name.ends_with("_seconds"), metric.unit == Unit::Seconds, "{}", metric.name);
        }
    }

    #[test]
    fn the_metrics_page_shows_every_metric_as_it_is() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
        let mut fresh = "# Metrics\n\n\
             <!-- Made from src/telemetry/metric_names.rs by a test; change it there. -->\n\n\
             `GET /metrics` at `metrics_listen`, in the text format of Prometheus. No label ever holds an \
             identifier of a customer, license or instance.\n\n\
             | metric | kind | labels | meaning |\n|---|---|---|---|\n"
            .to_owned();
        for Metric { name, kind, labels, about, .. } in METRICS {
            let kind = match kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
                Kind::Histogram(_) => "histogram",
            };
            let labels: Vec<String> = labels.iter().map(|label| format!("`{label}`")).collect();
            fresh.push_str(&format!("| `{name}` | {kind} | {} | {about} |\n", labels.join(", ")));
        }
        if std::fs::read_to_string(&path).unwrap_or_default() != fresh {
            std::fs::write(&path, fresh).unwrap();
            panic!("docs/metrics.md was stale and has been rewritten; commit it");
        }
    }
}
