//! Every setting, read once: flags over environment over file over default. Nothing else reads the environment.

use std::{
    collections::BTreeMap, net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration,
};

use clap::Args;
use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use serde::{Deserialize, Serialize};

use crate::{sandbox::Limits, worker::reconciler::Every};

/// All settings. In a file and in the environment they have these names (`PHOTOGATE_SLOTS=4`); the addresses of the
/// services are also found in `DATABASE_URL` and `REDIS_URL`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// PostgreSQL: `postgres://user:password@host/database`.
    pub database_url: String,
    /// Redis, for prompt wake-ups and live progress. Without it everything works, by polling.
    pub redis_url: Option<String>,
    /// The photos: `file:///directory` or `s3://bucket/prefix` (with the `AWS_…` variables).
    pub store_url: String,
    /// Where the models are.
    pub models_dir: PathBuf,
    /// Photos looked at at once; each takes a core and about 300 MB. 0: as many as there are cores.
    pub slots: usize,
    /// Photos claimed ahead of the slots, so that none waits for the database or the store. 0: as many as slots.
    pub ahead: usize,
    /// The memory, in megabytes, of a process that looks at photos, models included; it is ended when it wants more.
    pub photo_memory_megabytes: u64,
    /// How long a photo may be looked at until that process is ended, and CPU seconds for it.
    pub photo_seconds: u64,
    /// A worker that is silent for longer is declared dead, and its photos are taken over.
    pub lease_seconds: u64,
    /// How often to look for work when nobody rings, at least.
    pub poll_milliseconds: u64,
    /// On SIGTERM: how long to finish what runs, before it is handed back.
    pub drain_seconds: u64,
    /// How often a missing photo is tried again; a store that is down, four times as often.
    pub retries_max: u32,
    /// The wait before the first retry; it doubles each time, up to a minute.
    pub retry_base_milliseconds: u64,
    /// Do not wait for the disk when claiming. Safe (see ARCHITECTURE.md), and faster on slow disks.
    pub claim_async_commit: bool,
    /// Workers take turns in checking the books; this is how often the cheap check runs. 0: never.
    pub reconcile_seconds: u64,
    /// How often the full check of the books runs. 0: never.
    pub reconcile_full_hours: u64,
    /// Where `photogate serve` answers.
    pub listen: SocketAddr,
    /// A proxy in front speaks HTTPS, and tells the address of whoever asks as the last of `X-Forwarded-For`.
    pub behind_https: bool,
    /// Where a worker, or the service, answers Prometheus, as `127.0.0.1:9464`. None: nowhere.
    pub metrics_listen: Option<SocketAddr>,
    /// Where `OpenTelemetry` traces are sent, over HTTP, as `http://127.0.0.1:4318`. None: nowhere.
    pub otlp_endpoint: Option<String>,
    /// What is logged, as in `info` or `photogate=debug,warn`.
    pub log: String,
    /// `text` or `json`.
    pub log_format: LogFormat,
    /// For `photogate migrate --worker-login`; never shown.
    #[serde(default, skip_serializing)]
    pub worker_password: Option<String>,
    /// For `photogate migrate --service-login`; never shown.
    #[serde(default, skip_serializing)]
    pub service_password: Option<String>,
    /// `AWS_…` of the environment, in lower case; never shown.
    #[serde(default, skip_serializing)]
    pub store_options: BTreeMap<String, String>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines: an object a line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            database_url: "postgres://localhost/photogate".into(),
            redis_url: None,
            store_url: "file:///var/lib/photogate/photos".into(),
            models_dir: "models".into(),
            slots: 0,
            ahead: 0,
            photo_memory_megabytes: 1536,
            photo_seconds: 60,
            lease_seconds: 5,
            poll_milliseconds: 500,
            drain_seconds: 25,
            retries_max: 5,
            retry_base_milliseconds: 1000,
            claim_async_commit: false,
            reconcile_seconds: 60,
            reconcile_full_hours: 24,
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            behind_https: false,
            metrics_listen: None,
            otlp_endpoint: None,
            log: "info".into(),
            log_format: LogFormat::Text,
            worker_password: None,
            service_password: None,
            store_options: BTreeMap::new(),
        }
    }
}

