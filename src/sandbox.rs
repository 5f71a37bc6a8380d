//! Photos are looked at in child processes, kept warm: whatever a hostile photo does to a decoder, it does there. A child
//! has its photo and its models, loaded, and nothing else: no file, no network, so much memory, so much time. One that
//! crashes, hangs or is killed costs one photo one attempt, and is replaced.

pub mod child;
mod lockdown;
pub mod models;
mod protocol;

use std::{
    io,
    ops::Deref,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use protocol::Hello;
pub(crate) use protocol::{Answer, Seen, Wants};

use crate::config::Config;

/// The program that runs, also when its file has been replaced since.
pub const THIS_PROGRAM: &str = "/proc/self/exe";

/// A child loads its models in a second; on a machine that is busy, in many.
const START_MAX: Duration = Duration::from_secs(60);

/// Photos that a child looks at until it is replaced: whatever it has kept of them, memory or mischief, ends there. A new one
/// costs what two photos cost.
const LOOKED_AT_MAX: u32 = 500;

/// What a child may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Of memory, for everything it has.
    pub memory_megabytes: u64,
    /// For one photo, until it is killed.
    pub seconds: u64,
}

/// The children, as many as there are slots.
#[derive(Debug)]
pub struct Pool {
    program: PathBuf,
    models: PathBuf,
    limits: Limits,
    slots: Arc<Semaphore>,
    /// What turned photos take until they are written, in MiB: a store that is slow does not fill the memory.
    turned: Arc<Semaphore>,
    idle: Mutex<Vec<Warm>>,
}

/// A slot that is ours until it is dropped.
#[derive(Debug)]
pub struct Slot(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit);

/// A child that waits for a photo.
#[derive(Debug)]
struct Warm {
    process: Child,
    input: ChildStdin,
    output: ChildStdout,
    looked_at: u32,
}

/// No child could be started: not the photo's fault.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// The program could not be run.
    #[error("{program} cannot be started to look at photos: {error}")]
    Start {
        /// This program.
        program: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It ran, and gave up.
    #[error("{0}")]
    GaveUp(String),
}

/// Why a photo was not looked at to the end.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The photo, most likely: the child is gone.
    Crashed(String),
    /// Nobody could look.
    NoChild(PoolError),
}

impl Pool {
    /// Starts a child for each slot. `program` is photogate: [`THIS_PROGRAM`], unless a test says otherwise.
    ///
    /// # Errors
    /// When they do not start, or cannot load the models.
    pub async fn open(program: &Path, config: &Config) -> Result<Self, PoolError> {
        let pool = Self {
            program: program.to_owned(),
            models: config.models_dir.clone(),
            limits: config.photo_limits(),
            slots: Arc::new(Semaphore::new(config.slots())),
            turned: Arc::new(Semaphore::new(protocol::BODY_MAX_MIB as usize)),
            idle: Mutex::default(),
        };
        let first =
            futures::future::try_join_all((0..config.slots()).map(|_| pool.start())).await?;
        *pool.idle.lock().unwrap_or_else(PoisonError::into_inner) = first;
        Ok(pool)
    }

    /// Waits for a slot.
    pub async fn slot(&self) -> Slot {
        match self.slots.clone().acquire_owned().await {
            Ok(permit) => Slot(permit),
            // The semaphore is never closed.
            Err(_closed) => std::future::pending().await,
        }
    }

    /// Has a child look at a photo. When this future is dropped, the child is killed with it.
    pub(crate) async fn look(
        &self,
        _slot: &Slot,
        wants: Wants,
        photo: impl Deref<Target = [u8]> + Send,
    ) -> Result<Answer, Trouble> {
        let mut child = match self.warm() {
            Some(child) => child,
            None => self.start().await.map_err(Trouble::NoChild)?,
        };
        child.looked_at += 1;
        let trouble = match self.ask(&mut child, wants, photo).await {
            Ok(answer) => {
                if !matches!(answer, Answer::Panicked(_)) && child.looked_at < LOOKED_AT_MAX {
                    self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(child);
                }
                return Ok(answer);
            }
            Err(trouble) => trouble,
        };
        // Dead or to be killed; how it died says more than that the pipe broke.
        let died = tokio::time::timeout(Duration::from_millis(100), child.process.wait()).await;
        let _ = child.process.start_kill();
        Err(Trouble::Crashed(match died {
            Ok(Ok(status)) => format!("the process that looked at it ended with {status}"),
            _ => trouble,
        }))
    }

    /// What a child says about a photo, or what went wrong with it.
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
        // Others' turned photos may have to be written first: that is no time of this one's.
        let mebibytes = u32::try_from(length.div_ceil(1 << 20)).unwrap_or(protocol::BODY_MAX_MIB);
        let room = self.turned.clone().acquire_many_owned(mebibytes).await;
        let room = room.map_err(|error| error.to_string())?;
        let body = tokio::time::timeout(most, protocol::receive_body(&mut child.output, length));
        let body = body.await.map_err(late)?.map_err(|error| error.to_string())?;
        if !answer.is_plausible(wants, &body) {
            return Err("it was said to have what no photo has".to_owned());
        }
        Ok(answer.with(body, room))
    }

    /// A child that waits. One that has died while it waited, as the kernel ends somebody when memory is short, is not the
    /// next photo's fault.
    fn warm(&self) -> Option<Warm> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| idle.pop()).find_map(|mut child| match child.process.try_wait() {
            Ok(None) => Some(child),
            Ok(Some(_)) | Err(_) => None,
        })
    }

    /// Starts a child and waits until it is warm and locked in.
    async fn start(&self) -> Result<Warm, PoolError> {
        let start = |error| PoolError::Start { program: self.program.clone(), error };
        let mut process = Command::new(&self.program)
            .arg0("photogate")
            .arg(child::COMMAND)
            .arg(&self.models)
            .arg(self.limits.memory_megabytes.to_string())
            .arg(self.limits.seconds.to_string())
            // No secret of ours is in its memory, and Ctrl-C is for us to handle.
            .env_clear()
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(start)?;
        let (Some(input), Some(mut output)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(start(io::Error::other("it has no pipes")));
        };
        let hello = tokio::time::timeout(START_MAX, protocol::receive::<Hello>(&mut output)).await;
        match hello.unwrap_or_else(|elapsed| Err(io::Error::other(elapsed))) {
            Ok((Hello::Ready(sandbox), _)) => {
                sandbox.tell();
                Ok(Warm { process, input, output, looked_at: 0 })
            }
            Ok((Hello::GaveUp(why), _)) => Err(PoolError::GaveUp(why)),
            Err(error) => Err(start(error)),
        }
    }
}
