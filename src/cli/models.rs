//! `photogate models check`

use super::{End, Output, say};
use crate::{
    config::Config,
    models::{self, ModelState},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Models {
    /// Compares every file with its pinned SHA-256; exits with 1 if one is not right
    Check,
}

pub(super) fn check(config: &Config, output: Output) -> anyhow::Result<End> {
    let files = models::check(&config.models_dir)?;
    output.rows(&files, &["File", "State"], |file| {
        vec![file.file.clone(), format!("{:?}", file.state).to_lowercase()]
    })?;
    if files.iter().all(|file| file.state == ModelState::Ok) {
        return Ok(End::Ok);
    }
    say!(
        "error: the models in {} are not the ones this photogate was measured with: run `make models`",
        config.models_dir.display()
    );
    Ok(End::Failed)
}
