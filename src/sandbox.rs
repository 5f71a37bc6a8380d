//! Photos are decoded and looked at in sandbox children: child processes that are kept running and
//! have their models loaded.
//!
//! A hostile photo can only attack the child that decodes it. A child has its photo, its models and
//! its pipes, limited memory and limited time. It has no files and no network, by Landlock or
//! seccomp of the kernel. If the kernel has neither, no child starts, unless the setting
//! `sandbox_required` says that it may. If a child crashes, hangs or is killed, its photo loses one
//! attempt, and the child is replaced. A child sees photos of one organisation only.

pub mod child;
mod lockdown;
pub mod models;
mod protocol;
mod turns;

use std::{
    io,
    ops::Deref,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::AsyncReadExt,
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    sync::Semaphore,
};

use lockdown::Sandbox;
use protocol::Hello;
pub(crate) use protocol::{Answer, EXTENSIONS, Seen, Wants};

use crate::{config::Config, ids::OrganisationId};
use turns::Turns;

pub use turns::Slot;

/// Path of the running program. It stays valid when the program's file is replaced.
pub const THIS_PROGRAM: &str = "/proc/self/exe";

/// Longest start of a child. A child loads its models in a second, but needs longer on a busy
/// machine.
const START_MAX: Duration = Duration::from_secs(60);

/// Number of photos after which a child is replaced. This ends leaks of memory, and whatever a
/// hostile photo left in the child. The start of a new child costs as much as two photos.
const LOOKED_AT_MAX: u32 = 500;

/// The limits of a sandbox child.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Memory for the whole child, in MiB.
    pub memory_megabytes: u64,
    /// Time for one photo, in seconds. After it, the child is killed.
    pub seconds: u64,
    /// Whether a child must not work if the kernel has no sandbox.
    pub sandbox_required: bool,
}

/// Memory for turned photos that are not written to the store yet, in MiB.
pub const TURNED_MIB: u32 = protocol::BODY_MAX_MIB;

/// The sandbox children of a worker: one for each slot.
#[derive(Debug)]
pub struct Pool {
    program: PathBuf,
    models: PathBuf,
    limits: Limits,
    turns: Turns,
    /// So many children may be idle: those of organisations whose photos come in turn stay warm.
    spare: usize,
    /// Memory for turned photos, [`TURNED_MIB`]. It is limited because a slow store must not fill the
    /// memory.
    turned: Arc<Semaphore>,
    idle: Mutex<Vec<Warm>>,
}

/// A running child with its pipes and its count of photos.
#[derive(Debug)]
struct Warm {
    process: Child,
    input: ChildStdin,
    output: ChildStdout,
    looked_at: u32,
    /// The organisation whose photos it has seen; `None` if it has seen none.
    seen: Option<OrganisationId>,
}

/// Why no sandbox child could be started. The photo is not the cause.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The program could not be run, or did not answer.
    #[error("{program} cannot be started as a sandbox child: {error}")]
    Start {
        /// Path of the program.
        program: PathBuf,
        /// The cause, as the system reports it.
        error: io::Error,
    },
    /// The child started, and then reported that it cannot work here.
    #[error("{0}")]
    GaveUp(String),
}

/// Why a photo has no answer.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The child crashed, hung, or gave an implausible answer. Most likely the photo is the cause.
    Crashed(String),
    /// No child could be started.
    NoChild(PoolError),
}

impl Pool {
    /// Starts a child for each slot. `program` is the path of photogate: [`THIS_PROGRAM`], except
    /// in tests.
    ///
    /// # Errors
    /// When a child does not start, or cannot load the models.
    pub async fn open(program: &Path, config: &Config) -> Result<Self, PoolError> {
        let pool = Self::without_children(program, config);
        let first =
            futures::future::try_join_all((0..config.slots()).map(|_| pool.start())).await?;
        *pool.idle.lock().unwrap_or_else(PoisonError::into_inner) = first;
        Ok(pool)
    }

