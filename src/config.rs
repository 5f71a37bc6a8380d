//! All settings. They are read once; flags win over the environment, the environment over the file,
//! and the file over the defaults. Nothing else reads the environment.

mod flags;
mod mail;
mod secrets;
mod store;
mod support;

use std::{
    collections::BTreeMap, net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration,
};

use figment::{
    Figment,
    providers::{Env, Format, Serialized, Toml},
};
use serde::{Deserialize, Serialize};

pub use flags::Flags;
pub use mail::{Line, Mail, MailError};
pub use support::Support;

/// Most photos that a worker may claim beyond its slots.
const AHEAD_MAX: usize = 4096;

/// All settings. They have these names in the file, and in the environment with a prefix
/// (`PHOTOGATE_SLOTS=4`). The addresses of PostgreSQL and Redis are also read from `DATABASE_URL`
/// and `REDIS_URL`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct Config {
    /// The address of PostgreSQL: `postgres://user:password@host/database`.
    pub database_url: String,
    /// The address of Redis, for prompt wake-ups and live progress. Without it, workers poll.
    pub redis_url: Option<String>,
    /// The store of the photos: `file:///directory`, `s3://bucket/prefix`, `gs://bucket/prefix` or
    /// `az://container/prefix` (with the `AWS_…`, `GOOGLE_…` or `AZURE_…` variables).
    pub store_url: String,
    /// The directory of the models.
    pub models_dir: PathBuf,
    /// Number of photos processed at the same time. Each takes a core and about 300 MB. 0: one for
    /// each core.
    pub slots: usize,
    /// Number of photos claimed beyond the slots, so that no slot waits for the database or the
    /// store. 0: four for each slot, and up to 16 while slots are idle.
    pub ahead: usize,
    /// Number of sandbox children that may be idle. A child sees photos of one organisation only, so
    /// those of other organisations wait here for their next photo, with about 150 MB each. 0: four
    /// for each slot.
    pub idle_children: usize,
    /// Memory limit of a sandbox child in megabytes, including the models. It is ended above that.
    pub photo_memory_megabytes: u64,
    /// Time limit for one photo in seconds, as elapsed time and as CPU time. Then the sandbox child
    /// is ended.
    pub photo_seconds: u64,
    /// Whether photos are only processed in a sandbox: with seccomp or Landlock of the kernel.
    pub sandbox_required: bool,
    /// Length of a worker's lease in seconds. A worker that is silent for longer is declared dead,
    /// and others adopt its photos.
    pub lease_seconds: u64,
    /// Time in milliseconds after which a worker looks for work without a wake-up; at most 1000.
    pub poll_milliseconds: u64,
    /// Time in seconds to finish photos after SIGTERM, before they are handed back.
    pub drain_seconds: u64,
    /// Number of automatic retries of a missing photo; four times as many if the store is down, or
    /// refuses the photo.
    pub retries_max: u32,
    /// Wait before the first automatic retry in milliseconds. It doubles each time, up to a minute.
    pub retry_base_milliseconds: u64,
    /// Claims do not wait for the disk. This is safe (see docs/decisions/0009), and faster on
    /// slow disks.
    pub claim_async_commit: bool,
    /// Seconds between two cheap checks of the books, which workers do in turns. 0: never.
    pub reconcile_seconds: u64,
    /// Hours between two full checks of the books. 0: never.
    pub reconcile_full_hours: u64,
    /// The address that `photogate serve` listens on.
    pub listen: SocketAddr,
    /// True if a proxy in front speaks HTTPS and puts the client's address last in
    /// `X-Forwarded-For`.
    pub behind_https: bool,
    /// Seconds after which a connection to the service is ended on which no whole request has come.
    /// A proxy in front must end its idle connections earlier.
    pub idle_seconds: u64,
    /// Requests a second that the service answers to one organisation; twice as many after a rest.
    /// Each of its people and tokens has half of it.
    pub requests_per_second: u32,
    /// Requests of one organisation that are answered at the same time. Each of its people and
    /// tokens has half of it. Others wait for a moment, and are then refused.
    pub requests_at_once: usize,
    /// Requests a second that the service answers to one address, without a token or session that
    /// it knows.
    pub requests_per_second_of_address: u32,
    /// Photos of one organisation that may wait without credits. More are refused.
    pub unpaid_photos_max: u64,
    /// Events that one organisation may have at the same time.
    pub events_max: u64,
    /// Bib numbers that the start list of one event may have.
    pub start_list_max: usize,
    /// Files that one organisation may upload through the service in 24 hours.
    pub upload_files_max: u64,
    /// Gigabytes that one organisation may upload through the service in 24 hours.
    pub upload_gigabytes_max: u64,
    /// Seconds in which a person can take back what they did to an event's queues. 0: not at all.
    pub undo_seconds: u64,
    /// Months after which an event in which nothing moves is archived: what it has is packed into the
    /// photo store. 0: never.
    pub archive_after_months: u32,
    /// The key that signs archives: 64 hexadecimal digits, which are 32 random bytes; never shown.
    /// `None`: they are not signed.
    #[serde(skip)]
    pub archive_key: Option<String>,
    /// Days for which changes are kept, for the feed and for webhooks that do not answer.
    pub changes_days: u32,
    /// Where the pages send people who need help: an e-mail address, or the `https://` address of a
    /// page. `None`: they name no address.
    pub support: Option<Support>,
    /// Whether webhooks may be called at private addresses and without HTTPS: the network of the
    /// worker is then open to organisers. For tests, and where all organisers are yours.
    pub webhooks_to_private_addresses: bool,
    /// The pause after the first call of a webhook that failed, in milliseconds. It becomes three
    /// times as long each time, up to an hour.
    pub webhook_pause_milliseconds: u64,
    /// The address of the mail server: `smtps://user:password@host`, or `smtp://…` with STARTTLS.
    /// `None`: no e-mail is sent.
    pub smtp_url: Option<String>,
    /// The sender of e-mail, as `photogate <photogate@example.org>`. Needed with `smtp_url`.
    pub mail_from: Option<String>,
    /// The address of the pages, as `https://photogate.example.org`, for links in e-mail. Needed
    /// with `smtp_url`.
    pub public_url: Option<String>,
    /// A person gets one e-mail in this time at most, in seconds. What happens is collected for a
    /// tenth of it, urgent things for a sixtieth.
    pub mail_every_seconds: u64,
    /// Minutes after which a session ends in which no page was asked for.
    pub session_idle_minutes: u32,
    /// Whether staff, operators and finance need a second factor to see pages.
    pub second_factor_required: bool,
    /// The address on which a worker or the service serves metrics to Prometheus, as
    /// `127.0.0.1:9464`. `None`: metrics are not served.
    pub metrics_listen: Option<SocketAddr>,
    /// The address to which `OpenTelemetry` traces are sent, over HTTP, as `http://127.0.0.1:4318`.
    /// `None`: traces are not sent.
    pub otlp_endpoint: Option<String>,
    /// The filter for log messages, as `info` or `photogate=debug,warn`.
    pub log: String,
    /// The format of log lines: `text` or `json`.
    pub log_format: LogFormat,
    /// Where customers pay a purchase, with names of what is put in: `{purchase}` (always),
    /// `{amount}`, `{amount_minor}` (in the smallest unit), `{currency}`, `{credits}`. `None`:
    /// photogate does not say where.
    pub payment_url: Option<String>,
    /// The signing secrets of the endpoint at Stripe, several while one is rolled; never shown.
    /// Empty: there is no payment provider.
    #[serde(default, skip_serializing)]
    pub stripe_secrets: Vec<String>,
    /// The password that `photogate migrate --worker-login` sets; never shown.
    #[serde(default, skip_serializing)]
    pub worker_password: Option<String>,
    /// The password that `photogate migrate --service-login` sets; never shown.
    #[serde(default, skip_serializing)]
    pub service_password: Option<String>,
    /// The variables of the environment for the store, with names in lower case; never shown.
    #[serde(default, skip_serializing)]
    pub store_options: BTreeMap<String, String>,
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Plain text, for people to read.
    Text,
    /// One JSON object a line, for programs.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            database_url: "postgres://localhost/photogate".into(),
            redis_url: None,
            store_url: "file:///var/lib/photogate/photos".into(),
            models_dir: "/usr/share/photogate/models".into(),
            slots: 0,
            ahead: 0,
            idle_children: 0,
            photo_memory_megabytes: 1536,
            photo_seconds: 60,
            sandbox_required: true,
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
            idle_seconds: 75,
            requests_per_second: 200,
            requests_at_once: 8,
            requests_per_second_of_address: 400,
            unpaid_photos_max: 1_000_000,
            events_max: 10_000,
            start_list_max: 100_000,
            upload_files_max: 20_000,
            upload_gigabytes_max: 200,
            undo_seconds: 60,
            archive_after_months: 0,
            archive_key: None,
            changes_days: 14,
            support: None,
            webhooks_to_private_addresses: false,
            webhook_pause_milliseconds: 5000,
            smtp_url: None,
            mail_from: None,
            public_url: None,
            mail_every_seconds: 300,
            session_idle_minutes: 60,
            second_factor_required: true,
            metrics_listen: None,
            otlp_endpoint: None,
            log: "info".into(),
            log_format: LogFormat::Text,
            payment_url: None,
            stripe_secrets: Vec::new(),
            worker_password: None,
            service_password: None,
            store_options: BTreeMap::new(),
        }
    }
}

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A value is not valid, a name is unknown, or the file cannot be read.
    #[error("a setting is wrong: {}", secrets::without_values(.0))]
    Wrong(#[from] Box<figment::Error>),
    /// A number is out of bounds.
    #[error("a setting is wrong: {name} must be between {least} and {most}, but is {found}")]
    OutOfBounds {
        /// The name of the setting.
        name: &'static str,
        /// The smallest value that is allowed.
        least: u64,
        /// The largest value that is allowed.
        most: u64,
        /// The value that was set.
        found: u64,
    },
    /// The address where customers pay is none.
    #[error(
        "a setting is wrong: payment_url must begin with https:// and contain {{purchase}}, \
         which stands for the number of the purchase; it is {0}"
    )]
    PaymentUrl(String),
    /// E-mail cannot be sent with these settings.
    #[error("a setting is wrong: {0}")]
    Mail(#[from] MailError),
    /// The settings file that was named does not exist.
    #[error("there is no file {0}: remove --config to run without a settings file")]
    NoFile(PathBuf),
}

