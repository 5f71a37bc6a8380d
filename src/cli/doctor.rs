//! `photogate doctor`: looks at everything that photogate needs, and says what to do.

use super::{End, Output};
use crate::{
    config::{Config, ConfigError},
    doctor::{self, Check, State},
};

#[derive(Debug, clap::Args)]
#[command(after_help = "Run it with the settings, the login and the user of the process that it is
about: a worker's, the service's or the migration's. It changes nothing, but for a small file
below .photogate/probes/ in the store. It is over in a minute, whatever does not answer.

Exit codes: 0 if nothing fails (warnings are no failures), 1 if something does.")]
pub(super) struct Doctor {}

impl Doctor {
    pub(super) async fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        show(&doctor::checks(config).await, output)
    }
}

/// What is left to say if the settings cannot be used.
pub(super) fn without_settings(error: &ConfigError, output: Output) -> anyhow::Result<End> {
    show(&doctor::unusable_settings(error), output)
}

fn show(checks: &[Check], output: Output) -> anyhow::Result<End> {
    output.one(&checks, |out| {
        for Check { check, state, seen, advice } in checks {
            let state = match state {
                State::Ok => "ok",
                State::Warn => "warn",
                State::Fail => "fail",
            };
            let advice = advice.as_ref().map(|advice| format!(": {advice}")).unwrap_or_default();
            writeln!(out, "{state:4}  {check:8}  {seen}{advice}")?;
        }
        Ok(())
    })?;
    let has_failed = checks.iter().any(|check| check.state == State::Fail);
    Ok(if has_failed { End::Failed } else { End::Ok })
}