    fn without_children(program: &Path, config: &Config) -> Self {
        Self {
            program: program.to_owned(),
            models: config.models_dir.clone(),
            limits: Limits {
                memory_megabytes: config.photo_memory_megabytes,
                seconds: config.photo_seconds,
                sandbox_required: config.sandbox_required,
            },
            turns: Turns::new(config.slots()),
            spare: config.idle_children(),
            turned: Arc::new(Semaphore::new(TURNED_MIB as usize)),
            idle: Mutex::default(),
        }
    }

    /// Returns the number of slots that nobody has.
    pub fn idle_slots(&self) -> usize {
        self.turns.free()
    }

    /// Waits for a slot for a photo of this organisation, and takes it.
    pub async fn slot(&self, organisation: OrganisationId) -> Slot {
        self.turns.slot(organisation).await
    }

    /// Sends a photo to a child and returns its answer. If this future is dropped, the child is
    /// killed.
    pub(crate) async fn look(
        &self,
        slot: &Slot,
        wants: Wants,
        photo: impl Deref<Target = [u8]> + Send,
    ) -> Result<Answer, Trouble> {
        let mut child = match self.warm(slot.organisation) {
            Some(child) => child,
            None => self.start().await.map_err(Trouble::NoChild)?,
        };
        child.looked_at += 1;
        child.seen = Some(slot.organisation);
        let trouble = match self.ask(&mut child, wants, photo).await {
            Ok(answer) => {
                if !matches!(answer, Answer::Panicked(_)) && child.looked_at < LOOKED_AT_MAX {
                    self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(child);
                }
                return Ok(answer);
            }
            Err(trouble) => trouble,
        };
        // The exit status of a dead child says more than the error of the broken pipe.
        let died = tokio::time::timeout(Duration::from_millis(100), child.process.wait()).await;
        let _ = child.process.start_kill();
        Err(Trouble::Crashed(match died {
            Ok(Ok(status)) => format!("its sandbox child ended with {status}"),
            _ => trouble,
        }))
    }

    /// Sends a photo to a child and reads the answer. The error says in words what went wrong.
    async fn ask(
        &self,
        child: &mut Warm,
        wants: Wants,
        photo: impl Deref<Target = [u8]> + Send,
    ) -> Result<Answer, String> {
        let late = |_elapsed| format!("it took longer than {} s", self.limits.seconds);
        let most = Duration::from_secs(self.limits.seconds);
        let asked = tokio::time::timeout(most, async {
            protocol::send(&mut child.input, &wants, &photo).await?;
            drop(photo);
            protocol::receive::<Answer>(&mut child.output).await
        });
        let answered = asked.await.map_err(late)?;
        let (answer, length) = answered.map_err(|error| error.to_string())?;
        // Turned photos of other slots may have to be written first. The wait does not count as
        // time of this photo.
        let mebibytes = u32::try_from(length.div_ceil(1 << 20)).unwrap_or(protocol::BODY_MAX_MIB);
        let room = self.turned.clone().acquire_many_owned(mebibytes).await;
        let room = room.map_err(|error| error.to_string())?;
        let body = tokio::time::timeout(most, protocol::receive_body(&mut child.output, length));
        let body = body.await.map_err(late)?.map_err(|error| error.to_string())?;
        if !answer.is_plausible(wants, &body) {
            return Err("its sandbox child gave an impossible answer".to_owned());
        }
        Ok(answer.with(body, room))
    }

    /// Makes sure that there is an idle child, when a slot is free.
    ///
    /// # Errors
    /// When a child does not start.
    pub(crate) async fn is_ready(&self) -> Result<(), PoolError> {
        // Of no organisation: only a child that has seen nothing, or a new one.
        let _slot = self.slot(OrganisationId(0)).await;
        let child = match self.warm(OrganisationId(0)) {
            Some(child) => child,
            None => self.start().await?,
        };
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(child);
        Ok(())
    }