impl Config {
    /// Reads and checks the settings.
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
            .merge(Env::prefixed("PHOTOGATE_").filter(|name| is_setting(name.as_str())))
            .merge(Serialized::defaults(flags))
            .extract()
            .map_err(Box::new)?;
        // Read as text, because figment would read a password of digits as a number.
        config.worker_password = Env::var("PHOTOGATE_WORKER_PASSWORD");
        config.service_password = Env::var("PHOTOGATE_SERVICE_PASSWORD");
        config.archive_key = Env::var("PHOTOGATE_ARCHIVE_KEY").filter(|key| !key.trim().is_empty());
        let secrets = Env::var("PHOTOGATE_STRIPE_SECRETS").unwrap_or_default();
        config.stripe_secrets = secrets
            .split([' ', ','])
            .filter(|secret| !secret.is_empty())
            .map(str::to_owned)
            .collect();
        // An empty address means none: `REDIS_URL=` switches Redis off.
        config.redis_url = config.redis_url.filter(|url| !url.is_empty());
        for address in [
            &mut config.payment_url,
            &mut config.smtp_url,
            &mut config.mail_from,
            &mut config.public_url,
        ] {
            address.take_if(|text| text.is_empty());
        }
        config.store_options = store::options(&Env::raw());
        config.check()
    }

    fn check(self) -> Result<Self, ConfigError> {
        let bounds = [
            ("slots", self.slots as u64, 0, 1024),
            ("ahead", self.ahead as u64, 0, AHEAD_MAX as u64),
            ("idle_children", self.idle_children as u64, 0, 4096),
            ("photo_memory_megabytes", self.photo_memory_megabytes, 512, 65_536),
            ("photo_seconds", self.photo_seconds, 1, 3600),
            ("lease_seconds", self.lease_seconds, 1, 3600),
            ("poll_milliseconds", self.poll_milliseconds, 10, 1000),
            ("drain_seconds", self.drain_seconds, 0, 3600),
            ("reconcile_seconds", self.reconcile_seconds, 0, 86_400),
            ("reconcile_full_hours", self.reconcile_full_hours, 0, 8760),
            ("idle_seconds", self.idle_seconds, 1, 3600),
            ("requests_per_second", u64::from(self.requests_per_second), 1, 100_000),
            ("requests_at_once", self.requests_at_once as u64, 1, 512),
            (
                "requests_per_second_of_address",
                u64::from(self.requests_per_second_of_address),
                1,
                1_000_000,
            ),
            ("unpaid_photos_max", self.unpaid_photos_max, 0, 1_000_000_000),
            ("events_max", self.events_max, 1, 1_000_000),
            ("start_list_max", self.start_list_max as u64, 1, 1_000_000),
            ("upload_files_max", self.upload_files_max, 0, 10_000_000),
            ("upload_gigabytes_max", self.upload_gigabytes_max, 0, 1_000_000),
            ("undo_seconds", self.undo_seconds, 0, 3600),
            ("archive_after_months", u64::from(self.archive_after_months), 0, 1200),
            ("changes_days", u64::from(self.changes_days), 4, 365),
            ("webhook_pause_milliseconds", self.webhook_pause_milliseconds, 10, 600_000),
            ("mail_every_seconds", self.mail_every_seconds, 1, 86_400),
            ("session_idle_minutes", u64::from(self.session_idle_minutes), 5, 720),
            ("retries_max", u64::from(self.retries_max), 0, 100),
            ("retry_base_milliseconds", self.retry_base_milliseconds, 1, 60_000),
        ];
        self.mail()?;
        // Pages link to it.
        if let Some(address) = self.payment_url.as_ref().filter(|address| {
            !address.starts_with("https://")
                || !address.contains("{purchase}")
                || address.len() > 2000
        }) {
            return Err(ConfigError::PaymentUrl(address.clone()));
        }
        match bounds.into_iter().find(|(_, found, least, most)| !(least..=most).contains(&found)) {
            Some((name, found, least, most)) => {
                Err(ConfigError::OutOfBounds { name, least, most, found })
            }
            None => Ok(self),
        }
    }

    /// Returns the number of photos processed at the same time.
    pub fn slots(&self) -> usize {
        if self.slots > 0 {
            self.slots
        } else {
            std::thread::available_parallelism().map_or(1, NonZeroUsize::get)
        }
    }

    /// Returns the number of sandbox children that may be idle.
    pub fn idle_children(&self) -> usize {
        if self.idle_children > 0 { self.idle_children } else { 4 * self.slots() }
    }

    /// Returns the number of photos claimed beyond the slots.
    pub fn ahead(&self) -> usize {
        if self.ahead > 0 { self.ahead } else { 4 * self.slots() }
    }

    /// Returns how many more photos may be claimed beyond the slots while slots are idle.
    pub fn further_ahead(&self) -> usize {
        let most = (16 * self.slots()).min(AHEAD_MAX);
        if self.ahead > 0 { 0 } else { most.saturating_sub(self.ahead()) }
    }

    /// Returns the length of a worker's lease.
    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_seconds)
    }

    /// Returns the time after which a session ends in which no page was asked for.
    pub fn session_idle(&self) -> Duration {
        Duration::from_secs(60 * u64::from(self.session_idle_minutes))
    }

    /// Returns how e-mail is sent. `None`: it is not set up.
    ///
    /// # Errors
    /// See [`MailError`].
    pub fn mail(&self) -> Result<Option<Mail>, MailError> {
        Mail::of(self)
    }
}

