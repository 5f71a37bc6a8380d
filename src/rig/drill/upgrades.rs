//! Upgrades in the middle of a drill: the next version migrates the database, its workers run beside
//! those of the version before, and then alone. A migration meets all other faults. If it fails, it
//! runs again.

use std::{
    collections::VecDeque,
    fmt,
    fs::OpenOptions,
    io,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{Drill, crew::Crew};

/// How long an upgrade may take when nothing is struck any more.
const UPGRADE_MAX: Duration = Duration::from_secs(600);

/// The versions of a drill.
pub(super) struct Upgrades {
    /// The program that workers run now.
    current: PathBuf,
    /// The versions to come, in order.
    next: VecDeque<PathBuf>,
    database: String,
    log: PathBuf,
    /// An upgrade begins every so many rounds. In the first half of them workers of two versions run.
    every: usize,
    round: usize,
    migration: Option<Child>,
    done: usize,
    /// Migrations that failed, and began again.
    again: usize,
}

impl fmt::Display for Upgrades {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} upgrades, {} migrations began again", self.done, self.again)
    }
}

impl Upgrades {
    pub(super) fn plan(drill: &Drill, database: &str, rounds: usize) -> io::Result<Self> {
        Ok(Self {
            current: std::env::current_exe()?,
            next: drill.upgrades.iter().cloned().collect(),
            database: database.to_owned(),
            log: drill.place.join("migrations.log"),
            every: (rounds / drill.upgrades.len().max(1)).max(2),
            round: 0,
            migration: None,
            done: 0,
            again: 0,
        })
    }

    /// Looks after a migration that runs, and begins or ends an upgrade if it is time.
    pub(super) fn go_on(&mut self, crew: &mut Crew) -> io::Result<()> {
        let at = self.round % self.every;
        self.round += 1;
        if self.migration.is_some() {
            self.look_after(crew)?;
        } else if at == self.every / 4 && !self.next.is_empty() {
            self.migration = self.migrate()?;
        } else if at == self.every * 3 / 4 {
            crew.run(vec![self.current.clone()]);
        }
        Ok(())
    }

    /// Carries out what is left, while nothing is struck any more. Gives up if an upgrade does not end.
    pub(super) async fn finish(&mut self, crew: &mut Crew) -> io::Result<()> {
        let (mut left, mut since) = (self.left(), Instant::now());
        let mut alone = PathBuf::new();
        while left > 0 && since.elapsed() < UPGRADE_MAX {
            if self.migration.is_some() {
                self.look_after(crew)?;
            } else if alone != self.current {
                alone = self.current.clone();
                crew.run(vec![alone.clone()]);
            } else if !crew.has_others() {
                // The next schema serves only the version that is left.
                self.migration = self.migrate()?;
            }
            crew.replace_the_dead()?;
            tokio::time::sleep(Duration::from_millis(50)).await;
            if self.left() < left {
                (left, since) = (self.left(), Instant::now());
            }
        }
        self.give_up()
    }

    /// Ends a migration that still runs.
    fn give_up(&mut self) -> io::Result<()> {
        if let Some(mut migration) = self.migration.take() {
            migration.kill()?;
            migration.wait()?;
        }
        Ok(())
    }

    /// Number of upgrades that have not ended.
    pub(super) fn left(&self) -> usize {
        self.next.len()
    }

    fn look_after(&mut self, crew: &mut Crew) -> io::Result<()> {
        match self.migration.as_mut().map(Child::try_wait).transpose()?.flatten() {
            None => {}
            Some(ended) if ended.success() => {
                self.migration = None;
                self.done += 1;
                if let Some(next) = self.next.pop_front() {
                    let before = std::mem::replace(&mut self.current, next);
                    crew.run(vec![before, self.current.clone()]);
                }
            }
            // For instance because PostgreSQL crashed.
            Some(_) => {
                self.again += 1;
                crew.run(vec![self.current.clone()]);
                self.migration = self.migrate()?;
            }
        }
        Ok(())
    }

    fn migrate(&self) -> io::Result<Option<Child>> {
        let Some(next) = self.next.front() else { return Ok(None) };
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        Command::new(next)
            .args(["migrate", "--database-url", &self.database])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .map(Some)
    }
}

impl Drop for Upgrades {
    fn drop(&mut self) {
        let _ = self.give_up();
    }
}