    /// Takes an idle child that has seen photos of this organisation, or none. If there is no such
    /// child, and too many of others are idle, some are ended to make room. Children that died while they
    /// were idle are skipped: the kernel may kill one when memory is short, and the next photo must
    /// not be blamed for that.
    fn warm(&self, organisation: OrganisationId) -> Option<Warm> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain_mut(|child| matches!(child.process.try_wait(), Ok(None)));
        let same = idle.iter().rposition(|child| child.seen == Some(organisation));
        let at = same.or_else(|| idle.iter().rposition(|child| child.seen.is_none()));
        if let Some(at) = at {
            return Some(idle.remove(at));
        }
        // They are killed when they are dropped. The one that was used longest ago is the first.
        let too_many = (idle.len() + 1).saturating_sub(self.spare);
        drop(idle.drain(..too_many));
        None
    }

    /// Starts a child, and waits until it has loaded the models and entered the sandbox.
    async fn start(&self) -> Result<Warm, PoolError> {
        let (child, sandbox) = self.first_words().await?;
        sandbox.tell();
        Ok(child)
    }

    /// Starts a child, and waits until it says in what sandbox it is.
    async fn first_words(&self) -> Result<(Warm, Sandbox), PoolError> {
        let start = |error| PoolError::Start { program: self.program.clone(), error };
        let mut process = Command::new(&self.program)
            .arg0("photogate")
            .arg(child::COMMAND)
            .arg(&self.models)
            .arg(self.limits.memory_megabytes.to_string())
            .arg(self.limits.seconds.to_string())
            .arg(if self.limits.sandbox_required { child::REQUIRED } else { child::OPTIONAL })
            // The environment has secrets, which the child must not have in its memory. The child
            // has its own process group, because only the worker may react to Ctrl-C.
            .env_clear()
            // ONNX Runtime would keep a database in the home directory.
            .env("ORT_DISABLE_TELEMETRY", "1")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(start)?;
        if let Some(stderr) = process.stderr.take() {
            tokio::spawn(log(stderr));
        }
        let (Some(input), Some(mut output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(start(io::Error::other("it has no pipes")));
        };
        let hello = tokio::time::timeout(START_MAX, protocol::receive::<Hello>(&mut output)).await;
        match hello.unwrap_or_else(|elapsed| Err(io::Error::other(elapsed))) {
            Ok((Hello::Ready(sandbox), _)) => {
                Ok((Warm { process, input, output, looked_at: 0, seen: None }, sandbox))
            }
            Ok((Hello::GaveUp(why), _)) => Err(PoolError::GaveUp(why)),
            Err(error) => Err(start(error)),
        }
    }
}

/// What came of a child that was only tried out.
#[derive(Debug)]
pub(crate) struct Tried {
    /// Which protections are in force.
    pub(crate) words: String,
    /// Whether it is behind seccomp, which keeps it from all sockets.
    pub(crate) is_locked_in: bool,
}

/// Starts a child, asks the kernel how it is locked in, and ends it.
pub(crate) async fn try_out(program: &Path, config: &Config) -> Result<Tried, PoolError> {
    let pool = Pool::without_children(program, config);
    let (child, sandbox) = pool.first_words().await?;
    // What the kernel says counts: a child only says what it believes.
    let status =
        child.process.id().map(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")));
    let status = status.and_then(Result::ok).unwrap_or_default();
    let is_locked_in = ["Seccomp:\t2", "NoNewPrivs:\t1"].iter().all(|line| status.contains(line));
    let is_root = status.contains("Uid:\t0");
    let words = format!(
        "a child has loaded the models, and is {} ({})",
        if is_locked_in && !is_root { "locked in" } else { "NOT locked in" },
        sandbox.words(),
    );
    Ok(Tried { words, is_locked_in: is_locked_in && !is_root })
}

/// Most messages of one child that are logged.
const LOGGED_MAX: usize = 100;

/// Logs what a child writes to its standard error. A hostile photo may have taken over the child:
/// what it writes is no line of its own in the log, and soon it is only read.
async fn log(mut stderr: ChildStderr) {
    let (mut some, mut logged) = ([0; 1024], 0);
    while let Ok(bytes @ 1..) = stderr.read(&mut some).await {
        if logged < LOGGED_MAX {
            let said = String::from_utf8_lossy(&some[..bytes]);
            tracing::warn!(said = ?said.trim_end(), "a sandbox child wrote to its standard error");
        }
        logged += 1;
    }
}
