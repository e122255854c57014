//! The file of routes: under which prefix each backend is reached, and where it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use url::{Host, Url};

use crate::cli::CliError;
use crate::domain::catalog::{BackendName, Catalog};

/// Everything that the entry point needs and the catalog does not say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Routes {
    /// Where to listen, as the proxy spells it: `:8080`, or `:443 ssl crt /etc/haproxy/site.pem alpn h2,http/1.1`.
    #[serde(default = "default_bind")]
    pub(super) bind: String,
    #[serde(default)]
    pub(super) limits: Limits,
    pub(super) backends: BTreeMap<String, Route>,
}

/// How much one address may ask.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    /// Requests within ten seconds.
    pub(super) requests_per_10s: u32,
    /// Answers of 401 within a minute: a client with a broken token, or somebody who guesses.
    pub(super) refusals_per_minute: u32,
    /// Bytes of a request's line and headers.
    pub(super) header_bytes: u32,
}

/// One backend.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    /// `/ai`: taken away before a request goes on.
    pub(super) prefix: String,
    /// `http://10.0.0.5:8081`, `https://ai.internal`; no path.
    pub(super) upstreams: Vec<String>,
    /// A path that answers 200 while requests should be sent there.
    #[serde(default = "default_health")]
    pub(super) health: String,
    /// How long an answer may take.
    #[serde(default = "default_timeout_seconds")]
    pub(super) timeout_seconds: u32,
}

/// Where a process of a backend answers.
#[derive(Clone, Debug)]
pub(super) struct Upstream {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
    /// A name, which has to be looked up.
    pub(super) is_name: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { requests_per_10s: 300, refusals_per_minute: 30, header_bytes: 15_000 }
    }
}

fn default_bind() -> String {
    ":8080".to_owned()
}

fn default_health() -> String {
    "/health".to_owned()
}

/// Answers of models take their time.
fn default_timeout_seconds() -> u32 {
    300
}

impl Routes {
    /// Each backend under its own name, nowhere.
    pub(super) fn by_name(catalog: &Catalog) -> Self {
        let routes = catalog.backends().iter().map(|backend| {
            let route = Route {
                prefix: format!("/{}", backend.name.as_str().replace('_', "-")),
                upstreams: Vec::new(),
                health: default_health(),
                timeout_seconds: default_timeout_seconds(),
            };
            (backend.name.to_string(), route)
        });
        Self { bind: default_bind(), limits: Limits::default(), backends: routes.collect() }
    }

    /// Reads the file, and compares it with the catalog.
    pub(super) fn read(file: &Path, catalog: &Catalog) -> Result<Self, CliError> {
        let doing = || format!("could not read the routes in {}", file.display());
        let text = std::fs::read_to_string(file).map_err(CliError::fault(doing()))?;
        let routes: Self = serde_saphyr::from_str(&text).map_err(CliError::fault(doing()))?;
        let problems = routes.problems(catalog);
        if problems.is_empty() {
            return Ok(routes);
        }
        Err(CliError::refused(format!("{} is not fit: {}", file.display(), problems.join("; "))))
    }

