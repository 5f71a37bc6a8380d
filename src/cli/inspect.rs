//! `photogate inspect`: analyses photo files and prints the findings, without a database.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, IsTerminal, Read, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context;
use indicatif::ProgressBar;
use nix::time::{ClockId, clock_gettime};
use photogate_jobs::{BYTES_MAX, Bib, Eyes, Face, Photo, PhotoError, Rotation, StartList, Turn};
use serde::Serialize;

use super::{End, Output, annotate, say};
use crate::{config::Config, telemetry::panics};

#[derive(Debug, clap::Args)]
#[command(after_help = "Needs: the models (--models-dir). Needs no database.
A photo that cannot be read is reported in its line, and the others are read all the same. The exit
code is 1 then.

Examples:
  photogate inspect photo.jpg
  photogate inspect --explain photo.jpg              says what decided which way is up
  photogate inspect --json *.jpg > findings.ndjson
  photogate inspect --annotate seen/ *.jpg           draws boxes, numbers and turns on copies
  photogate inspect --rotated upright/ sideways.jpg")]
pub(super) struct Inspect {
    /// The photo files
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Also compute face embeddings, as for an event with face search; only their time is shown
    #[arg(long)]
    embeddings: bool,
    /// Also draw the findings on copies of the photos in this directory; no file is replaced
    #[arg(long, value_name = "DIRECTORY")]
    annotate: Option<PathBuf>,
    /// Also write upright copies of turned photos to this directory; no file is replaced
    #[arg(long, value_name = "DIRECTORY")]
    rotated: Option<PathBuf>,
    /// Also say what decided which way is up, and how sure it was
    #[arg(long)]
    explain: bool,
}

/// One line of the output. Boxes are in pixels of the photo at full size, upright as EXIF says.
#[derive(Debug, Default, Serialize)]
struct Inspection {
    file: String,
    width: Option<u32>,
    height: Option<u32>,
    error: Option<Trouble>,
    faces: Vec<Face>,
    bibs: Vec<Bib>,
    /// The turn after which faces and numbers were looked for, in degrees clockwise.
    looked_turned: Option<Turn>,
    rotation: Option<Rotation>,
    /// CPU time of each stage, in milliseconds.
    cpu_ms: BTreeMap<&'static str, f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Trouble {
    code: &'static str,
    pub(super) detail: String,
}

impl Inspect {
    pub(super) fn run(self, config: &Config, output: Output) -> anyhow::Result<End> {
        let mut eyes = Eyes::open(&config.models_dir)?;
        for directory in [&self.rotated, &self.annotate].into_iter().flatten() {
            fs::create_dir_all(directory)
                .with_context(|| format!("creating the directory {}", directory.display()))?;
        }
        let bar = if self.files.len() > 1 && io::stderr().is_terminal() {
            ProgressBar::new(self.files.len() as u64)
        } else {
            ProgressBar::hidden()
        };
        let mut unread = 0;
        for file in &self.files {
            let mut inspection =
                Inspection { file: file.to_string_lossy().into_owned(), ..Inspection::default() };
            let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                self.look(&mut eyes, file, &mut inspection)
            }));
            inspection.error = match looked {
                Ok(Ok(())) => None,
                Ok(Err(trouble)) => Some(trouble),
                Err(panic) => {
                    Some(Trouble { code: "crashed", detail: panics::message(&*panic).to_owned() })
                }
            };
            unread += usize::from(inspection.error.is_some());
            bar.suspend(|| output.one(&inspection, |out| words(&inspection, self.explain, out)))?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        if unread > 0 {
            say!("error: {unread} of {} photos could not be read", self.files.len());
            return Ok(End::Failed);
        }
        Ok(End::Ok)
    }

    fn look(
        &self,
        eyes: &mut Eyes,
        file: &Path,
        inspection: &mut Inspection,
    ) -> Result<(), Trouble> {
        let bytes = read(file)?;
        let mut watch = Stopwatch(cpu_time());
        let photo = Photo::open(&bytes)?;
        let (width, height) = photo.upright_size();
        (inspection.width, inspection.height) = (Some(width), Some(height));
        let picture = photo.picture()?;
        inspection.cpu_ms.insert("decode", watch.lap());
        let view = eyes.view(&picture, None)?;
        inspection.faces = view.faces();
        inspection.looked_turned = Some(view.turn());
        inspection.cpu_ms.insert("faces", watch.lap());
        if self.embeddings {
            for face in view.likely.iter().filter(|face| face.is_sure()) {
                eyes.embedding(&view.picture, face)?;
            }
            inspection.cpu_ms.insert("embeddings", watch.lap());
        }
        let lines = view.before(eyes.lines(&view.picture, &view.likely)?);
        inspection.bibs = photogate_jobs::bibs(&lines, &StartList::default());
        inspection.cpu_ms.insert("bibs", watch.lap());
        let rotation = eyes.rotation(&picture)?;
        inspection.rotation = Some(rotation);
        inspection.cpu_ms.insert("rotation", watch.lap());
        if let Some(directory) = &self.annotate {
            let drawn =
                annotate::draw(&picture, &inspection.faces, &inspection.bibs, Some(rotation));
            let stem = file.file_stem().unwrap_or_default().to_string_lossy();
            let path = directory.join(format!("{stem}.jpg"));
            annotate::write(&drawn, &path).map_err(|error| Trouble {
                code: "unwritable_file",
                detail: format!("{}: {error}", path.display()),
            })?;
            watch.lap();
        }
        if let Some(directory) = &self.rotated
            && !rotation.abstained
            && (rotation.unmirrored || !photo.orientation.then(rotation.turn).is_upright())
        {
            let upright = photo.upright_as(photo.orientation.after(&rotation))?;
            inspection.cpu_ms.insert("upright", watch.lap());
            let stem = file.file_stem().unwrap_or_default().to_string_lossy();
            let path = directory.join(format!("{stem}.{}", upright.format.extension()));
            // Never replace a file: it may be the original.
            let written =
                File::create_new(&path).and_then(|mut file| file.write_all(&upright.bytes));
            written.map_err(|error| Trouble {
                code: "unwritable_file",
                detail: format!("{}: {error}", path.display()),
            })?;
        }
        Ok(())
    }
}

