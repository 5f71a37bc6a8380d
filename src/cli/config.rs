//! `photogate config show`: prints the current settings.

use super::{End, Output};
use crate::config::Config;

#[derive(Debug, clap::Subcommand)]
pub(super) enum ConfigCommand {
    /// Shows every setting with its current value; passwords are hidden
    #[command(after_help = "Needs no database.
A flag wins over the environment, the environment over photogate.toml, the file over the default.")]
    Show,
}

pub(super) fn show(config: Config, output: Output) -> anyhow::Result<End> {
    let shown = serde_json::to_value(config.redacted())?;
    output.one(&shown, |out| {
        for (name, value) in shown.as_object().into_iter().flatten() {
            writeln!(out, "{name} = {value}")?;
        }
        Ok(())
    })?;
    Ok(End::Ok)
}
