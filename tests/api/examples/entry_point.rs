//! The exported entry point in the real HAProxy, before the example backends.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::Command;

use reqwest::{Client, Response};
use serde_json::Value;

use super::authority::Authority;
use super::backend::{Language, free_address};
use super::eventually;
use super::haproxy::HaProxy;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_exported_entry_point_routes_limits_and_takes_dead_upstreams_out() {
    // 1. Two backends behind one address: one in Node.js with two processes, one in Python with one.
    let mut authority = Authority::start().await;
    let token = authority.sync().await.ours;
    let keys = authority.embed().await;
    let (node, python) = (Language::Node.build(&keys).await, Language::Python.build(&keys).await);
    let one = node.start(&authority).await;
    let two = node.start(&authority).await;
    let other = python.start(&authority).await;
    let address = free_address();
    let folder = tempfile::tempdir().unwrap();
    let routes = format!(
        "bind: \"{address}\"\nlimits: {{requests_per_10s: 100, refusals_per_minute: 10}}\nbackends:\n  \
         ai_gateway: {{prefix: /ai, upstreams: [\"{}\", \"{}\"]}}\n  \
         duo_workflow_service: {{prefix: /workflow, upstreams: []}}\n  \
         observability_backend: {{prefix: /observability, upstreams: []}}\n  \
         security_gateway: {{prefix: /security, upstreams: [\"{}\"]}}\n",
        one.url(),
        two.url(),
        other.url()
    );
    let configuration = folder.path().join("haproxy.cfg");
    std::fs::write(folder.path().join("routes.yml"), routes).unwrap();
    std::fs::write(&configuration, export(&folder.path().join("routes.yml"))).unwrap();
    let checked = HaProxy::check(&configuration);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let complaints = String::from_utf8_lossy(&checked.stderr).into_owned();
    assert!(!complaints.contains("WARNING") && !complaints.contains("ALERT"), "{complaints}");
    let proxy = HaProxy::start(&configuration, &address);
    let url = |path: &str| format!("http://{address}{path}");

    // 2. Each prefix leads to its backend, which sees the path without it.
    let client = from_address(2);
    let served = client.get(url("/ai/chat?x=1")).bearer_auth(&token).send().await.unwrap();
    assert_eq!((served.status().as_u16(), served.headers().get("server")), (200, None), "{}", proxy.log());
    let served = client.get(url("/security/chat")).bearer_auth(&token).send().await.unwrap();
    assert_eq!((served.status().as_u16(), &served.headers()["server"]), (200, &"uvicorn".parse().unwrap()));
    refused(client.get(url("/nowhere")).send().await.unwrap(), 404, "not_found").await;
    refused(client.get(url("/aide/chat")).send().await.unwrap(), 404, "not_found").await;
    assert_eq!(client.get(url("/workflow/x")).send().await.unwrap().status(), 503);
    for path in ["/ai/../security/chat", "/ai/%2e%2e/security/chat", "/ai/..%2fsecurity/chat", "/ai/.."] {
        let answer = raw(&address, path);
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("invalid_path"), "{path}: {answer}");
    }

    // 3. A dead upstream is taken out, and nobody notices.
    let dead = one.url().to_owned();
    drop(one);
    for _ in 0..10 {
        let served = client.get(url("/ai/chat")).bearer_auth(&token).send().await.unwrap();
        assert_eq!(served.status(), 200, "{}", proxy.log());
    }
    let what = format!("{dead} to be taken out");
    eventually(&what, || async { proxy.log().contains("ai_gateway/ai_gateway_1 is DOWN").then_some(()) })
        .await;

    // 4. Who is refused too often waits, whatever it says of its address, and nobody else does.
    let guesser = from_address(3);
    let mut refusals = 0;
    let waiting = loop {
        let request = guesser.get(url("/ai/chat")).header("X-Forwarded-For", format!("10.0.0.{refusals}"));
        let answer = request.bearer_auth("guessed").send().await.unwrap();
        if answer.status() != 401 {
            break answer;
        }
        refusals += 1;
        assert!(refusals < 50, "nothing limits refusals");
    };
    assert!(refusals >= 10, "limited after {refusals}");
    assert_eq!(waiting.headers()["retry-after"], "60");
    refused(waiting, 429, "refused_too_often").await;
    let waits = guesser.get(url("/ai/chat")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(waits.status(), 429);
    let served = client.get(url("/ai/chat")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(served.status(), 200);

    // 5. So does who asks too much.
    let eager = from_address(4);
    let mut asked = 0;
    let waiting = loop {
        let answer = eager.get(url("/ai/health")).send().await.unwrap();
        if answer.status() != 200 {
            break answer;
        }
        asked += 1;
        assert!(asked < 500, "nothing limits requests");
    };
    assert!(asked >= 99, "limited after {asked}");
    refused(waiting, 429, "rate_limited").await;
}

#[test]
fn the_example_routes_and_none_at_all_are_accepted_by_the_proxy() {
    let folder = tempfile::tempdir().unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/entry-point/routes.yml");
    for (name, text) in [("example.cfg", export(&example)), ("none.cfg", program(&[]))] {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        let checked = HaProxy::check(&file);
        assert!(checked.status.success(), "{name}: {}", String::from_utf8_lossy(&checked.stderr));
    }
    assert_eq!(export(&example), export(&example));
}

fn export(routes: &Path) -> String {
    program(&["--routes", routes.to_str().unwrap()])
}

fn program(arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_token-authority"));
    command.args(["catalog", "export", "--to", "haproxy", "--example"]).args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A client with an address of its own.
fn from_address(last: u8) -> Client {
    Client::builder().local_address(IpAddr::V4(Ipv4Addr::new(127, 0, 0, last))).build().unwrap()
}

async fn refused(answer: Response, status: u16, code: &str) {
    assert_eq!(answer.status(), status);
    assert_eq!(answer.headers()["content-type"], "application/problem+json");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!((&problem["code"], &problem["status"]), (&code.into(), &status.into()));
}

/// The path as it stands; clients tidy it up before they send it.
fn raw(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