impl From<PhotoError> for Trouble {
    fn from(error: PhotoError) -> Self {
        Self { code: error.code(), detail: error.to_string() }
    }
}

/// Reads a file, at most one byte more than the size limit of a photo: enough to refuse it.
pub(super) fn read(file: &Path) -> Result<Vec<u8>, Trouble> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|opened| opened.take(BYTES_MAX as u64 + 1).read_to_end(&mut bytes))
        .map_err(|error| Trouble { code: "unreadable_file", detail: error.to_string() })?;
    Ok(bytes)
}

struct Stopwatch(Duration);

impl Stopwatch {
    /// CPU time since the last lap, in milliseconds, rounded to 0.1.
    fn lap(&mut self) -> f64 {
        let now = cpu_time();
        let lap = now.saturating_sub(std::mem::replace(&mut self.0, now));
        (lap.as_secs_f64() * 10_000.0).round() / 10.0
    }
}

/// CPU time of this thread; the models run on it, too.
fn cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

fn words(inspection: &Inspection, explain: bool, out: &mut dyn Write) -> io::Result<()> {
    let Inspection { file, error, faces, bibs, looked_turned, rotation, .. } = inspection;
    if let Some(error) = error {
        return writeln!(out, "{file}: {} ({})", error.detail, error.code);
    }
    let bibs: Vec<_> = bibs.iter().map(|bib| bib.number.as_str()).collect();
    let bibs = if bibs.is_empty() { "no bib".into() } else { format!("bib {}", bibs.join(", ")) };
    let why = match rotation {
        Some(Rotation { cue: Some(cue), confidence, .. }) if explain => {
            format!(" (decided by the {}, {confidence:.2})", cue.name())
        }
        Some(Rotation { cue: None, .. }) if explain => {
            " (neither the network nor faces nor text are sure)".into()
        }
        _ => String::new(),
    };
    let mirror = match rotation {
        Some(rotation) if rotation.unmirrored => ", not mirrored, although its tag says so",
        Some(_) | None => "",
    };
    let rotation = match rotation {
        Some(rotation) if rotation.abstained => "turn unclear".into(),
        Some(rotation) if rotation.turn.degrees() == 0 => "upright".into(),
        Some(rotation) => format!("must be turned by {} degrees", rotation.turn.degrees()),
        None => String::new(),
    };
    let faces = match faces.len() {
        1 => "1 face".into(),
        n => format!("{n} faces"),
    };
    let looked = match looked_turned {
        Some(turn) if explain && *turn != Turn::None => {
            format!(" (looked for after a turn by {} degrees)", turn.degrees())
        }
        Some(_) | None => String::new(),
    };
    writeln!(out, "{file}: {faces}, {bibs}{looked}, {rotation}{why}{mirror}")
}
