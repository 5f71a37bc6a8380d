//! What is logged, and how: on stderr, so that stdout is data.

use std::io::{self, IsTerminal};

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{Config, LogFormat};

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
