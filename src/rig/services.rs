//! A private PostgreSQL and a private Redis, for the demo, benchmarks and tests: unix sockets, no ports, stopped with
//! the process that started them, even when that is killed. Nobody's own server is ever touched.

mod place;
mod postgres;
mod redis;
mod supervised;

use std::{
    io,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use place::{Place, Runner};
pub use postgres::Postgres;
pub use redis::Redis;

/// A socket's path has 107 bytes at most, and ours end in 35 of their own.
const SOCKETS_NEAR_MAX: usize = 70;

/// Why the services did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    /// A program is not installed.
    #[error(
        "{0} is not installed: run `make setup` (on Debian or Ubuntu: apt install postgresql redis-server)"
    )]
    NotInstalled(&'static str),
    /// PostgreSQL does not run as root, and there is nobody else.
    #[error(
        "PostgreSQL does not run as root, and there is no user `postgres` to run it as: run this as an ordinary user"
    )]
    NoUser,
    /// It said no.
    #[error("{program} did not start: {reason}")]
    Failed {
        /// Which.
        program: &'static str,
        /// Its last words.
        reason: String,
    },
    /// Somebody's demo is still up, or somebody's tests run.
    #[error("{0} is in use by another photogate: end that one first, or choose another place")]
    InUse(PathBuf),
    /// Not ours to write, most likely.
    #[error("{path} cannot be used ({error}): remove it, or choose another place")]
    Place {
        /// What was asked for.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// Files and processes.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A private PostgreSQL and Redis. Dropping it stops them and removes what they kept.
#[derive(Debug)]
pub struct Services {
    /// The database server.
    pub postgres: Postgres,
    /// The bell.
    pub redis: Redis,
    _sockets: TempDir,
    place: Place,
}

impl Services {
    /// Starts both, with everything they keep below `place`, empty.
    ///
    /// # Errors
    /// See [`ServicesError`].
    pub async fn start(place: &Path) -> Result<Self, ServicesError> {
        let runner = Runner::choose()?;
        let place = Place::take(runner, place)?;
        // In the place, where the next start sweeps up after a process that was killed; or where the path is short.
        let near = place.path.as_os_str().len() <= SOCKETS_NEAR_MAX;
        let home = if near { place.path.as_path() } else { Path::new("/tmp") };
        let sockets = tempfile::Builder::new().prefix("photogate-").tempdir_in(home)?;
        runner.give(sockets.path())?;
        let postgres =
            Postgres::start(runner, &place.path.join("postgres"), sockets.path()).await?;
        let redis = Redis::start(sockets.path()).await?;
        Ok(Self { postgres, redis, _sockets: sockets, place })
    }

    /// Starts a Redis alone, for those who bring a PostgreSQL.
    ///
    /// # Errors
    /// See [`ServicesError`].
    pub async fn redis_alone() -> Result<(Redis, TempDir), ServicesError> {
        let sockets = tempfile::Builder::new().prefix("photogate-").tempdir_in("/tmp")?;
        Ok((Redis::start(sockets.path()).await?, sockets))
    }

    /// Where they keep what they keep: the place that was asked for, or one that the user `postgres` can reach.
    pub fn place(&self) -> &Path {
        &self.place.path
    }
}
