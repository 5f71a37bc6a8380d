//! What is logged, and how: on stderr, so that stdout is data. And what is counted, for Prometheus.

pub mod traces;

use std::{
    io::{self, IsTerminal},
    net::SocketAddr,
    time::Duration,
};

use chrono::Utc;
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing::Level;
use tracing_subscriber::{
    EnvFilter, Layer, filter::Targets, fmt, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::{
    config::{Config, LogFormat},
    ledger::credits,
    queue::status,
};

use traces::TracesError;

/// Nothing can be answered there.
#[derive(Debug, thiserror::Error)]
#[error(
    "metrics_listen = {address} cannot be listened to ({reason}): choose another port, or leave it away"
)]
pub struct MetricsError {
    address: SocketAddr,
    reason: String,
}

/// What is counted, besides the books. No ids, no names: these are for dashboards.
const MEANINGS: &[(&str, &str)] = &[
    (
        "photogate_claimed_photos_total",
        "Photos claimed by this worker, and with each a credit reserved",
    ),
    (
        "photogate_settled_photos_total",
        "Photos settled by this worker; fenced: somebody else had them by then",
    ),
    ("photogate_claim_duration_seconds", "How long a claim took, with adoptions"),
    (
        "photogate_settle_duration_seconds",
        "How long a settlement took, with everything it waited for",
    ),
    ("photogate_work_duration_seconds", "How long a photo was fetched, looked at and written"),
    ("photogate_leases_lost_total", "Incarnations of a worker that were declared dead"),
    ("photogate_photos", "Photos in all queues, by kind: waiting, in_progress"),
    ("photogate_paused_queues", "Queues that do not run, by kind: held, no_credits"),
    (
        "photogate_funded_backlog_photos",
        "Photos that workers could claim now: scale workers by this",
    ),
    (
        "photogate_oldest_funded_seconds",
        "How long the first of the photos that could be claimed now has waited; 0 if there is none",
    ),
    (
        "photogate_credits",
        "Credits of all organisations, by kind: available, reserved for photos in progress, spent",
    ),
    ("photogate_http_request_duration_seconds", "How long an answer took, by status"),
];

/// Answers Prometheus, over HTTP, with what this process counts.
///
/// # Errors
/// When the address is not to be had.
pub fn answer_prometheus(address: SocketAddr) -> Result<(), MetricsError> {
    let buckets = |buckets: &[f64]| buckets.to_vec();
    let (short, long) = (
        buckets(&[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0]),
        buckets(&[0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0]),
    );
    let trouble = |error: BuildError| MetricsError { address, reason: error.to_string() };
    PrometheusBuilder::new()
        .with_http_listener(address)
        .set_buckets_for_metric(Matcher::Full("photogate_work_duration_seconds".into()), &long)
        .map_err(trouble)?
        .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".into()), &short)
        .map_err(trouble)?
        .install()
        .map_err(trouble)?;
    for (name, meaning) in MEANINGS {
        metrics::describe_gauge!(*name, *meaning);
    }
    metrics::describe_gauge!(
        "photogate_books_drift",
        "Rows that broke an invariant of the books at the last check of a kind; anything but 0 is an alarm"
    );
    metrics::describe_gauge!(
        "photogate_books_checked_timestamp_seconds",
        metrics::Unit::Seconds,
        "When the books were last checked, by any worker"
    );
    Ok(())
}

/// How often the queues are counted, for whoever scales workers by them.
const COUNT_EVERY: Duration = Duration::from_secs(10);

/// Counts queues and credits for Prometheus, until stopped.
pub async fn count_queues(database: PgPool, stop: CancellationToken) {
    let mut tick = tokio::time::interval(COUNT_EVERY);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let totals = async { status::totals(&mut *database.acquire().await?, None).await };
        let credits = async { credits::of_all(&mut *database.acquire().await?).await };
        match credits.await {
            Ok(all) => {
                gauge("photogate_credits", "available", all.available.0);
                gauge("photogate_credits", "reserved", all.reserved.0);
                gauge("photogate_credits", "spent", all.spent.0);
            }
            Err(error) => tracing::warn!(%error, "the credits could not be counted"),
        }
        match totals.await {
            Ok(totals) => {
                let paused = "photogate_paused_queues";
                gauge(paused, "held", totals.held);
                gauge(paused, "no_credits", totals.no_credits);
                let photos = "photogate_photos";
                gauge(photos, "waiting", totals.waiting);
                gauge(photos, "in_progress", totals.in_progress);
                // What workers could claim now: scale by this.
                metrics::gauge!("photogate_funded_backlog_photos").set(to_f64(totals.funded));
                // How long the first of those has waited.
                let waited =
                    totals.oldest_funded.map_or(0, |since| (Utc::now() - since).num_seconds());
                metrics::gauge!("photogate_oldest_funded_seconds").set(to_f64(waited.max(0)));
            }
            Err(error) => tracing::warn!(%error, "the queues could not be counted"),
        }
    }
}

fn gauge(name: &'static str, kind: &'static str, value: i64) {
    metrics::gauge!(name, "kind" => kind).set(to_f64(value));
}

#[expect(clippy::cast_precision_loss, reason = "a count of photos is exact up to 2^53")]
fn to_f64(count: i64) -> f64 {
    count as f64
}

/// What is wrong with the log settings.
#[derive(Debug, thiserror::Error)]
#[error(
    "a setting is wrong: log = {log:?} is no filter ({reason}); write info, or photogate=debug,warn"
)]
pub struct LogError {
    log: String,
    reason: String,
}

/// Why nothing is told.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// No log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// No traces.
    #[error(transparent)]
    Traces(#[from] TracesError),
}

/// Starts logging and tracing. The first call counts; tests share a process.
///
/// # Errors
/// See [`TelemetryError`].
pub fn start(config: &Config) -> Result<(), TelemetryError> {
    // apalis tells of every start and stop; what matters of it, we say ourselves.
    let filter = format!("apalis_core=warn,ort=warn,{}", config.log);
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| LogError { log: config.log.clone(), reason: error.to_string() })?;
    let traces = config
        .otlp_endpoint
        .as_deref()
        .map(|endpoint| {
            Ok::<_, TracesError>(
                tracing_opentelemetry::layer().with_tracer(traces::open(endpoint)?),
            )
        })
        .transpose()?
        // Spans of ours: what libraries do in between is theirs.
        .map(|layer| layer.with_filter(Targets::new().with_target("photogate", Level::INFO)));
    let lines = fmt::layer().with_writer(io::stderr).with_target(false);
    let color = io::stderr().is_terminal() && console::colors_enabled_stderr();
    let lines = match config.log_format {
        LogFormat::Text => lines.with_ansi(color).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let _ = tracing_subscriber::registry().with(traces).with(lines.with_filter(filter)).try_init();
    Ok(())
}