/// The settings that are flags too.
#[derive(Debug, Clone, Default, Args, Serialize)]
#[command(
    next_help_heading = "Settings (also in the environment, as PHOTOGATE_…, and in the file)"
)]
pub struct Flags {
    /// A file of settings, in TOML [default: photogate.toml, if it is there]
    #[arg(long, global = true, value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// PostgreSQL, as `postgres://user@host/database`
    #[arg(long, global = true, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub database_url: Option<String>,
    /// Redis, as `redis://host`
    #[arg(long, global = true, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redis_url: Option<String>,
    /// The photos, as `file:///directory` or `s3://bucket/prefix`
    #[arg(long, global = true, value_name = "URL")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store_url: Option<String>,
    /// Where the models are
    #[arg(long, global = true, value_name = "DIRECTORY")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models_dir: Option<PathBuf>,
    /// Where `photogate serve` answers, as 127.0.0.1:8080
    #[arg(long, global = true, value_name = "ADDRESS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// What is logged, as info or photogate=debug
    #[arg(long, global = true, value_name = "FILTER")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value that cannot be, a name that is none, a file that cannot be read.
    #[error("a setting is wrong: {0}")]
    Wrong(#[from] Box<figment::Error>),
    /// A number out of bounds.
    #[error("a setting is wrong: {name} must be between {least} and {most}, and is {found}")]
    OutOfBounds {
        /// Of the setting.
        name: &'static str,
        /// Smallest that is allowed.
        least: u64,
        /// Largest that is allowed.
        most: u64,
        /// As set.
        found: u64,
    },
    /// The file that was named is not there.
    #[error("there is no file {0}: leave --config away to go without one")]
    NoFile(PathBuf),
}

impl Config {
    /// Reads the settings.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn read(flags: &Flags) -> Result<Self, ConfigError> {
        let named =
            flags.config.clone().or_else(|| Env::var("PHOTOGATE_CONFIG").map(PathBuf::from));
        if let Some(file) = named.as_ref().filter(|file| !file.is_file()) {
            return Err(ConfigError::NoFile(file.clone()));
        }
        let mut config: Self = Figment::from(Serialized::defaults(Self::default()))
            .merge(Toml::file(named.unwrap_or_else(|| "photogate.toml".into())))
            .merge(Env::raw().only(&["DATABASE_URL", "REDIS_URL"]))
            .merge(Env::prefixed("PHOTOGATE_").ignore(&[
                "config",
                "worker_password",
                "service_password",
            ]))
            .merge(Serialized::defaults(flags))
            .extract()
            .map_err(Box::new)?;
        // Read as it stands: a password of digits is no number.
        config.worker_password = Env::var("PHOTOGATE_WORKER_PASSWORD");
        config.service_password = Env::var("PHOTOGATE_SERVICE_PASSWORD");
        // An empty address is none: REDIS_URL= switches Redis off.
        config.redis_url = config.redis_url.filter(|url| !url.is_empty());
        config.store_options = Env::raw()
            .filter(|name| name.starts_with("AWS_") || name.starts_with("aws_"))
            .iter()
            .map(|(name, value)| (name.as_str().to_ascii_lowercase(), value))
            // As compose passes what is not set.
            .filter(|(_, value)| !value.is_empty())
            .collect();
        config.check()
    }

    fn check(self) -> Result<Self, ConfigError> {
        let bounds = [
            ("slots", self.slots as u64, 0, 1024),
            ("ahead", self.ahead as u64, 0, 4096),
            ("photo_memory_megabytes", self.photo_memory_megabytes, 512, 65_536),
            ("photo_seconds", self.photo_seconds, 1, 3600),
            ("lease_seconds", self.lease_seconds, 1, 3600),
            ("poll_milliseconds", self.poll_milliseconds, 10, 1000),
            ("drain_seconds", self.drain_seconds, 0, 3600),
            ("reconcile_seconds", self.reconcile_seconds, 0, 86_400),
            ("reconcile_full_hours", self.reconcile_full_hours, 0, 8760),
            ("retries_max", u64::from(self.retries_max), 0, 100),
            ("retry_base_milliseconds", self.retry_base_milliseconds, 1, 60_000),
        ];
        match bounds.into_iter().find(|(_, found, least, most)| !(least..=most).contains(&found)) {
            Some((name, found, least, most)) => {
                Err(ConfigError::OutOfBounds { name, least, most, found })
            }
            None => Ok(self),
        }
    }

    /// Photos looked at at once.
    pub fn slots(&self) -> usize {
        if self.slots > 0 {
            self.slots
        } else {
            std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
        }
    }

    /// Photos claimed ahead of the slots.
    pub fn ahead(&self) -> usize {
        if self.ahead > 0 { self.ahead } else { self.slots() }
    }

    /// What looking at a photo may take.
    pub fn photo_limits(&self) -> Limits {
        Limits { memory_megabytes: self.photo_memory_megabytes, seconds: self.photo_seconds }
    }

    /// How long a silent worker lives.
    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_seconds)
    }

    /// How often the books are checked.
    pub fn reconcile_every(&self) -> Every {
        Every {
            incremental: Duration::from_secs(self.reconcile_seconds),
            full: Duration::from_secs(3600 * self.reconcile_full_hours),
        }
    }

    /// The settings as they may be shown: without passwords.
    #[must_use]
    pub fn redacted(mut self) -> Self {
        self.database_url = redact(&self.database_url);
        self.redis_url = self.redis_url.as_deref().map(redact);
        self.worker_password = None;
        self.service_password = None;
        self.store_options.clear();
        self
    }
}

fn redact(address: &str) -> String {
    let Ok(mut url) = url::Url::parse(address) else { return "(not an address)".into() };
    if url.password().is_some() {
        let _ = url.set_password(Some("***"));
    }
    let secret = |name: &str| ["pass", "key", "secret"].iter().any(|word| name.contains(word));
    let pairs: Vec<_> = url
        .query_pairs()
        .map(|(name, value)| {
            (name.to_string(), if secret(&name) { "***".into() } else { value.to_string() })
        })
        .collect();
    if !pairs.is_empty() {
        url.query_pairs_mut().clear().extend_pairs(pairs);
    }
    url.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        let config = Config {
            database_url: "postgres://anna:geheim@db/photogate?sslmode=require&password=geheim"
                .into(),
            redis_url: Some("redis://:geheim@cache".into()),
            ..Config::default()
        };

        let shown = format!("{:?}", config.redacted());

        assert!(!shown.contains("geheim"), "{shown}");
    }

    #[test]
    fn a_number_out_of_bounds_is_told_with_its_name() {
        let error = Config { lease_seconds: 0, ..Config::default() }.check().unwrap_err();

        assert_eq!(
            error.to_string(),
            "a setting is wrong: lease_seconds must be between 1 and 3600, and is 0"
        );
    }
}
