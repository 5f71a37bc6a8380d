//! Traces: the call that queues photos and the work on each photo are one trace, across processes
//! and retries. The attributes follow the conventions of `OpenTelemetry` for messaging. Traces are
//! sent only if `otlp_endpoint` is set.

#[cfg(not(feature = "otlp"))]
mod no_otlp;
#[cfg(feature = "otlp")]
mod otlp;

#[cfg(not(feature = "otlp"))]
use no_otlp as otlp;

use std::collections::HashMap;

use sqlx::PgPool;
use tracing::{Span, Subscriber};
use tracing_subscriber::{Layer, registry::LookupSpan};

use crate::{
    database,
    ids::{JobId, RunId},
    queue::claim::Reservation,
};

/// Traces cannot be sent to the endpoint.
#[derive(Debug, thiserror::Error)]
#[error("a setting is wrong: traces cannot be sent to otlp_endpoint = {endpoint} ({reason})")]
pub struct TracesError {
    endpoint: String,
    reason: String,
}

/// Returns the layer that sends spans to this collector.
///
/// # Errors
/// When the endpoint is not a valid address.
pub(super) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(
    endpoint: &str,
) -> Result<impl Layer<S>, TracesError> {
    otlp::layer(endpoint)
}

/// Sends the remaining traces before the process ends.
pub(crate) fn close() {
    otlp::close();
}

/// Makes a span continue the trace that `trace` names, in the format of `traceparent`.
pub(crate) fn continues(span: &Span, trace: &str) {
    otlp::continues(span, trace);
}

/// Returns the `traceparent` value of a span; `None` if traces are not sent.
pub(crate) fn name_of(span: &Span) -> Option<String> {
    otlp::name_of(span)
}

/// Checks a caller's `traceparent` header. Returns it if it has the W3C format, else `None`.
pub(crate) fn parent(said: &str) -> Option<&str> {
    let parts: Vec<&str> = said.split('-').collect();
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    match parts[..] {
        ["00", trace, span, flags] if hex(trace, 32) && hex(span, 16) && hex(flags, 2) => {
            Some(said)
        }
        _ => None,
    }
}

/// Stores the trace that the photos of these runs belong to.
///
/// # Errors
/// When the database has trouble.
pub(crate) async fn keep(
    tx: &mut sqlx::PgConnection,
    runs: &[RunId],
    trace: &str,
) -> sqlx::Result<()> {
    let runs: Vec<i64> = runs.iter().map(|run| run.0).collect();
    sqlx::query!("SELECT trace_runs($1, $2)", &runs, trace).execute(tx).await.map(|_| ())
}

/// Reads the traces that claimed photos belong to. If the database has trouble, the traces are
/// lost, but the photos are processed.
pub(crate) async fn of(pool: &PgPool, batch: &[Reservation]) -> HashMap<JobId, String> {
    if !otlp::are_sent() || batch.is_empty() {
        return HashMap::new();
    }
    let jobs: Vec<i64> = batch.iter().map(|reservation| reservation.job().0).collect();
    let rows = sqlx::query!(
        r#"SELECT f.job_id AS "job: JobId", r.trace AS "trace!"
           FROM in_flight f JOIN run r USING (run_id)
           WHERE f.job_id = ANY ($1) AND r.trace IS NOT NULL"#,
        &jobs
    );
    match database::in_time(database::PATIENCE, rows.fetch_all(pool)).await {
        Ok(rows) => rows.into_iter().map(|row| (row.job, row.trace)).collect(),
        Err(error) => {
            tracing::debug!(%error, "the traces of a batch could not be read");
            HashMap::new()
        }
    }
}

/// Makes the span for the work on one photo.
pub(crate) fn work(reservation: &Reservation, trace: Option<&str>) -> Span {
    let span = tracing::info_span!(
        "photo",
        "otel.kind" = "consumer",
        "messaging.system" = "photogate",
        "messaging.operation.type" = "process",
        "messaging.destination.name" = %reservation.operation(),
        "messaging.message.id" = %reservation.job(),
        "photogate.event" = %reservation.event(),
        "photogate.photo" = %reservation.photo(),
        "photogate.verdict" = tracing::field::Empty,
    );
    if let Some(trace) = trace {
        continues(&span, trace);
    }
    span
}
