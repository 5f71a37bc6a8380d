//! `photogate config show`

use super::{End, Output};
use crate::config::Config;

#[derive(Debug, clap::Subcommand)]
pub(super) enum ConfigCommand {
    /// Shows every setting as it is in force, without passwords
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
