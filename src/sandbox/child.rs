//! The main loop of a sandbox child: it reads one photo after the other and answers with its
//! findings.

use std::{
    ffi::OsString,
    io::{self, Read, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::ExitCode,
};

use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use photogate_jobs::{Eyes, Face, Photo, PhotoError, Rotation, Turn};

use super::{
    lockdown::{self, Sandbox},
    models,
    protocol::{Answer, Extension, Hello, Seen, Thumbnail, Turned, Wants, blocking},
};
use crate::ids::Operation;

/// Argument that makes this program a sandbox child. It is not for people.
pub const COMMAND: &str = "--look";

/// Last argument of a child that must not work without a sandbox.
pub(super) const REQUIRED: &str = "sandbox-required";
/// Last argument of a child that may.
pub(super) const OPTIONAL: &str = "sandbox-optional";

/// Runs as a sandbox child if these are the arguments of one: directory of the models, memory in
/// MiB, seconds for a photo, and whether a sandbox is required. Returns `None` for other arguments.
pub fn run(arguments: &[OsString]) -> Option<ExitCode> {
    let [_, command, models, memory, seconds, need] = arguments else { return None };
    if command != COMMAND {
        return None;
    }
    let memory = memory.to_str()?.parse().ok()?;
    let seconds = seconds.to_str()?.parse().ok()?;
    let is_required = need != OPTIONAL;
    let mut output = io::stdout().lock();
    let ready = begin(Path::new(models), memory, is_required);
    let ended = ready.and_then(|(eyes, sandbox)| {
        work(eyes, sandbox, seconds, &mut io::stdin().lock(), &mut output)
    });
    Some(match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = blocking::send(&mut output, &Hello::GaveUp(error), &[]);
            ExitCode::FAILURE
        }
    })
}

/// Loads the models and enters the sandbox.
fn begin(
    models: &Path,
    memory_megabytes: u64,
    is_required: bool,
) -> Result<(Eyes, Sandbox), String> {
    let cannot = |error: io::Error| format!("the sandbox cannot be entered: {error}");
    lockdown::close_descriptors().map_err(cannot)?;
    models::must_be_pinned(models)?;
    let mut eyes = Eyes::open(models).map_err(|error| error.to_string())?;
    eyes.warm_up().map_err(|error| error.to_string())?;
    // Also what the libraries have opened.
    lockdown::close_descriptors().map_err(cannot)?;
    if let Err(error) = lockdown::leave_root()
        && is_required
    {
        return Err(format!(
            "root cannot become nobody ({error}): run photogate as another user, give it the \
             capabilities SETUID, SETGID and KILL, or set sandbox_required = false"
        ));
    }
    // The kernel kills this child when its worker dies. Another worker then adopts the photo.
    nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
        .map_err(|error| cannot(error.into()))?;
    let sandbox = lockdown::enter(memory_megabytes).map_err(|error| cannot(error.into()))?;
    if is_required && let Some(why) = sandbox.is_missing() {
        return Err(format!(
            "{why}: run photogate on a kernel that has one of them, or set sandbox_required = false"
        ));
    }
    Ok((eyes, sandbox))
}

/// Answers photos until the worker closes the pipe.
fn work(
    mut eyes: Eyes,
    sandbox: Sandbox,
    seconds: u64,
    input: &mut impl Read,
    output: &mut impl Write,
) -> Result<(), String> {
    let gone = |_: io::Error| "the worker is gone".to_owned();
    blocking::send(output, &Hello::Ready(sandbox), &[]).map_err(gone)?;
    loop {
        let Ok((wants, photo)) = blocking::receive::<Wants>(input) else { return Ok(()) };
        let _ = at_most(seconds);
        let answer = catch_unwind(AssertUnwindSafe(|| look(&mut eyes, wants, &photo)));
        let mut answer = match answer {
            Ok(Ok(seen)) => Answer::Seen(seen),
            Ok(Err(error)) => Answer::Refused(error),
            Err(panic) => Answer::panicked(crate::telemetry::panics::message(&*panic)),
        };
        let body = answer.body();
        blocking::send(output, &answer, &body).map_err(gone)?;
        if matches!(answer, Answer::Panicked(_)) {
            return Ok(());
        }
    }
}

/// Limits the CPU time of the next photo. The kernel then kills the child even if the worker's
/// timeout does not fire, for example because the whole machine was suspended.
fn at_most(seconds: u64) -> nix::Result<()> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let used = usage.user_time().tv_sec() + usage.system_time().tv_sec();
    let (_, hard) = getrlimit(Resource::RLIMIT_CPU)?;
    setrlimit(Resource::RLIMIT_CPU, u64::try_from(used).unwrap_or(0) + seconds + 1, hard)
}

/// Decodes a photo and does the wanted operation.
fn look(eyes: &mut Eyes, wants: Wants, bytes: &[u8]) -> Result<Seen, PhotoError> {
    let photo = Photo::open(bytes)?;
    let picture = photo.picture()?;
    let thumbnail =
        if wants.thumbnail { Thumbnail::new(picture.thumbnail()?) } else { Thumbnail::default() };
    match wants.operation {
        Operation::PhotoProcessing => {
            // The photo is looked at as people see it. The findings are places on the photo as EXIF
            // turns it, whether a turn is known or not.
            let turn = wants.turn.unwrap_or_default();
            let turned = picture.turned(turn);
            let likely = eyes.likely_faces(&turned)?;
            let lines = if wants.bibs { eyes.lines(&turned, &likely)? } else { Vec::new() };
            let mut faces = Vec::new();
            for face in likely.into_iter().filter(Face::is_sure) {
                let embedding =
                    if wants.embeddings { eyes.embedding(&turned, &face)? } else { None };
                faces.push((face.before(turn, &picture), embedding));
            }
            let lines = lines.into_iter().map(|line| line.before(turn, &picture)).collect();
            let (width, height) = (picture.width, picture.height);
            Ok(Seen::Processing { width, height, faces, lines, thumbnail })
        }
        Operation::AiRotation => {
            let rotation = match wants.turn {
                Some(turn) => Rotation::known(turn),
                None => eyes.rotation(&picture)?,
            };
            drop(picture);
            // A copy is also needed if only the EXIF tag turns the photo, because some viewers
            // ignore the tag. It is also needed if the pixels are upright and the tag is wrong,
            // because other viewers follow the tag.
            let stays = rotation.abstained
                || (rotation.turn == Turn::None && photo.orientation.is_upright());
            let upright = if stays { None } else { Some(photo.upright(rotation.turn)?) };
            let upright = upright.map(|upright| Turned {
                extension: Extension::of(upright.format),
                lossless: upright.lossless,
                bytes: upright.bytes,
                room: None,
            });
            Ok(Seen::Rotation { rotation, upright, thumbnail })
        }
    }
}
