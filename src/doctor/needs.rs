//! What photogate needs beside the database: Redis, the store, the models, the sandbox.

use std::{path::Path, time::Duration};

use tokio::time::Instant;
use url::Url;

use super::{Check, beside};
use crate::{
    catalog::photo_store::PhotoStore,
    config::Config,
    notify::wake,
    sandbox::{
        self, THIS_PROGRAM,
        models::{self, ModelState},
    },
};

/// The store has time limits of its own, for a probe and for uploads.
pub(super) const STORE_MAX: Duration = Duration::from_secs(31);
/// 113 MB are read.
pub(super) const MODELS_MAX: Duration = Duration::from_secs(30);
/// A child loads the models, also on a busy machine.
pub(super) const SANDBOX_MAX: Duration = Duration::from_secs(60);

pub(super) async fn redis(config: &Config) -> Check {
    const REDIS: &str = "redis";
    let Some(url) = &config.redis_url else {
        let seen = format!("not set: workers look for work every {} ms", config.poll_milliseconds);
        return Check::ok(REDIS, seen);
    };
    match wake::try_out(url).await {
        Ok(()) => Check::ok(REDIS, "a wake-up was sent, and heard"),
        Err(error) => Check::fail(
            REDIS,
            error.to_string(),
            "start Redis, or correct redis_url; until then, workers look for work by themselves",
        ),
    }
}

pub(super) async fn store(config: &Config) -> Check {
    const STORE: &str = "store";
    let advice = "correct store_url, or the rights of the user that photogate runs as \
                  (docs/operations.md)";
    let (url, options) = (config.store_url.clone(), config.store_options.clone());
    let opened = beside(move || {
        // To open a store makes its directory. Who only looks makes none.
        match directory(&url) {
            Some(directory) if !directory.is_dir() => {
                Err(format!("there is no directory {}", directory.display()))
            }
            _ => PhotoStore::open(&url, &options).map_err(|error| error.to_string()),
        }
    });
    let store = match opened.await {
        Some(Ok(store)) => store,
        Some(Err(error)) => return Check::fail(STORE, error, advice),
        None => return Check::fail(STORE, "the check ended early", advice),
    };
    if let Err(error) = store.probe(Instant::now()).await {
        return Check::fail(STORE, error, advice);
    }
    let seen = format!("{} takes a file and gives it back", place(config));
    match store.takes_uploads().await {
        Ok(()) => Check::ok(STORE, seen),
        // A worker needs no more.
        Err(error) => Check::warn(
            STORE,
            format!("{seen}, but no photos can be uploaded: {error}"),
            "if people are to upload, let this user make directories there",
        ),
    }
}

/// The directory of a store that is one.
pub(super) fn directory(store_url: &str) -> Option<std::path::PathBuf> {
    Url::parse(store_url).ok().filter(|url| url.scheme() == "file")?.to_file_path().ok()
}

fn place(config: &Config) -> String {
    directory(&config.store_url)
        .map_or_else(|| config.store_url.clone(), |path| path.display().to_string())
}

pub(super) async fn models(config: &Config) -> Check {
    const MODELS: &str = "models";
    let advice = "run `photogate models fetch`, or set models_dir";
    let directory = config.models_dir.clone();
    let shown = directory.display().to_string();
    match beside(move || models::check(&directory)).await {
        Some(Ok(files)) => {
            let named = |state: ModelState, words: &str| {
                let names: Vec<_> = files
                    .iter()
                    .filter(|file| file.state == state)
                    .map(|file| file.file.as_str())
                    .collect();
                (!names.is_empty()).then(|| format!("{words}: {}", names.join(", ")))
            };
            let wrong: Vec<_> = [
                named(ModelState::Missing, "missing"),
                named(ModelState::Different, "not the pinned file"),
            ]
            .into_iter()
            .flatten()
            .collect();
            if wrong.is_empty() {
                let seen = format!("{} files in {shown} have their pinned SHA-256", files.len());
                return Check::ok(MODELS, seen);
            }
            Check::fail(MODELS, format!("{shown}: {}", wrong.join("; ")), advice)
        }
        Some(Err(error)) => Check::fail(MODELS, format!("{shown}: {error}"), advice),
        None => Check::fail(MODELS, "the check ended early", advice),
    }
}

pub(super) async fn sandbox(config: &Config) -> Check {
    const SANDBOX: &str = "sandbox";
    match sandbox::try_out(Path::new(THIS_PROGRAM), config).await {
        Ok(tried) if tried.is_locked_in => Check::ok(SANDBOX, tried.words),
        Ok(tried) => Check::warn(
            SANDBOX,
            tried.words,
            "run photogate on a kernel with seccomp, and let the container's profile allow it",
        ),
        Err(error) => Check::fail(
            SANDBOX,
            error.to_string(),
            "see the check of the models; a kernel needs seccomp or Landlock, and a child \
             photo_memory_megabytes",
        ),
    }
}
