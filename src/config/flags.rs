//! The settings that are also flags of the command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;
use serde::Serialize;

use super::{LogFormat, json_is_wanted};

/// The settings that are also flags of the command line.
#[derive(Debug, Clone, Default, Args, Serialize)]
#[command(
    next_help_heading = "Settings (also in the environment, as PHOTOGATE_…, and in the file)"
)]
pub struct Flags {
    /// The settings file, in TOML [default: photogate.toml, if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// The address of PostgreSQL, as `postgres://user@host/database`
    #[arg(long, global = true, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_url: Option<String>,
    /// The address of Redis, as `redis://host`
    #[arg(long, global = true, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis_url: Option<String>,
    /// The store of the photos: `file:///directory`, `s3://bucket`, `gs://bucket`, `az://container`
    #[arg(long, global = true, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_url: Option<String>,
    /// The directory of the models
    #[arg(long, global = true, value_name = "DIRECTORY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models_dir: Option<PathBuf>,
    /// The address that `photogate serve` listens on, as 127.0.0.1:8080
    #[arg(long, global = true, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// The filter for log messages, as info or photogate=debug
    #[arg(long, global = true, value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
    /// The format of log lines and messages [default: text]
    #[arg(long, global = true, value_name = "FORMAT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,
}

impl Flags {
    /// Whether messages are JSON, as far as that is known before all settings are read: one of them
    /// may be wrong.
    pub fn wants_json(&self) -> bool {
        self.log_format.map_or_else(json_is_wanted, |format| format == LogFormat::Json)
    }
}