/// Whether the environment says that messages are JSON. This is asked before the settings are read.
pub fn json_is_wanted() -> bool {
    Env::var("PHOTOGATE_LOG_FORMAT").is_some_and(|format| format.eq_ignore_ascii_case("json"))
}

/// Read from the environment by themselves.
const NOT_MERGED: [&str; 5] =
    ["config", "worker_password", "service_password", "stripe_secrets", "archive_key"];

/// True if a variable without its prefix is one of the settings that are merged.
fn is_setting(name: &str) -> bool {
    settings().any(|setting| setting.eq_ignore_ascii_case(name))
        && !NOT_MERGED.iter().any(|other| other.eq_ignore_ascii_case(name))
}

fn settings() -> impl Iterator<Item = String> {
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
    defaults.as_object().cloned().unwrap_or_default().into_iter().map(|(name, _)| name)
}

/// Returns the variables of the environment that look like settings of photogate and are none, each
/// with the setting whose name is nearest. They are no error, because other programs may share the
/// environment.
pub fn unknown_variables() -> Vec<(String, Option<String>)> {
    let known: Vec<String> =
        settings().chain(NOT_MERGED.map(str::to_owned)).map(|name| name.to_uppercase()).collect();
    Env::prefixed("PHOTOGATE_")
        .iter()
        .map(|(name, _)| name.as_str().to_uppercase())
        .filter(|name| !known.contains(name))
        .map(|name| {
            let near = |other: &&String| strsim::jaro_winkler(&name, other);
            let nearest = known
                .iter()
                .max_by(|one, other| near(one).total_cmp(&near(other)))
                .filter(|nearest| near(nearest) > 0.8);
            let nearest = nearest.map(|nearest| format!("PHOTOGATE_{nearest}"));
            (format!("PHOTOGATE_{name}"), nearest)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_to_pay_at_is_https_and_names_the_purchase() {
        for (address, is_good) in [
            ("https://pay.example.org/?ref={purchase}&cents={amount_minor}", true),
            ("https://pay.example.org/", false),
            ("javascript:alert('{purchase}')", false),
        ] {
            let config = Config { payment_url: Some(address.into()), ..Config::default() };
            assert_eq!(config.check().is_ok(), is_good, "{address}");
        }
    }

    #[test]
    fn a_number_out_of_bounds_is_told_with_its_name() {
        let error = Config { lease_seconds: 0, ..Config::default() }.check().unwrap_err();

        assert_eq!(
            error.to_string(),
            "a setting is wrong: lease_seconds must be between 1 and 3600, but is 0"
        );
    }
}