    /// Everything that is wrong, as sentences.
    fn problems(&self, catalog: &Catalog) -> Vec<String> {
        let mut problems = Vec::new();
        if !is_one_line(&self.bind) {
            problems.push("`bind` must be one line of printable characters".to_owned());
        }
        let limits = [self.limits.requests_per_10s, self.limits.refusals_per_minute];
        if limits.contains(&0) || !(4_096..=65_536).contains(&self.limits.header_bytes) {
            problems.push("limits must be above 0, and `header_bytes` from 4096 to 65536".to_owned());
        }
        for backend in catalog.backends() {
            if !self.backends.contains_key(backend.name.as_str()) {
                problems.push(format!("the catalog's backend {} has no route", backend.name));
            }
        }
        let mut prefixes = BTreeSet::new();
        for (name, route) in &self.backends {
            let known = BackendName::new(name).is_ok_and(|name| catalog.backend(&name).is_some());
            if !known {
                problems.push(format!("the catalog has no backend {name}"));
            }
            if !is_prefix(&route.prefix) {
                problems.push(format!(
                    "the prefix of {name} must be like `/ai`: small letters, digits, `-`, `_`, parted by `/`"
                ));
            } else if !prefixes.insert(route.prefix.as_str()) {
                problems.push(format!("{} is the prefix of two backends", route.prefix));
            }
            if !route.health.starts_with('/') || route.health.contains(' ') || !is_one_line(&route.health) {
                problems.push(format!("the health check of {name} must be a path"));
            }
            if route.timeout_seconds == 0 {
                problems.push(format!("`timeout_seconds` of {name} must be above 0"));
            }
            let wrong = route.upstreams.iter().filter(|text| Upstream::parse(text).is_none());
            problems.extend(wrong.map(|text| {
                format!("{text} of {name} is no upstream: `http://` or `https://`, a host, a port, no path")
            }));
        }
        problems
    }
}

impl Route {
    pub(super) fn upstreams(&self) -> impl Iterator<Item = Upstream> {
        self.upstreams.iter().filter_map(|text| Upstream::parse(text))
    }
}

impl Upstream {
    fn parse(text: &str) -> Option<Self> {
        let url = Url::parse(text).ok()?;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        let anonymous = url.username().is_empty() && url.password().is_none();
        let tls = match url.scheme() {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        if !bare || !anonymous {
            return None;
        }
        let host = url.host()?;
        let is_name = matches!(host, Host::Domain(_));
        Some(Self { host: host.to_string(), port: url.port_or_known_default()?, tls, is_name })
    }
}

fn is_one_line(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|character| matches!(character, ' '..='~'))
}

fn is_prefix(text: &str) -> bool {
    let segment = |segment: &str| {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte);
        !segment.is_empty() && segment.bytes().all(allowed)
    };
    text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(segment))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog_files;

    fn problems(change: impl FnOnce(&mut Routes)) -> String {
        let catalog = catalog_files::example().unwrap();
        let mut routes = Routes::by_name(&catalog);
        change(&mut routes);
        routes.problems(&catalog).join("; ")
    }

    fn ai(routes: &mut Routes) -> &mut Route {
        routes.backends.get_mut("ai_gateway").unwrap()
    }

    #[test]
    fn routes_by_name_fit_their_catalog() {
        assert_eq!(problems(|_| {}), "");
    }

    #[test]
    fn whatever_could_become_another_line_or_rule_is_refused() {
        assert!(problems(|routes| routes.bind = ":80\n  acl x".into()).contains("one line"));
        for prefix in ["", "/", "ai", "/ai/", "/a i", "/ai\n", "/AI", "/../x", "/ai$"] {
            assert!(
                problems(|routes| ai(routes).prefix = prefix.into()).contains("must be like"),
                "{prefix}"
            );
        }
        assert!(problems(|routes| ai(routes).prefix = "/security-gateway".into()).contains("two backends"));
        for upstream in ["10.0.0.1:80", "ftp://a:1", "http://a:1/path", "http://u:p@a:1", "http://a b:1"] {
            assert!(
                problems(|routes| ai(routes).upstreams = vec![upstream.into()]).contains("is no upstream")
            );
        }
        assert!(problems(|routes| ai(routes).health = "/a b".into()).contains("must be a path"));
    }

    #[test]
    fn routes_and_catalog_name_the_same_backends() {
        let lost = problems(|routes| {
            let route = routes.backends.remove("ai_gateway").unwrap();
            routes.backends.insert("ai_gatway".into(), route);
        });
        assert_eq!(
            lost,
            "the catalog's backend ai_gateway has no route; the catalog has no backend ai_gatway"
        );
    }
}
