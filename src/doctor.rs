//! Looks at everything that photogate needs, one check for each: PostgreSQL, Redis, the store, the
//! models, the sandbox, and the machine.
//!
//! A check that fails ends no other, and each has a time limit. Nothing is changed, but for the
//! probe that workers write into the store, too.

mod database;
mod machine;
mod needs;

use std::time::Duration;

use serde::Serialize;
use tokio::time::timeout;

use crate::{
    catalog::archive::SigningKey,
    config::{Config, ConfigError, unknown_variables},
};

/// What came of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It works.
    Ok,
    /// It works, and somebody should look at it.
    Warn,
    /// What the settings ask for does not work.
    Fail,
}

/// One check.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// What was looked at.
    pub check: &'static str,
    /// What came of it.
    pub state: State,
    /// What was seen, without secrets.
    pub seen: String,
    /// What to do, if there is something to do.
    pub advice: Option<String>,
}

impl Check {
    fn ok(check: &'static str, seen: impl Into<String>) -> Self {
        Self { check, state: State::Ok, seen: seen.into(), advice: None }
    }

    fn warn(check: &'static str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, state: State::Warn, seen: seen.into(), advice: Some(advice.into()) }
    }

    fn fail(check: &'static str, seen: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check, state: State::Fail, seen: seen.into(), advice: Some(advice.into()) }
    }

    /// For a check that needs what another one has found missing.
    fn not_looked_at(check: &'static str, why: &str) -> Self {
        Self::warn(check, format!("not looked at: {why}"), "see the check that failed")
    }

    /// Errors of libraries may have several lines, and a password from an address.
    fn told_in_a_line(self, secrets: &[String]) -> Self {
        let tell = |text: &str| {
            let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
            secrets.iter().fold(line, |line, secret| line.replace(secret, "***"))
        };
        Self { seen: tell(&self.seen), advice: self.advice.as_deref().map(tell), ..self }
    }
}

/// Longest time for a check, unless it has one of its own: a host that is gone answers nothing.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Runs all checks, at the same time, and returns them in a fixed order.
pub async fn checks(config: &Config) -> Vec<Check> {
    let (database, redis, store, models, sandbox, disk, memory) = tokio::join!(
        Box::pin(database::checks(config)),
        within("redis", ANSWER_MAX, needs::redis(config)),
        within("store", needs::STORE_MAX, needs::store(config)),
        within("models", needs::MODELS_MAX, needs::models(config)),
        within("sandbox", needs::SANDBOX_MAX, needs::sandbox(config)),
        within("disk", ANSWER_MAX, machine::disk(config)),
        within("memory", ANSWER_MAX, machine::memory(config)),
    );
    let secrets = config.secrets();
    std::iter::once(settings(config))
        .chain(database)
        .chain([redis, store, models, sandbox, disk, memory])
        .map(|check| check.told_in_a_line(&secrets))
        .collect()
}

/// The only check of a program whose settings cannot be used: what else to look at is not known.
pub fn unusable_settings(error: &ConfigError) -> Vec<Check> {
    let check = Check::fail(SETTINGS, error.to_string(), "correct it (docs/settings.md)");
    vec![check.told_in_a_line(&[])]
}

const SETTINGS: &str = "settings";

fn settings(config: &Config) -> Check {
    let set = config.changed();
    let seen = match set.len() {
        0 => "all have their defaults".to_owned(),
        _ => format!("set: {}", set.join(", ")),
    };
    if let Some(Err(error)) = config.archive_key.as_deref().map(SigningKey::parse) {
        return Check::fail(SETTINGS, seen, error.to_string());
    }
    let unknown: Vec<_> = unknown_variables().into_iter().map(|(name, _)| name).collect();
    if !unknown.is_empty() {
        let seen = format!("{seen}; not settings of photogate: {}", unknown.join(", "));
        return Check::warn(SETTINGS, seen, "correct or remove these variables (docs/settings.md)");
    }
    if crate::database::is_open_to_others(&config.database_url) {
        return Check::warn(
            SETTINGS,
            format!(
                "{seen}; PostgreSQL is on another machine, and its certificate is not verified"
            ),
            "use sslmode=verify-full in database_url (docs/operations.md)",
        );
    }
    Check::ok(SETTINGS, seen)
}

/// Waits for a check for so long at most.
async fn within(name: &'static str, most: Duration, check: impl Future<Output = Check>) -> Check {
    timeout(most, check).await.unwrap_or_else(|_elapsed| {
        let seen = format!("no answer in {} s", most.as_secs());
        Check::fail(name, seen, "see whether its host runs and can be reached from here")
    })
}

/// Runs what waits for files beside the tasks of the process: a file system may hang.
async fn beside<T: Send + 'static>(look: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(look).await.ok()
}
