//! The models on disk: are they there, and are they the ones that were measured?

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use serde::Serialize;
use sha2::{Digest, Sha256};

/// Name and SHA-256 of every file, as `scripts/models` pins them.
const PINNED: &str = include_str!("../scripts/models.sha256");

/// A file of the models directory.
#[derive(Debug, Serialize)]
pub struct ModelFile {
    /// Its name.
    pub file: String,
    /// `ok`, or what is wrong.
    pub state: ModelState,
}

/// What was found in the place of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelState {
    /// The file that was pinned.
    Ok,
    /// Nothing.
    Missing,
    /// Another file.
    Different,
}

/// Compares every file with its pinned SHA-256.
///
/// # Errors
/// When a file is there and cannot be read.
pub fn check(directory: &Path) -> io::Result<Vec<ModelFile>> {
    PINNED
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(pinned, name)| {
            Ok(ModelFile { file: name.to_owned(), state: state(&directory.join(name), pinned)? })
        })
        .collect()
}

fn state(path: &PathBuf, pinned: &str) -> io::Result<ModelState> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ModelState::Missing),
        file => file?,
    };
    let mut digest = Sha256::new();
    io::copy(&mut file, &mut digest)?;
    Ok(if format!("{:x}", digest.finalize()) == pinned {
        ModelState::Ok
    } else {
        ModelState::Different
    })
}
