//! A private PostgreSQL and a private Redis, for the demo, benchmarks and tests: unix sockets, no ports, stopped with
//! the process that started them, even when that is killed. Nobody's own server is ever touched.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    fcntl::{Flock, FlockArg},
    unistd::{Gid, Uid, User, geteuid},
};
use sqlx::{ConnectOptions, Connection, postgres::PgConnectOptions};
use tempfile::TempDir;
use tokio::time::Instant;

/// A server is given this long to start; one that starts in a second on a desk may need more on a busy machine.
const START_MAX: Duration = Duration::from_secs(60);

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
    /// Short: a socket's path has 107 bytes at most.
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
        let sockets = tempfile::Builder::new().prefix("photogate-").tempdir_in("/tmp")?;
        runner.give(sockets.path())?;
        let postgres =
            Postgres::start(runner, &place.path.join("postgres"), sockets.path()).await?;
        let redis = Redis::start(sockets.path()).await?;
        Ok(Self { postgres, redis, _sockets: sockets, place })
    }

    /// Where they keep what they keep: the place that was asked for, or one that the user `postgres` can reach.
    pub fn place(&self) -> &Path {
        &self.place.path
    }
}

/// A directory while it is used: nobody else's at the same time, and gone afterwards.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    _lock: Flock<File>,
}

impl Place {
    fn take(runner: Runner, wanted: &Path) -> Result<Self, ServicesError> {
        let unusable = |error| ServicesError::Place { path: wanted.to_owned(), error };
        fs::create_dir_all(wanted.parent().unwrap_or(Path::new("."))).map_err(unusable)?;
        let lock = File::create(wanted.with_extension("lock")).map_err(unusable)?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock)
            .map_err(|_| ServicesError::InUse(wanted.to_owned()))?;
        Ok(Self { path: runner.reachable(wanted).map_err(unusable)?, _lock: lock })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Whoever comes next empties it anyway.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Who runs PostgreSQL: we, or the user `postgres` if we are root.
#[derive(Debug, Clone, Copy)]
struct Runner(Option<(Uid, Gid)>);

impl Runner {
    fn choose() -> Result<Self, ServicesError> {
        if !geteuid().is_root() {
            return Ok(Self(None));
        }
        let user =
            User::from_name("postgres").map_err(io::Error::from)?.ok_or(ServicesError::NoUser)?;
        Ok(Self(Some((user.uid, user.gid))))
    }

    fn command(self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        if let Self(Some((uid, gid))) = self {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        // Not ours to pass on: a PGDATA or PGHOST of the person at the keyboard means another server.
        for name in ["PGDATA", "PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGOPTIONS"] {
            command.env_remove(name);
        }
        command
    }

    /// Makes a directory his.
    fn give(self, directory: &Path) -> io::Result<()> {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
        match self {
            Self(Some((uid, gid))) => {
                std::os::unix::fs::chown(directory, Some(uid.as_raw()), Some(gid.as_raw()))
            }
            Self(None) => Ok(()),
        }
    }

    /// The place itself, empty, or, if he cannot reach it (a clone under root's home), one of its own under /var/tmp.
    fn reachable(self, place: &Path) -> io::Result<PathBuf> {
        let made = self.empty(place)?;
        let entered = self.command("test").args(["-w"]).arg(&made).current_dir("/").status()?;
        if entered.success() {
            return Ok(made);
        }
        let elsewhere: String = made
            .to_string_lossy()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
            .collect();
        self.empty(&Path::new("/var/tmp").join(format!("photogate{elsewhere}")))
    }

    fn empty(self, place: &Path) -> io::Result<PathBuf> {
        match fs::remove_dir_all(place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(place)?,
        }
        self.give(place)?;
        place.canonicalize()
    }
}

/// A private PostgreSQL.
#[derive(Debug)]
pub struct Postgres {
    runner: Runner,
    programs: PathBuf,
    data: PathBuf,
    sockets: PathBuf,
    server: Option<Supervised>,
}

impl Postgres {
    async fn start(runner: Runner, data: &Path, sockets: &Path) -> Result<Self, ServicesError> {
        let programs =
            postgres_programs().ok_or(ServicesError::NotInstalled("PostgreSQL 14 or later"))?;
        let made = runner
            .command(programs.join("initdb"))
            .args([
                "--username=postgres",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--no-sync",
                "-D",
            ])
            .arg(data)
            .current_dir("/")
            .output()?;
        if !made.status.success() {
            return Err(ServicesError::Failed {
                program: "initdb",
                reason: String::from_utf8_lossy(&made.stderr).into_owned(),
            });
        }
        let mut postgres = Self {
            runner,
            programs,
            data: data.to_owned(),
            sockets: sockets.to_owned(),
            server: None,
        };
        postgres.resume().await?;
        Ok(postgres)
    }

    /// Starts it again after [`pull_the_plug`](Self::pull_the_plug).
    ///
    /// # Errors
    /// See [`ServicesError`].
    pub async fn resume(&mut self) -> Result<(), ServicesError> {
        let mut server = self.runner.command("sh");
        let program = self.programs.join("postgres");
        let sockets = self.sockets.to_string_lossy().into_owned();
        Supervised::prepare(&mut server, "INT", &program);
        server.arg("-D").arg(&self.data);
        // On a socket nobody else may open; durable as a real one, but small.
        server.args([
            "-c",
            "listen_addresses=",
            "-c",
            "max_connections=200",
            "-c",
            "shared_buffers=128MB",
            "-c",
            "max_wal_size=2GB",
            "-k",
            &sockets,
        ]);
        let log = self.sockets.join("postgres.log");
        let mut server = Supervised::start(server, &log)?;
        let options: PgConnectOptions =
            self.url("postgres").parse().map_err(|_| ServicesError::NotInstalled("PostgreSQL"))?;
        let deadline = Instant::now() + START_MAX;
        loop {
            match options.connect().await {
                Ok(connection) => {
                    let _ = connection.close().await;
                    self.server = Some(server);
                    return Ok(());
                }
                Err(_) if server.is_running() && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(error) => {
                    return Err(ServicesError::Failed {
                        program: "PostgreSQL",
                        reason: last_words(&log, &error),
                    });
                }
            }
        }
    }

