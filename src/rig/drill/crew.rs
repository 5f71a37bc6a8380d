//! The workers of a drill, which are real processes: starts, kills, freezes and replaces them, and
//! reads their logs.

use std::{
    fs::{self, File, OpenOptions},
    io,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rand::{Rng, rngs::StdRng, seq::IteratorRandom};
use tokio::time::Instant;

use super::{Drill, LEASE};

/// The log message of a worker when the books do not balance.
const ALARM: &str = "the books do not balance";

/// The log message of a worker when another worker owns its photo.
const REFUSED: &str = "a late settle was refused";

/// The workers, and the settings to start more of them.
pub(super) struct Crew {
    workers: Vec<Worker>,
    wanted: usize,
    started: usize,
    /// What the workers run: one program, or those of two versions in turns.
    programs: Vec<PathBuf>,
    database: String,
    redis: String,
    log: PathBuf,
}

struct Worker {
    process: Child,
    program: PathBuf,
    /// The time until which the worker is frozen; `None` if it is not frozen.
    thaws_at: Option<Instant>,
}

impl Crew {
    pub(super) fn hire(drill: &Drill, database: &str, redis: &str) -> io::Result<Self> {
        let log = drill.place.join("workers.log");
        File::create(&log)?;
        let mut crew = Self {
            workers: Vec::new(),
            wanted: drill.workers,
            started: 0,
            programs: vec![std::env::current_exe()?],
            database: database.to_owned(),
            redis: redis.to_owned(),
            log,
        };
        crew.replace_the_dead()?;
        Ok(crew)
    }

    /// Thaws workers whose time is over, and starts a worker for each that has died.
    pub(super) fn replace_the_dead(&mut self) -> io::Result<()> {
        let now = Instant::now();
        for worker in &mut self.workers {
            if worker.thaws_at.is_some_and(|at| at <= now) {
                worker.thaw();
            }
        }
        self.workers.retain_mut(|worker| matches!(worker.process.try_wait(), Ok(None)));
        while self.workers.len() < self.wanted {
            let worker = self.start()?;
            self.workers.push(worker);
        }
        Ok(())
    }

    fn start(&mut self) -> io::Result<Worker> {
        self.started += 1;
        let log = OpenOptions::new().append(true).open(&self.log)?;
        let program = self.programs[self.started % self.programs.len()].clone();
        let process = Command::new(&program)
            .args(["work", "--rehearse", "--slots", "4", "--ahead", "64", "--log", "warn"])
            .args(["--database-url", &self.database, "--redis-url", &self.redis])
            .env("PHOTOGATE_LEASE_SECONDS", LEASE.as_secs().to_string())
            .env("PHOTOGATE_POLL_MILLISECONDS", "200")
            .env("PHOTOGATE_RECONCILE_SECONDS", "1")
            .env("PHOTOGATE_RECONCILE_FULL_HOURS", "0")
            .env("PHOTOGATE_WEBHOOKS_TO_PRIVATE_ADDRESSES", "true")
            .env("PHOTOGATE_WEBHOOK_PAUSE_MILLISECONDS", "20")
            .env("PHOTOGATE_LOG_FORMAT", "text")
            .env("RUST_BACKTRACE", "0")
            .env_remove("PHOTOGATE_METRICS_LISTEN")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        Ok(Worker { process, program, thaws_at: None })
    }

    /// From now on, workers run these programs. Those that run another one are asked to stop.
    pub(super) fn run(&mut self, programs: Vec<PathBuf>) {
        self.programs = programs;
        for worker in &self.workers {
            if !self.programs.contains(&worker.program) {
                worker.signal(Signal::SIGTERM);
            }
        }
    }

    /// True while a worker runs another program than workers do from now on.
    pub(super) fn has_others(&self) -> bool {
        self.workers.iter().any(|worker| !self.programs.contains(&worker.program))
    }

    /// Kills a worker with SIGKILL, as the kernel does when memory runs out.
    pub(super) fn kill_one(&mut self, rng: &mut StdRng) -> io::Result<bool> {
        let living = self
            .workers
            .iter_mut()
            .filter_map(|worker| matches!(worker.process.try_wait(), Ok(None)).then_some(worker));
        let Some(worker) = living.choose(rng) else { return Ok(false) };
        worker.process.kill()?;
        worker.process.wait()?;
        Ok(true)
    }

    /// Freezes a worker until after its lease has ended. Then it goes on, and settles its photos
    /// too late.
    pub(super) fn freeze_one(&mut self, rng: &mut StdRng) -> bool {
        let awake = self.workers.iter_mut().filter(|worker| worker.thaws_at.is_none());
        let Some(worker) = awake.choose(rng) else { return false };
        let length = LEASE + Duration::from_millis(rng.random_range(500..2500));
        worker.thaws_at = Some(Instant::now() + length);
        worker.signal(Signal::SIGSTOP);
        true
    }

    pub(super) fn thaw_all(&mut self) {
        self.workers.iter_mut().for_each(Worker::thaw);
    }

    /// Asks all workers to stop, and waits until they have.
    pub(super) async fn dismiss(&mut self) -> io::Result<()> {
        for worker in &self.workers {
            worker.signal(Signal::SIGTERM);
        }
        for mut worker in self.workers.drain(..) {
            tokio::task::spawn_blocking(move || worker.process.wait()).await??;
        }
        Ok(())
    }

    /// Returns the number of worker processes started so far.
    pub(super) fn started(&self) -> usize {
        self.started
    }

    /// Returns how often a late settlement of a worker was refused.
    pub(super) fn refused(&self) -> io::Result<usize> {
        self.said(REFUSED)
    }

    /// Returns how often a worker reported during the drill that the books do not balance.
    pub(super) fn alarms(&self) -> io::Result<usize> {
        self.said(ALARM)
    }

    fn said(&self, words: &str) -> io::Result<usize> {
        Ok(fs::read_to_string(&self.log)?.lines().filter(|line| line.contains(words)).count())
    }
}

impl Worker {
    fn signal(&self, signal: Signal) {
        if let Ok(process) = i32::try_from(self.process.id()) {
            // The worker may have died in the meantime.
            let _ = kill(Pid::from_raw(process), signal);
        }
    }

    fn thaw(&mut self) {
        if self.thaws_at.take().is_some() {
            self.signal(Signal::SIGCONT);
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            let _ = worker.process.kill();
            let _ = worker.process.wait();
        }
    }
}
