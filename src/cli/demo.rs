//! x
use super::End; use crate::config::Config;
#[derive(Debug, clap::Args)]
pub(super) struct Demo { }
impl Demo { pub(super) async fn run(self, _config: Config) -> anyhow::Result<End> { Ok(End::Ok) } }
