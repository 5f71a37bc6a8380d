//! A private PostgreSQL and a private Redis for the demo, benchmarks and tests. They listen on unix
//! sockets, not on ports. They stop with the process that started them, even if it is killed.
//! Servers that run on the machine already are never touched.

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

/// The longest path of a directory in which sockets can be placed. A socket's path has at most 107
/// bytes, and our part of it needs 35.
const SOCKETS_NEAR_MAX: usize = 70;

/// Why the servers did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServicesError {
    /// A program is not installed.
    #[error(
        "{0} is not installed: run `make setup` \
         (on Debian or Ubuntu: apt install postgresql redis-server)"
    )]
    NotInstalled(&'static str),
    /// PostgreSQL does not run as root, and there is no user `postgres`.
    #[error(
        "PostgreSQL does not run as root, and there is no user `postgres`: \
         run this as an ordinary user"
    )]
    NoUser,
    /// A server did not start.
    #[error("{program} did not start: {reason}")]
    Failed {
        /// The name of the program.
        program: &'static str,
        /// The last lines of its log, or its error message.
        reason: String,
    },
    /// Another demo, drill or test run uses the directory.
    #[error("{0} is in use by another photogate: stop that one first, or choose another directory")]
    InUse(PathBuf),
    /// The directory cannot be used, most likely because it belongs to another user.
    #[error("{path} cannot be used ({error}): remove it, or choose another directory")]
    Place {
        /// The directory that was asked for.
        path: PathBuf,
        /// Why the directory cannot be used.
        error: io::Error,
    },
    /// A file or process operation failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A private PostgreSQL and Redis. Dropping this value stops them and deletes their data.
#[derive(Debug)]
pub struct Services {
    /// The private PostgreSQL server.
    pub postgres: Postgres,
    /// The private Redis server.
    pub redis: Redis,
    _sockets: TempDir,
    place: Place,
}

impl Services {
    /// Starts both servers, empty, with all their data below `place`.
    ///
    /// # Errors
    /// See [`ServicesError`].
    pub async fn start(place: &Path) -> Result<Self, ServicesError> {
        let runner = Runner::choose()?;
        let place = Place::take(runner, place)?;
        // Sockets go below the place if its path is short enough, so that the next start removes
        // those of a killed process. Otherwise they go below /tmp.
        let near = place.path.as_os_str().len() <= SOCKETS_NEAR_MAX;
        let home = if near { place.path.as_path() } else { Path::new("/tmp") };
        let sockets = tempfile::Builder::new().prefix("photogate-").tempdir_in(home)?;
        runner.give(sockets.path())?;
        let postgres =
            Postgres::start(runner, &place.path.join("postgres"), sockets.path()).await?;
        let redis = Redis::start(sockets.path()).await?;
        Ok(Self { postgres, redis, _sockets: sockets, place })
    }

    /// Starts only a Redis, for callers that have a PostgreSQL.
    ///
    /// # Errors
    /// See [`ServicesError`].
    pub async fn redis_alone() -> Result<(Redis, TempDir), ServicesError> {
        let sockets = tempfile::Builder::new().prefix("photogate-").tempdir_in("/tmp")?;
        Ok((Redis::start(sockets.path()).await?, sockets))
    }

    /// Returns the directory of the servers' data: the one that was asked for, or another one if
    /// the user `postgres` cannot reach that.
    pub fn place(&self) -> &Path {
        &self.place.path
    }
}
