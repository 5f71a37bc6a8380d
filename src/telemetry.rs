//! Logs, metrics and traces. Logs go to stderr, because stdout is for data. Metrics are for
//! Prometheus.

#[cfg(feature = "serve")]
pub mod metrics;
pub(crate) mod panics;
pub mod traces;

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, Layer, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{Config, LogFormat};

use traces::TracesError;

/// The metric that has the time of a worker's last heartbeat. Health checks read it.
pub(crate) const LEASE_RENEWED: &str = "photogate_lease_renewed_timestamp_seconds";

/// The log setting is not a valid filter.
#[derive(Debug, thiserror::Error)]
#[error(
    "a setting is wrong: log = {log:?} is not a filter ({reason}); \
     write info, or photogate=debug,warn"
)]
pub struct LogError {
    log: String,
    reason: String,
}

/// Why logging and tracing could not be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The log setting is wrong.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The setting for traces is wrong.
    #[error(transparent)]
    Traces(#[from] TracesError),
}

/// Starts logging and tracing. Only the first call in a process has an effect, because tests share
/// a process.
///
/// # Errors
/// See [`TelemetryError`].
pub fn start(config: &Config) -> Result<(), TelemetryError> {
    // apalis logs every start and stop. Photogate logs the important ones itself.
    let filter = format!("apalis_core=warn,ort=warn,{}", config.log);
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| LogError { log: config.log.clone(), reason: error.to_string() })?;
    let traces = config.otlp_endpoint.as_deref().map(traces::layer).transpose()?;
    let lines = fmt::layer().with_writer(io::stderr).with_target(false);
    let color = io::stderr().is_terminal() && console::colors_enabled_stderr();
    let lines = match config.log_format {
        LogFormat::Text => lines.with_ansi(color).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    let _ = tracing_subscriber::registry().with(traces).with(lines.with_filter(filter)).try_init();
    Ok(())
}
