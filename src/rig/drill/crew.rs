//! The workers of a drill: real processes.

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

/// What a worker says in its log when the books do not balance.
const ALARM: &str = "the books do not balance";

/// And when somebody else has its photo.
const REFUSED: &str = "a late settle was refused";

/// The workers, and how to hire another.
pub(super) struct Crew {
    workers: Vec<Worker>,
    wanted: usize,
    started: usize,
    database: String,
    redis: String,
    log: PathBuf,
}

struct Worker {
    process: Child,
    /// Frozen, and until when.
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
            database: database.to_owned(),
            redis: redis.to_owned(),
            log,
        };
        crew.replace_the_dead()?;
        Ok(crew)
    }

    /// Whoever was killed, or taken down by a photo, is followed by another.
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
        let process = Command::new(std::env::current_exe()?)
            .args(["work", "--rehearse", "--slots", "4", "--ahead", "64", "--log", "warn"])
            .args(["--database-url", &self.database, "--redis-url", &self.redis])
            .env("PHOTOGATE_LEASE_SECONDS", LEASE.as_secs().to_string())
            .env("PHOTOGATE_POLL_MILLISECONDS", "200")
            .env("PHOTOGATE_RECONCILE_SECONDS", "1")
            .env("PHOTOGATE_RECONCILE_FULL_HOURS", "0")
            .env("PHOTOGATE_LOG_FORMAT", "text")
            .env("RUST_BACKTRACE", "0")
            .env_remove("PHOTOGATE_METRICS_LISTEN")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        Ok(Worker { process, thaws_at: None })
    }

    /// As the kernel does it when memory is out: no goodbye.
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

    /// Freezes one until after its lease is over; then it goes on as if nothing had been, and settles late.
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

    /// Asks all to leave, and waits until they have.
    pub(super) async fn dismiss(&mut self) -> io::Result<()> {
        for worker in &self.workers {
            worker.signal(Signal::SIGTERM);
        }
        for mut worker in self.workers.drain(..) {
            tokio::task::spawn_blocking(move || worker.process.wait()).await??;
        }
        Ok(())
    }

    /// Processes, in all.
    pub(super) fn started(&self) -> usize {
        self.started
    }

    /// How often a worker came too late with what it had done, and was refused.
    pub(super) fn refused(&self) -> io::Result<usize> {
        self.said(REFUSED)
    }

    /// How often a worker cried that the books do not balance, while it all went on.
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
            // It may have died meanwhile, as workers do here.
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
