//! Loads and runs the models. Each thread that looks at photos needs a set of its own.

use std::{
    path::{Path, PathBuf},
    sync::Mutex,
};

use ort::{
    environment::Environment,
    ep,
    session::{Session, builder::GraphOptimizationLevel},
    value::Tensor,
};

use crate::{limits::PhotoError, picture::vision};

/// File name of ONNX Runtime in the models directory.
pub const RUNTIME: &str = "libonnxruntime.so";

/// File names of the models for faces, embeddings, text detection, quick and careful text
/// recognition, and orientation, in this order.
pub const MODELS: [&str; 6] = [
    "yunet.onnx",
    "sface.onnx",
    "text_detection.onnx",
    "text_recognition_tiny.onnx",
    "text_recognition.onnx",
    "upright.onnx",
];

/// Why the models cannot be loaded. The cause is the installation, not a photo.
#[derive(Debug, thiserror::Error)]
pub enum EyesError {
    /// A file does not exist.
    #[error("{0} is missing: run `make models`, or set models_dir to the directory of the models")]
    Missing(PathBuf),
    /// A file exists, but ONNX Runtime cannot use it.
    #[error("{path} cannot be loaded ({reason}): run `make models` again")]
    Unusable {
        /// Path of the file.
        path: PathBuf,
        /// The reason, in the words of ONNX Runtime.
        reason: String,
    },
}

/// A full set of models. It uses one thread; open one set for each core to use them all. A set
/// needs about 300 MB of memory while it works.
#[derive(Debug)]
pub struct Eyes {
    pub(crate) faces: Model,
    pub(crate) embedding: Model,
    pub(crate) text_detection: Model,
    pub(crate) quick_reader: Reader,
    pub(crate) careful_reader: Reader,
    pub(crate) upright: Model,
}

impl Eyes {
    /// Loads [`RUNTIME`] and [`MODELS`] from a directory. This takes a second or less.
    ///
    /// # Errors
    /// When a file is missing or cannot be loaded.
    pub fn open(directory: &Path) -> Result<Self, EyesError> {
        let path = |name: &str| {
            let path = directory.join(name);
            if path.is_file() { Ok(path) } else { Err(EyesError::Missing(path)) }
        };
        let runtime = path(RUNTIME)?;
        let unusable = |path: PathBuf, reason: String| EyesError::Unusable { path, reason };
        let environment = environment(&runtime).map_err(|reason| unusable(runtime, reason))?;
        let model = |name: &str| {
            let path = path(name)?;
            Model::open(&environment, &path).map_err(|error| unusable(path, error.to_string()))
        };
        let [faces, embedding, text_detection, quick, careful, upright] = MODELS;
        let reader = |name: &str| {
            let model = model(name)?;
            let alphabet = model.alphabet().ok_or_else(|| {
                unusable(directory.join(name), "it has no list of characters".into())
            })?;
            Ok(Reader { model, alphabet })
        };
        Ok(Self {
            faces: model(faces)?,
            embedding: model(embedding)?,
            text_detection: model(text_detection)?,
            quick_reader: reader(quick)?,
            careful_reader: reader(careful)?,
            upright: model(upright)?,
        })
    }
}

/// Returns the environment of ONNX Runtime. A process can have only one, so all sets of models
/// share it.
fn environment(runtime: &Path) -> Result<Environment, String> {
    static SHARED: Mutex<Option<Environment>> = Mutex::new(None);
    let mut shared = SHARED.lock().map_err(|error| error.to_string())?;
    if let Some(environment) = &*shared {
        return Ok(environment.clone());
    }
    let builder = ort::init_from(runtime).map_err(|error| error.to_string())?;
    let environment = builder.with_telemetry(false).build().map_err(|error| error.to_string())?;
    *shared = Some(environment.clone());
    Ok(environment)
}

/// A model that reads lines of text.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) model: Model,
    /// Characters of the model's classes. The first is class 1; class 0 is a blank.
    pub(crate) alphabet: Vec<String>,
}

/// One model: it takes one tensor and returns tensors.
#[derive(Debug)]
pub(crate) struct Model {
    session: Session,
    input: String,
}

/// One tensor that a model returned: its shape, and its values in row-major order.
pub(crate) struct Output {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

impl Model {
    fn open(environment: &Environment, path: &Path) -> ort::Result<Self> {
        let session = Session::builder(environment)?
            .with_optimization_level(GraphOptimizationLevel::All)?
            // One thread for each set, so that slots share nothing, and all CPU time is counted for
            // the calling thread.
            .with_intra_threads(1)?
            .with_inter_threads(1)?
            // Photos come in many shapes. An arena and memory patterns would keep memory for the
            // largest of each shape. Without them, a process takes an eighth less memory and no
            // more time.
            .with_execution_providers([ep::CPU::default().with_arena_allocator(false).build()])?
            .with_memory_pattern(false)?
            .commit_from_file(path)?;
        let input =
            session.inputs().first().map(|input| input.name().to_owned()).unwrap_or_default();
        Ok(Self { session, input })
    }

    /// The list `character` in the metadata of PaddleOCR's recognition models, and then the space.
    fn alphabet(&self) -> Option<Vec<String>> {
        let characters = self.session.metadata().ok()?.custom("character")?;
        Some(characters.split('\n').map(str::to_owned).chain([" ".to_owned()]).collect())
    }

    pub(crate) fn run(
        &mut self,
        shape: [usize; 4],
        values: Vec<f32>,
    ) -> Result<Vec<Output>, PhotoError> {
        let tensor = Tensor::from_array((shape, values)).map_err(vision)?;
        let outputs =
            self.session.run(ort::inputs![self.input.as_str() => tensor]).map_err(vision)?;
        outputs
            .iter()
            .map(|(_, value)| {
                let (shape, values) = value.try_extract_tensor::<f32>().map_err(vision)?;
                let shape = shape.iter().map(|side| usize::try_from(*side).unwrap_or(0)).collect();
                Ok(Output { shape, values: values.to_vec() })
            })
            .collect()
    }
}
