//! The entry point as a configuration of HAProxy 2.6 or later.

use std::fmt::Write;

use super::routes::{Limits, Route, Routes, Upstream};
use crate::domain::catalog::Catalog;

/// The whole file. The same catalog and routes give the same bytes.
pub(super) fn configuration(catalog: &Catalog, routes: &Routes) -> String {
    let mut text = preamble(catalog, routes);
    text.push_str(&frontend(routes));
    for (name, route) in &routes.backends {
        text.push_str(&backend(name, route));
    }
    text.push_str(&tables());
    if routes.backends.values().flat_map(Route::upstreams).any(|upstream| upstream.is_name) {
        text.push_str("\nresolvers system\n    parse-resolv-conf\n    hold valid 10s\n");
    }
    text
}

fn preamble(catalog: &Catalog, routes: &Routes) -> String {
    format!(
        "# Written by `token-authority catalog export --to haproxy` for the catalog\n\
         # {}.\n\
         # Change the routes and write it anew, rather than this file.\n\
         #\n\
         # The entry point carries tokens and verifies none: each backend does, offline. So nothing here depends on a\n\
         # header: limits count the address of the connection, and what clients say of their address is replaced.\n\n\
         global\n    log stdout format raw local0 info\n    tune.bufsize {}\n\n\
         defaults\n    mode http\n    log global\n    option httplog\n    option dontlognull\n    \
         timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n    timeout queue 5s\n    \
         timeout check 2s\n    timeout http-request 10s\n    timeout http-keep-alive 30s\n    \
         # A request that was not sent yet goes to another server.\n    retries 2\n    \
         retry-on conn-failure\n    option redispatch 1\n",
        catalog.digest(),
        // A buffer holds the headers, and as much room as is reserved for changing them.
        routes.limits.header_bytes + 1024,
    )
}

fn frontend(routes: &Routes) -> String {
    let Limits { requests_per_10s, refusals_per_minute, .. } = routes.limits;
    let mut text = format!(
        "\nfrontend entry_point\n    bind {}\n\n    \
         # Who asks too much, or was refused too often, waits.\n    \
         http-request track-sc0 src table requests\n    \
         http-request track-sc1 src table refusals\n    \
         http-request return {} if {{ sc_http_req_rate(0) gt {requests_per_10s} }}\n    \
         http-request return {} if {{ sc_gpc0_rate(1) gt {refusals_per_minute} }}\n    \
         http-response sc-inc-gpc0(1) if {{ status 401 }}\n\n    \
         # A path means what it says: nobody climbs from one backend's prefix into another's.\n    \
         http-request return {} if {{ path,url_dec -m sub /../ }} || {{ path,url_dec -m end /.. }} || \
         {{ path,url_dec -m sub \\\\ }}\n\n    \
         http-request set-header X-Forwarded-For %[src]\n    \
         http-request set-header X-Forwarded-Proto https if {{ ssl_fc }}\n    \
         http-request set-header X-Forwarded-Proto http if !{{ ssl_fc }}\n    \
         http-request del-header Forwarded\n    \
         http-request del-header X-Forwarded-Prefix\n\n",
        routes.bind,
        problem(429, "rate_limited", "Too many requests from this address.", Some(10)),
        problem(429, "refused_too_often", "Too many requests from this address were refused.", Some(60)),
        problem(400, "invalid_path", "The path must not contain steps upwards.", None),
    );
    // A longer prefix is asked for first: `/ai/beta` may be another backend than `/ai`.
    let mut by_length: Vec<_> = routes.backends.iter().collect();
    by_length.sort_by_key(|(name, route)| (std::cmp::Reverse(route.prefix.len()), *name));
    for (name, Route { prefix, .. }) in by_length {
        let _ = writeln!(text, "    use_backend {name} if {{ path {prefix} }} || {{ path_beg {prefix}/ }}");
    }
    text.push_str("    default_backend nowhere\n");
    let _ = write!(
        text,
        "\nbackend nowhere\n    http-request return {}\n",
        problem(404, "not_found", "No backend has this path.", None)
    );
    text
}

fn backend(name: &str, route: &Route) -> String {
    let Route { prefix, health, timeout_seconds, .. } = route;
    let mut text = format!(
        "\nbackend {name}\n    balance leastconn\n    timeout server {timeout_seconds}s\n    \
         http-request set-header X-Forwarded-Prefix {prefix}\n    \
         http-request replace-path ^{prefix}/?(.*)$ /\\1\n    \
         option httpchk\n    http-check send meth GET uri {health} ver HTTP/1.1 hdr Host {name}\n    \
         http-check expect status 200\n    \
         default-server check inter 2s fastinter 500ms downinter 2s fall 2 rise 2 observe layer4 \
         error-limit 2 on-error mark-down\n"
    );
    for (number, upstream) in route.upstreams().enumerate() {
        let Upstream { host, port, tls, is_name } = upstream;
        let _ = write!(text, "    server {name}_{} {host}:{port}", number + 1);
        if tls {
            text.push_str(" ssl verify required ca-file @system-ca alpn http/1.1");
            if is_name {
                let _ = write!(text, " sni str({host}) verifyhost {host} check-sni {host}");
            }
        }
        if is_name {
            text.push_str(" resolvers system init-addr last,libc,none");
        }
        text.push('\n');
    }
    text
}

/// Addresses are remembered for as long as they are counted.
fn tables() -> String {
    "\n# One table a count: an address is one entry, of either family.\n\
     backend requests\n    stick-table type ipv6 size 200k expire 20s store http_req_rate(10s)\n\n\
     backend refusals\n    stick-table type ipv6 size 200k expire 2m store gpc0,gpc0_rate(60s)\n"
        .to_owned()
}

/// A refusal by the proxy itself, in the words of the backends (RFC 9457).
fn problem(status: u16, code: &str, detail: &str, retry_after: Option<u32>) -> String {
    let body = format!(r#"{{\"code\":\"{code}\",\"detail\":\"{detail}\",\"status\":{status}}}"#);
    let retry_after = retry_after.map(|seconds| format!(" hdr Retry-After {seconds}")).unwrap_or_default();
    format!("status {status} content-type application/problem+json string \"{body}\"{retry_after}")
}
