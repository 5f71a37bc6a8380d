//! The `photogate` program, as a process that can be killed.

use std::{
    net::TcpStream,
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use photogate::config::Config;

use super::{PATIENCE, root};

/// A running program; killed when dropped.
pub struct Process(Child);

impl Process {
    /// `photogate work`, with these settings.
    pub fn work(config: &Config, arguments: &[&str]) -> Self {
        let mut command = program(config);
        command.arg("work").args(arguments);
        Self::start(command)
    }

    /// Any command.
    pub fn start(mut command: Command) -> Self {
        Self(command.stdin(Stdio::null()).spawn().expect("it starts"))
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().try_into().expect("a process id")), signal)
            .expect("the process is there");
    }

    /// As the kernel does it when memory is out: no goodbye.
    pub fn kill(&mut self) {
        self.0.kill().expect("it can be killed");
        self.0.wait().expect("it is gone");
    }

    pub fn is_running(&mut self) -> bool {
        self.0.try_wait().expect("it can be asked").is_none()
    }

    pub fn wait(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().expect("it can be asked") {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "the process does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Another server of this machine; killed when dropped.
pub struct Server(Child);

impl Server {
    /// Starts a server, and waits until it answers on this port.
    pub fn start(command: &mut Command, port: u16) -> Self {
        let child = command.stdin(Stdio::null()).spawn().unwrap_or_else(|error| {
            panic!("{command:?} does not start ({error}): run the tests with scripts/test")
        });
        let mut server = Self(child);
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = server.0.try_wait().expect("it can be asked");
            assert!(ended.is_none(), "{command:?} has ended: run the tests with scripts/test");
            assert!(began.elapsed() < PATIENCE, "{command:?} does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `photogate`, with these settings and no others.
pub fn program(config: &Config) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_photogate"));
    command
        .current_dir(root())
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| name == "PATH" || name == "HOME"));
    command
        .env("DATABASE_URL", &config.database_url)
        .env("REDIS_URL", config.redis_url.as_deref().unwrap_or_default())
        .env("PHOTOGATE_STORE_URL", &config.store_url)
        .env("PHOTOGATE_MODELS_DIR", &config.models_dir)
        .env("PHOTOGATE_SLOTS", config.slots.to_string())
        .env("PHOTOGATE_AHEAD", config.ahead.to_string())
        .env("PHOTOGATE_LEASE_SECONDS", config.lease_seconds.to_string())
        .env("PHOTOGATE_POLL_MILLISECONDS", config.poll_milliseconds.to_string())
        .env("PHOTOGATE_RETRIES_MAX", config.retries_max.to_string())
        .env("PHOTOGATE_RETRY_BASE_MILLISECONDS", config.retry_base_milliseconds.to_string())
        .env("PHOTOGATE_WEBHOOK_PAUSE_MILLISECONDS", config.webhook_pause_milliseconds.to_string())
        .env(
            "PHOTOGATE_WEBHOOKS_TO_PRIVATE_ADDRESSES",
            config.webhooks_to_private_addresses.to_string(),
        )
        .env("PHOTOGATE_SMTP_URL", config.smtp_url.as_deref().unwrap_or_default())
        .env("PHOTOGATE_MAIL_FROM", config.mail_from.as_deref().unwrap_or_default())
        .env("PHOTOGATE_PUBLIC_URL", config.public_url.as_deref().unwrap_or_default())
        .env("PHOTOGATE_MAIL_EVERY_SECONDS", config.mail_every_seconds.to_string())
        .env("PHOTOGATE_LOG", "warn");
    command
}

/// What a command printed.
pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a command told of its troubles.
pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs a command to its end.
pub fn photogate(config: &Config, arguments: &[&str]) -> Output {
    program(config).args(arguments).stdin(Stdio::null()).output().expect("photogate runs")
}
