//! A server process that ends with the process that started it.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

/// The time that a server gets to start. It takes a second on an idle machine, but may take much
/// longer on a busy one.
pub(super) const START_MAX: Duration = Duration::from_secs(60);

/// A server below a shell. The shell stops the server when this process ends: it waits on a pipe
/// that only this process holds open.
#[derive(Debug)]
pub(super) struct Supervised(Child);

impl Supervised {
    pub(super) fn prepare(shell: &mut Command, signal: &str, program: &Path) {
        let script = format!(
            "exec 3<&0; \"$0\" \"$@\" </dev/null 3<&- & server=$!; \
             {{ read _ <&3; kill -{signal} $server; }} & watch=$!; wait $server; \
             kill $watch 2>/dev/null"
        );
        shell.arg("-c").arg(script).arg(program);
    }

    pub(super) fn start(mut shell: Command, log: &Path) -> io::Result<Self> {
        let log = File::create(log)?;
        // The server gets a process group of its own. So Ctrl-C reaches only this process, which
        // stops the server when it no longer needs it.
        shell
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log);
        Ok(Self(shell.spawn()?))
    }

    pub(super) fn is_running(&mut self) -> bool {
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

pub(super) fn on_path(program: &str) -> Option<PathBuf> {
    let found = Command::new("sh")
        .args(["-c", "command -v \"$0\"", program])
        .output()
        .ok()
        .filter(|found| found.status.success())?;
    Some(PathBuf::from(String::from_utf8(found.stdout).ok()?.trim()))
}

pub(super) fn last_words(log: &Path, error: &dyn std::fmt::Display) -> String {
    let said = fs::read_to_string(log).unwrap_or_default();
    let last: Vec<_> = said.lines().rev().take(3).collect();
    if last.is_empty() {
        error.to_string()
    } else {
        last.into_iter().rev().collect::<Vec<_>>().join(" / ")
    }
}
