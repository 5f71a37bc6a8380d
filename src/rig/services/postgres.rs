//! Starts and stops a private PostgreSQL server, and fails over to a standby of it.

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
    standby: Option<Standby>,
    /// Number of standbys that were made until now.
    standbys: u16,
}

/// A streaming replica of the server.
#[derive(Debug)]
struct Standby {
    data: PathBuf,
    port: u16,
    server: Supervised,
}

/// The port of the server. It names a socket: the servers listen on no network.
const PORT: u16 = 5432;

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
            standby: None,
            standbys: 0,
        };
        postgres.resume().await?;
        Ok(postgres)
    }

    /// Starts the server again after [`pull_the_plug`](Self::pull_the_plug).
    ///
    /// # Errors
    /// See [`ServicesError`].
    pub async fn resume(&mut self) -> Result<(), ServicesError> {
        self.server = Some(self.run(&self.data, PORT).await?);
        Ok(())
    }

    /// Runs a server on this data, and waits until it answers.
    async fn run(&self, data: &Path, port: u16) -> Result<Supervised, ServicesError> {
        let mut server = self.runner.command("sh");
        let program = self.programs.join("postgres");
        let sockets = self.sockets.to_string_lossy().into_owned();
        Supervised::prepare(&mut server, "INT", &program);
        server.arg("-D").arg(data);
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
            // A standby that starts finds the log since it was copied.
            "-c",
            "wal_keep_size=512MB",
            "-c",
            &format!("port={port}"),
            "-k",
            &sockets,
        ]);
        let log = self.sockets.join(format!("postgres-{port}.log"));
        let mut server = Supervised::start(server, &log)?;
        let options: PgConnectOptions =
            self.url("postgres").parse().map_err(|_| ServicesError::NotInstalled("PostgreSQL"))?;
        let options = options.port(port);
        let deadline = Instant::now() + START_MAX;
        loop {
            match options.connect().await {
                Ok(connection) => {
                    let _ = connection.close().await;
                    return Ok(server);
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
        let stopped = self.control(&["-m", "immediate", "-w", "stop"], &self.data);
        self.server = None;
        stopped
    }

    /// Starts a standby, which receives what the server writes. The server does not wait for it.
    ///
    /// # Errors
    /// See [`ServicesError`].
    pub async fn stand_by(&mut self) -> Result<(), ServicesError> {
        self.standbys += 1;
        let port = PORT + self.standbys;
        let data = self.data.with_file_name(format!("standby-{port}"));
        self.copy_to(&data).await?;
        let server = self.run(&data, port).await?;
        self.standby = Some(Standby { data, port, server });
        Ok(())
    }

    /// Copies the data while the server runs, and lets the copy follow it. `pg_basebackup` does the
    /// same, but not every package of PostgreSQL has that program, and it must not be older than
    /// the server.
    async fn copy_to(&self, data: &Path) -> Result<(), ServicesError> {
        let failed = |reason: String| ServicesError::Failed { program: "the standby", reason };
        let refused = |error: sqlx::Error| failed(error.to_string());
        let options: PgConnectOptions = self.url("postgres").parse().map_err(refused)?;
        // The backup ends with this connection.
        let mut db = options.connect().await.map_err(refused)?;
        let is_14 = db.server_version_num().is_some_and(|number| number < 150_000);
        let (begin, end) = if is_14 {
            ("SELECT pg_start_backup('standby', true, false)::text", "pg_stop_backup(false, false)")
        } else {
            ("SELECT pg_backup_start('standby', true)::text", "pg_backup_stop(false)")
        };
        let end = sqlx::AssertSqlSafe(format!("SELECT labelfile FROM {end}"));
        sqlx::query(begin).execute(&mut db).await.map_err(refused)?;
        // Files that change or vanish meanwhile are mended by the log, which the standby receives.
        let script = "mkdir -m 700 \"$1\" && tar -C \"$0\" --exclude './pg_wal/*' --exclude \
                      ./postmaster.pid --exclude './pg_replslot/*' -cf - . | tar -C \"$1\" -xpf -";
        let copied =
            self.runner.command("sh").arg("-c").arg(script).args([&self.data, data]).output()?;
        if !copied.status.success() {
            return Err(failed(String::from_utf8_lossy(&copied.stderr).into_owned()));
        }
        let label: String = sqlx::query_scalar(end).fetch_one(&mut db).await.map_err(refused)?;
        db.close().await.map_err(refused)?;
        // The server must be able to write them, so they are made by its user.
        let follows = format!(
            "primary_conninfo = 'user=postgres port={PORT} host={}'",
            self.sockets.display()
        );
        let script = "printf %s \"$0\" > backup_label && : > standby.signal && \
                      echo \"$1\" >> postgresql.auto.conf";
        let told = self
            .runner
            .command("sh")
            .args(["-c", script, &label, &follows])
            .current_dir(data)
            .output()?;
        if !told.status.success() {
            return Err(failed(String::from_utf8_lossy(&told.stderr).into_owned()));
        }
        Ok(())
    }

    /// Makes every commit wait until the standby has it. So a failover loses nothing that was
    /// acknowledged.
    ///
    /// # Errors
    /// When the server does not answer.
    pub async fn wait_for_the_standby(&self) -> Result<(), ServicesError> {
        let failed = |error: sqlx::Error| ServicesError::Failed {
            program: "PostgreSQL",
            reason: error.to_string(),
        };
        let options: PgConnectOptions = self.url("postgres").parse().map_err(failed)?;
        let mut db = options.connect().await.map_err(failed)?;
        for statement in
            ["ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()"]
        {
            sqlx::query(statement).execute(&mut db).await.map_err(failed)?;
        }
        let streams = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        let deadline = Instant::now() + START_MAX;
        while sqlx::query_scalar::<_, i64>(streams).fetch_one(&mut db).await.map_err(failed)? == 0 {
            if Instant::now() > deadline {
                return Err(failed(sqlx::Error::PoolTimedOut));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Stops the stream to the standby: what is written from now on is lost in a failover.
    ///
    /// # Errors
    /// When there is no standby, or it does not answer.
    pub async fn cut_the_stream(&self) -> Result<(), ServicesError> {
        let failed = |error: sqlx::Error| ServicesError::Failed {
            program: "the standby",
            reason: error.to_string(),
        };
        let port = self.standby.as_ref().map_or(PORT, |standby| standby.port);
        let options: PgConnectOptions = self.url("postgres").parse().map_err(failed)?;
        let mut db = options.port(port).connect().await.map_err(failed)?;
        for statement in ["ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"] {
            sqlx::query(statement).execute(&mut db).await.map_err(failed)?;
        }
        let streams = "SELECT count(*) FROM pg_stat_wal_receiver";
        while sqlx::query_scalar::<_, i64>(streams).fetch_one(&mut db).await.map_err(failed)? > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Stops the server as a power cut would, and promotes the standby. It answers at the address
    /// of the server from now on.
    ///
    /// # Errors
    /// When there is no standby, or `pg_ctl` fails.
    pub fn fail_over(&mut self) -> io::Result<()> {
        self.pull_the_plug()?;
        self.promote()
    }

    /// Promotes the standby of a server that was stopped, and deletes that one's data: a drill has
    /// many failovers.
    ///
    /// # Errors
    /// When there is no standby, or `pg_ctl` fails.
    pub fn promote(&mut self) -> io::Result<()> {
        let Some(standby) = self.standby.take() else {
            return Err(io::Error::other("there is no standby: call stand_by first"));
        };
        self.control(&["-w", "promote"], &standby.data)?;
        let socket = |port: u16| self.sockets.join(format!(".s.PGSQL.{port}"));
        let _ = fs::remove_file(socket(PORT));
        std::os::unix::fs::symlink(socket(standby.port), socket(PORT))?;
        let lost = std::mem::replace(&mut self.data, standby.data);
        self.server = Some(standby.server);
        fs::remove_dir_all(lost)
    }

    /// Runs `pg_ctl` on a server.
    fn control(&self, arguments: &[&str], data: &Path) -> io::Result<()> {
        let done = self
            .runner
            .command(self.programs.join("pg_ctl"))
            .args(arguments)
            .arg("-D")
            .arg(data)
            .current_dir("/")
            .output()?;
        if done.status.success() {
            Ok(())
        } else {
            Err(io::Error::other(String::from_utf8_lossy(&done.stderr).into_owned()))
        }
    }
}

/// Finds the directory of PostgreSQL's programs: the one on the PATH, for somebody chose that, else
/// the newest version where Debian installs it.
fn postgres_programs() -> Option<PathBuf> {
    let on_path = on_path("initdb")
        .and_then(|initdb| initdb.canonicalize().ok()?.parent().map(Path::to_owned));
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = debian
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin")))
        })
        .filter(|(version, programs)| *version >= 14 && programs.join("initdb").is_file())
        .max();
    on_path.or(newest.map(|(_, programs)| programs))
}
