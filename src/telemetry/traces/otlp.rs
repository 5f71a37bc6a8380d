//! Sends traces to a collector, over OTLP.

use std::{
    collections::HashMap,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use opentelemetry::{propagation::TextMapPropagator, trace::TracerProvider as _};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{SdkTracerProvider, Tracer},
};
use tracing::{Level, Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

use super::TracesError;

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();
static ON: AtomicBool = AtomicBool::new(false);

/// The layer that sends photogate's own spans, not those of libraries.
///
/// # Errors
/// When the endpoint is not a valid address.
pub(super) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(
    endpoint: &str,
) -> Result<impl Layer<S>, TracesError> {
    let layer = tracing_opentelemetry::layer().with_tracer(open(endpoint)?);
    Ok(layer.with_filter(Targets::new().with_target("photogate", Level::INFO)))
}

/// Opens a tracer that sends to a collector, in batches, from a thread of its own. If the collector
/// is down, only traces are lost.
fn open(endpoint: &str) -> Result<Tracer, TracesError> {
    let trouble = |reason: String| TracesError { endpoint: endpoint.to_owned(), reason };
    url::Url::parse(endpoint).map_err(|error| trouble(error.to_string()))?;
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
        .build()
        .map_err(|error| trouble(error.to_string()))?;
    let provider = SdkTracerProvider::builder()
        .with_resource(Resource::builder().with_service_name("photogate").build())
        .with_batch_exporter(exporter)
        .build();
    let tracer = provider.tracer("photogate");
    let _ = PROVIDER.set(provider);
    ON.store(true, Ordering::Relaxed);
    Ok(tracer)
}

/// Sends the remaining traces before the process ends.
pub(super) fn close() {
    if let Some(provider) = PROVIDER.get()
        && let Err(error) = provider.shutdown()
    {
        tracing::warn!(%error, "the last traces could not be sent");
    }
}

/// Tells whether traces are sent.
pub(super) fn are_sent() -> bool {
    ON.load(Ordering::Relaxed)
}

/// Makes a span continue the trace that `trace` names, in the format of `traceparent`.
pub(super) fn continues(span: &Span, trace: &str) {
    let carrier = HashMap::from([("traceparent".to_owned(), trace.to_owned())]);
    let _ = span.set_parent(TraceContextPropagator::new().extract(&carrier));
}

/// Returns the `traceparent` value of a span; `None` if traces are not sent.
pub(super) fn name_of(span: &Span) -> Option<String> {
    if !are_sent() {
        return None;
    }
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut carrier);
    carrier.remove("traceparent")
}
