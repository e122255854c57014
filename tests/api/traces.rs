//! Traces, as a collector of OpenTelemetry gets them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::app::{fresh_uuid, text};
use crate::support::program::{Deployment, Serving, answer};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_is_one_trace_through_batch_database_and_signing() {
    let collector = Collector::start();
    let mut deployment = Deployment::initialized().await;
    deployment.set("TOKEN_AUTHORITY_OTLP_ENDPOINT", &collector.url);
    deployment.set("TOKEN_AUTHORITY_TRACE_RATIO", "0");
    deployment.set("TOKEN_AUTHORITY_LOG_FILTER", "debug");
    let mut serving = deployment.serve();
    let instance = activated(&deployment, &serving).await;

    // 1. The caller has decided to trace: its trace goes on here. Nobody decided about the other requests.
    let (trace, caller) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let traceparent = |sampled: &str| format!("00-{trace}-{caller}-{sampled}");
    assert_eq!(sync(&serving, &instance, Some(&traceparent("01"))).await, StatusCode::OK);
    assert_eq!(sync(&serving, &instance, None).await, StatusCode::OK);
    assert_eq!(sync(&serving, &instance, Some("00-nonsense-01")).await, StatusCode::OK);
    serving.terminate();
    assert_eq!(serving.wait(), Some(0), "{}", serving.log_text());

    // 2. One trace: the request, the batch that it waited for, and each step of that.
    let spans = collector.spans();
    assert!(spans.iter().all(|span| hex(&span.trace_id) == trace), "{spans:?}");
    let named = |name: &str| {
        spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("no {name}: {spans:?}"))
    };
    let request = named("POST /v1/sync");
    assert_eq!(hex(&request.parent_span_id), caller);
    let batch = named("batch of syncs");
    assert_eq!(batch.parent_span_id, request.span_id);
    for step in ["lock the instances", "read the facts", "record the tokens", "sign", "commit"] {
        assert_eq!(named(step).parent_span_id, batch.span_id, "{step}");
    }
    assert_eq!(spans.len(), 7, "{spans:?}");
    assert!(request.start_time_unix_nano <= batch.start_time_unix_nano);
    assert!(named("commit").end_time_unix_nano <= request.end_time_unix_nano);

    // 3. Its log lines carry the trace.
    let lines = serving.log_lines();
    let traced = |line: &&Value| line["span"]["trace_id"] == trace;
    let answered = lines.iter().filter(traced).find(|line| line["message"] == "answered");
    assert_eq!(answered.map(|line| &line["http.route"]), Some(&json!("/v1/sync")), "{}", serving.log_text());

    // 4. Nothing secret is in what leaves.
    let sent = collector.text();
    assert!(!sent.contains(&instance.1), "a secret left with a span");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_linked_to_each_of_its_syncs() {
    let collector = Collector::start();
    let mut deployment = Deployment::initialized().await;
    deployment.set("TOKEN_AUTHORITY_OTLP_ENDPOINT", &collector.url);
    let mut serving = deployment.serve();
    let mut instances = Vec::new();
    for _ in 0..8 {
        instances.push(activated(&deployment, &serving).await);
    }
    // Until some of them have met in a batch: how many do is a matter of time.
    for _ in 0..20 {
        let all = instances.iter().map(|instance| sync(&serving, instance, None));
        let statuses = futures_util::future::join_all(all).await;
        assert!(statuses.iter().all(|status| *status == StatusCode::OK), "{statuses:?}");
    }
    serving.terminate();
    assert_eq!(serving.wait(), Some(0));
    let spans = collector.spans();
    let syncs: Vec<_> = spans.iter().filter(|span| span.name == "POST /v1/sync").collect();
    assert_eq!(syncs.len(), 160);
    let is_sync = |trace: &[u8], span: &[u8]| {
        syncs.iter().filter(|sync| sync.trace_id == trace && sync.span_id == span).count()
    };
    let batches: Vec<_> = spans.iter().filter(|span| span.name == "batch of syncs").collect();
    let mut told = 0;
    for batch in &batches {
        told += is_sync(&batch.trace_id, &batch.parent_span_id);
        told += batch.links.iter().map(|link| is_sync(&link.trace_id, &link.span_id)).sum::<usize>();
    }
    assert_eq!(told, syncs.len(), "each sync is in exactly one batch");
    assert!(batches.len() < syncs.len(), "none of them met");
}

/// Uid and secret of a fresh instance.
async fn activated(deployment: &Deployment, serving: &Serving) -> (String, String) {
    let token =
        answer(&deployment.run(&["admin-token", "create", "--name", &fresh_uuid(), "--format", "json"]));
    let client = reqwest::Client::new();
    let post = async |path: &str, body: Value| -> Value {
        let request = client.post(format!("{}{path}", serving.base_url)).bearer_auth(text(&token["token"]));
        request.json(&body).send().await.unwrap().json().await.unwrap()
    };
    let customer = post("/admin/v1/customers", json!({ "name": "Example GmbH" })).await;
    let subscription = json!({
        "customer_id": customer["id"], "license_type": "premium", "seats": 1, "trial": false,
        "starts_at": "2026-01-01", "ends_at": "2126-01-01",
    });
    let subscription = post("/admin/v1/subscriptions", subscription).await;
    let license = json!({ "subscription_id": subscription["id"], "kind": "online", "max_instances": 1 });
    let license = post("/admin/v1/licenses", license).await;
    let activation = json!({
        "activation_code": license["activation_code"], "instance_id": fresh_uuid(), "hostname": "a.example.com",
        "version": "17.6.1", "deployment": "self_managed",
    });
    let activated = post("/v1/instances", activation).await;
    (text(&activated["instance_uid"]), text(&activated["instance_secret"]))
}

async fn sync(serving: &Serving, (uid, secret): &(String, String), traceparent: Option<&str>) -> StatusCode {
    let request = reqwest::Client::new().post(format!("{}/v1/sync", serving.base_url));
    let mut request = request.basic_auth(uid, Some(secret)).json(&json!({ "version": "17.6.1" }));
    if let Some(traceparent) = traceparent {
        request = request.header("traceparent", traceparent);
    }
    request.send().await.unwrap().status()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What receives OTLP over HTTP, and keeps it.
struct Collector {
    url: String,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let bodies = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&bodies);
        // It ends with the process of the tests.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || receive(stream.unwrap(), &kept));
            }
        });
        Self { url, bodies }
    }

    fn spans(&self) -> Vec<Span> {
        let bodies = self.bodies.lock().unwrap();
        let requests = bodies.iter().map(|body| ExportTraceServiceRequest::decode(body.as_slice()).unwrap());
        let resources = requests.flat_map(|request| request.resource_spans);
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }

    fn text(&self) -> String {
        self.bodies.lock().unwrap().iter().map(|body| String::from_utf8_lossy(body).into_owned()).collect()
    }
}

/// Requests on one connection, until it is closed.
fn receive(stream: std::net::TcpStream, kept: &Mutex<Vec<Vec<u8>>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        let mut first = String::new();
        if reader.read_line(&mut first).unwrap_or(0) == 0 {
            return;
        }
        assert!(first.starts_with("POST /v1/traces "), "{first}");
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        kept.lock().unwrap().push(body);
        reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    }
}
