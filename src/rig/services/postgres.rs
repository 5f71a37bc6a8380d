//! Starts and stops a private PostgreSQL server.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{ConnectOptions, Connection, postgres::PgConnectOptions};
use tokio::time::Instant;

use super::{
    ServicesError,
    place::Runner,
    supervised::{START_MAX, Supervised, last_words, on_path},
};

/// A private PostgreSQL server and the data it keeps between starts.
#[derive(Debug)]
pub struct Postgres {
    runner: Runner,
    programs: PathBuf,
    data: PathBuf,
    sockets: PathBuf,
    server: Option<Supervised>,
}

impl Postgres {
    pub(super) async fn start(
        runner: Runner,
        data: &Path,
        sockets: &Path,
    ) -> Result<Self, ServicesError> {
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

    /// Starts the server again after [`pull_the_plug`](Self::pull_the_plug).
    ///
    /// # Errors
    /// See [`ServicesError`].
    pub async fn resume(&mut self) -> Result<(), ServicesError> {
        let mut server = self.runner.command("sh");
        let program = self.programs.join("postgres");
        let sockets = self.sockets.to_string_lossy().into_owned();
        Supervised::prepare(&mut server, "INT", &program);
        server.arg("-D").arg(&self.data);
        // The socket's directory is closed to other users. The server is as durable as a real one,
        // but small.
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

    /// Returns the address of a database on this server.
    pub fn url(&self, database: &str) -> String {
        let sockets: String =
            url::form_urlencoded::byte_serialize(self.sockets.to_string_lossy().as_bytes())
                .collect();
        format!("postgres:///{database}?host={sockets}&user=postgres&port=5432&sslmode=disable")
    }

    /// Stops the server as a power cut would, with `pg_ctl -m immediate stop`: without a
    /// checkpoint, so that the next start does a recovery.
    ///
    /// # Errors
    /// When `pg_ctl` fails.
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

/// Finds the directory of PostgreSQL's programs: the newest version where Debian installs it, else
/// the one on the PATH.
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
