//! Traces for a collector of OpenTelemetry, where one is configured. Without, each of these functions looks once at
//! whether there is one, and returns: a sync then pays for nothing.

use std::borrow::Cow;
use std::sync::OnceLock;
use std::time::Duration;

use actix_web::http::header::HeaderMap;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{
    Link, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer, TracerProvider,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracer, SdkTracerProvider};
use url::Url;

use super::TelemetryError;

static TRACER: OnceLock<SdkTracer> = OnceLock::new();

/// What sends the spans of this process to the collector.
#[derive(Debug)]
pub struct Traces(SdkTracerProvider);

impl Traces {
    /// Starts to trace. `collector` is the base of its OTLP receiver for HTTP, below which `/v1/traces` is; of requests
    /// that bring no decision of their own along, the share `ratio` is traced. Not from within an asynchronous runtime.
    ///
    /// # Errors
    /// The address cannot be used, or this process traces already.
    pub fn start(collector: &Url, ratio: f64, environment: &str) -> Result<Self, TelemetryError> {
        let endpoint = format!("{}/v1/traces", collector.as_str().trim_end_matches('/'));
        let exporter = SpanExporter::builder()
            .with_http()
            .with_endpoint(endpoint)
            .with_timeout(PATIENCE)
            .build()
            .map_err(|error| TelemetryError::Traces(Box::new(error)))?;
        let resource = Resource::builder()
            .with_service_name("token-authority")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .with_attribute(KeyValue::new("deployment.environment.name", environment.to_owned()));
        let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio)));
        let provider = SdkTracerProvider::builder()
            .with_batch_exporter(exporter)
            .with_sampler(sampler)
            .with_resource(resource.build())
            .build();
        TRACER.set(provider.tracer("token-authority")).map_err(|_| TelemetryError::TracesAreTaken)?;
        Ok(Self(provider))
    }

    /// Sends what is still here, for a bounded time.
    pub fn finish(&self) {
        if let Err(error) = self.0.shutdown_with_timeout(PATIENCE) {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }
}

/// A request that is traced.
#[derive(Clone, Debug)]
pub(crate) struct RequestTrace(Context);

impl RequestTrace {
    /// Begins the span of a request, in the trace that its `traceparent` names (W3C Trace Context §3.2), or in a new one.
    /// `None` where nothing is traced.
    pub(crate) fn begin(method: &str, headers: &HeaderMap) -> Option<Self> {
        let tracer = TRACER.get()?;
        let caller = TraceContextPropagator::new().extract_with_context(&Context::new(), &Headers(headers));
        let builder = SpanBuilder::from_name(method.to_owned())
            .with_kind(SpanKind::Server)
            .with_attributes([KeyValue::new("http.request.method", method.to_owned())]);
        let span = tracer.build_with_context(builder, &caller);
        Some(Self(caller.with_span(span)))
    }

    /// What the work for the request happens in.
    pub(crate) fn context(&self) -> Context {
        self.0.clone()
    }

    /// For log lines: 32 hexadecimal digits.
    pub(crate) fn id(&self) -> String {
        self.0.span().span_context().trace_id().to_string()
    }

    /// Ends the span. A route is a pattern, and never a path with ids in it.
    pub(crate) fn end(&self, method: &str, route: &str, status: u16, request_id: &str) {
        let span = self.0.span();
        span.update_name(format!("{method} {route}"));
        span.set_attribute(KeyValue::new("http.route", route.to_owned()));
        span.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        span.set_attribute(KeyValue::new("request.id", request_id.to_owned()));
        if status >= 500 {
            span.set_status(Status::error("a fault of this service"));
        }
        span.end();
    }
}

/// The span that the current work belongs to, for whoever goes on with it elsewhere. `None` where nothing is traced.
pub(crate) fn current() -> Option<SpanContext> {
    TRACER.get()?;
    let current = Context::current();
    let span = current.span().span_context().clone();
    span.is_valid().then_some(span)
}

/// Begins the span of work that several requests wait for: part of the first one's trace, and linked to the others.
/// `None` where none of them is traced.
pub(crate) fn shared(
    name: &'static str,
    requests: impl Iterator<Item = SpanContext>,
    attributes: impl IntoIterator<Item = KeyValue>,
) -> Option<Context> {
    let tracer = TRACER.get()?;
    let mut requests = requests.filter(SpanContext::is_sampled);
    let first = requests.next()?;
    let links = requests.map(Link::with_context).collect();
    let parent = Context::new().with_remote_span_context(first);
    let builder = SpanBuilder::from_name(name).with_links(links).with_attributes(attributes);
    let span = tracer.build_with_context(builder, &parent);
    Some(parent.with_span(span))
}

/// A step of the current work, until it is dropped. Nothing where that is not traced.
pub(crate) fn step(name: &'static str) -> Step {
    let Some(tracer) = TRACER.get() else { return Step(None) };
    let current = Context::current();
    if !current.span().span_context().is_sampled() {
        return Step(None);
    }
    Step(Some(tracer.build_with_context(SpanBuilder::from_name(Cow::Borrowed(name)), &current)))
}

/// See [`step`].
#[derive(Debug)]
pub(crate) struct Step(
    #[expect(dead_code, reason = "a span ends when it is dropped")] Option<<SdkTracer as Tracer>::Span>,
);

/// The headers of a request, as the propagator asks for them.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|name| name.as_str()).collect()
    }
}

/// For the collector to take what is sent.
const PATIENCE: Duration = Duration::from_secs(5);
