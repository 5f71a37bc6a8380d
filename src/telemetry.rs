//! What is logged, and how: on stderr, so that stdout is data. And what is counted, for Prometheus.

use std::{
    io::{self, IsTerminal},
    net::SocketAddr,
    time::Duration,
};

use metrics_exporter_prometheus::PrometheusBuilder;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{EnvFilter, fmt};

use crate::{
    config::{Config, LogFormat},
    queues,
};

/// Nothing can be answered there.
#[derive(Debug, thiserror::Error)]
#[error(
    "metrics_listen = {address} cannot be listened to ({reason}): choose another port, or leave it away"
)]
pub struct MetricsError {
    address: SocketAddr,
    reason: String,
}

/// Answers Prometheus, over HTTP, with what this process counts.
///
/// # Errors
/// When the address is not to be had.
pub fn answer_prometheus(address: SocketAddr) -> Result<(), MetricsError> {
    PrometheusBuilder::new()
        .with_http_listener(address)
        .install()
        .map_err(|error| MetricsError { address, reason: error.to_string() })?;
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
        let totals = async { queues::totals(&mut *database.acquire().await?, None).await };
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

/// Starts logging. The first call counts; tests share a process.
///
/// # Errors
/// When the filter is none.
pub fn start(config: &Config) -> Result<(), LogError> {
    // apalis tells of every start and stop; what matters of it, we say ourselves.
    let filter = format!("apalis_core=warn,ort=warn,{}", config.log);
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| LogError { log: config.log.clone(), reason: error.to_string() })?;
    let lines = fmt().with_env_filter(filter).with_writer(io::stderr).with_target(false);
    let _ = match config.log_format {
        LogFormat::Text => lines
            .with_ansi(io::stderr().is_terminal() && console::colors_enabled_stderr())
            .try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    Ok(())
}