    /// The address of a database on it.
    pub fn url(&self, database: &str) -> String {
        let sockets: String =
            url::form_urlencoded::byte_serialize(self.sockets.to_string_lossy().as_bytes())
                .collect();
        format!("postgres:///{database}?host={sockets}&user=postgres&port=5432&sslmode=disable")
    }

    /// Pulls the plug, as `pg_ctl -m immediate stop` does: no checkpoint, recovery at the next start.
    ///
    /// # Errors
    /// When it cannot be told.
    pub fn pull_the_plug(&mut self) -> io::Result<()> {
        let stopped = self
            .runner
            .command(self.programs.join("pg_ctl"))
            .args(["-m", "immediate", "-w", "stop", "-D"])
            .arg(&self.data)
            .current_dir("/")
            .output()?;
        self.server = None;
        if stopped.status.success() {
            Ok(())
        } else {
            Err(io::Error::other(String::from_utf8_lossy(&stopped.stderr).into_owned()))
        }
    }
}

/// A private Redis, without persistence.
#[derive(Debug)]
pub struct Redis {
    socket: PathBuf,
    server: Option<Supervised>,
}

impl Redis {
    async fn start(sockets: &Path) -> Result<Self, ServicesError> {
        let mut redis = Self { socket: sockets.join("redis.sock"), server: None };
        redis.resume().await?;
        Ok(redis)
    }

    /// Starts it again after [`stop`](Self::stop), empty.
    ///
    /// # Errors
    /// See [`ServicesError`].
    pub async fn resume(&mut self) -> Result<(), ServicesError> {
        let program = on_path("redis-server").ok_or(ServicesError::NotInstalled("redis-server"))?;
        let mut server = Command::new("sh");
        Supervised::prepare(&mut server, "TERM", &program);
        server
            .args([
                "--port",
                "0",
                "--save",
                "",
                "--appendonly",
                "no",
                "--unixsocketperm",
                "700",
                "--unixsocket",
            ])
            .arg(&self.socket);
        let log = self.socket.with_extension("log");
        let mut server = Supervised::start(server, &log)?;
        let client = redis::Client::open(self.url()).map_err(|error| ServicesError::Failed {
            program: "Redis",
            reason: error.to_string(),
        })?;
        let deadline = Instant::now() + START_MAX;
        loop {
            match client.get_multiplexed_async_connection().await {
                Ok(_) => {
                    self.server = Some(server);
                    return Ok(());
                }
                Err(_) if server.is_running() && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(error) => {
                    return Err(ServicesError::Failed {
                        program: "Redis",
                        reason: last_words(&log, &error),
                    });
                }
            }
        }
    }

    /// Stops it; everything in it is gone.
    pub fn stop(&mut self) {
        self.server = None;
        let _ = fs::remove_file(&self.socket);
    }

    /// Its address.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket.display())
    }
}

/// A server under a shell that stops it when we are gone: the shell waits on a pipe that only we hold open.
#[derive(Debug)]
struct Supervised(Child);

impl Supervised {
    fn prepare(shell: &mut Command, signal: &str, program: &Path) {
        let script = format!(
            "exec 3<&0; \"$0\" \"$@\" </dev/null 3<&- & server=$!; \
             {{ read _ <&3; kill -{signal} $server; }} & watch=$!; wait $server; kill $watch 2>/dev/null"
        );
        shell.arg("-c").arg(script).arg(program);
    }

    fn start(mut shell: Command, log: &Path) -> io::Result<Self> {
        let log = fs::File::create(log)?;
        // A group of its own: Ctrl-C at the keyboard is for us, and we stop the server when we are done with it.
        shell
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(Self(shell.spawn()?))
    }

    fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    fn stop(&mut self) -> io::Result<ExitStatus> {
        if let Some(mut pipe) = self.0.stdin.take() {
            let _ = pipe.flush();
        }
        self.0.wait()
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// The directory of the newest PostgreSQL: on the PATH, or where Debian keeps it.
fn postgres_programs() -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = debian
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin")))
        })
        .filter(|(version, programs)| *version >= 14 && programs.join("initdb").is_file())
        .collect();
    versions.sort();
    let on_path = || {
        on_path("initdb")
            .and_then(|initdb| initdb.canonicalize().ok()?.parent().map(Path::to_owned))
    };
    versions.pop().map(|(_, programs)| programs).or_else(on_path)
}

fn on_path(program: &str) -> Option<PathBuf> {
    let found = Command::new("sh")
        .args(["-c", "command -v \"$0\"", program])
        .output()
        .ok()
        .filter(|found| found.status.success())?;
    Some(PathBuf::from(String::from_utf8(found.stdout).ok()?.trim()))
}

fn last_words(log: &Path, error: &dyn std::fmt::Display) -> String {
    let said = fs::read_to_string(log).unwrap_or_default();
    let last: Vec<_> = said.lines().rev().take(3).collect();
    if last.is_empty() {
        error.to_string()
    } else {
        last.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }
}
