//! The directory of a private server's data: locks it, deletes it afterwards, and finds a user that
//! PostgreSQL may run as (it refuses root).

use std::{
    ffi::OsStr,
    fs::{self, File},
    io,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use nix::{
    fcntl::{Flock, FlockArg},
    unistd::{Gid, Uid, User, geteuid},
};

use super::{ServicesError, supervised::START_MAX};

/// A directory that is locked while it is used, and deleted afterwards.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    _lock: Flock<File>,
}

impl Place {
    pub(super) fn take(runner: Runner, wanted: &Path) -> Result<Self, ServicesError> {
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
        // If this fails, the next start empties the directory.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// The user that PostgreSQL runs as: the current one, or the user `postgres` if that is root.
#[derive(Debug, Clone, Copy)]
pub(super) struct Runner(Option<(Uid, Gid)>);

impl Runner {
    pub(super) fn choose() -> Result<Self, ServicesError> {
        if !geteuid().is_root() {
            return Ok(Self(None));
        }
        let user =
            User::from_name("postgres").map_err(io::Error::from)?.ok_or(ServicesError::NoUser)?;
        Ok(Self(Some((user.uid, user.gid))))
    }

    pub(super) fn command(self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        if let Self(Some((uid, gid))) = self {
            command.uid(uid.as_raw()).gid(gid.as_raw());
        }
        // Variables such as PGDATA or PGHOST in the user's environment mean another server.
        for name in ["PGDATA", "PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGOPTIONS"] {
            command.env_remove(name);
        }
        command
    }

    /// Makes the runner the owner of a directory.
    pub(super) fn give(self, directory: &Path) -> io::Result<()> {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
        match self {
            Self(Some((uid, gid))) => {
                std::os::unix::fs::chown(directory, Some(uid.as_raw()), Some(gid.as_raw()))
            }
            Self(None) => Ok(()),
        }
    }

    /// Empties the place and returns it. If the runner cannot reach it (a clone below root's home),
    /// a directory below /var/tmp is used.
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

    /// A server of a process that was killed ends a little after it, and writes files until then.
    fn empty(self, place: &Path) -> io::Result<PathBuf> {
        let deadline = Instant::now() + START_MAX;
        loop {
            match fs::remove_dir_all(place) {
                Err(error)
                    if error.kind() == io::ErrorKind::DirectoryNotEmpty
                        && Instant::now() < deadline =>
                {
                    thread::sleep(Duration::from_millis(50));
                }
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => break,
            }
        }
        fs::create_dir_all(place)?;
        self.give(place)?;
        place.canonicalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_in_which_a_server_that_ends_still_writes_is_taken_when_it_has_ended() {
        let parent = tempfile::tempdir().unwrap();
        let wanted = parent.path().join("place");
        let data = wanted.join("postgres/base");
        let ends = Instant::now() + Duration::from_millis(500);
        thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0.. {
                    let _ = fs::create_dir_all(&data);
                    let _ = fs::write(data.join(number.to_string()), "");
                    if Instant::now() > ends {
                        break;
                    }
                }
            });
            while !data.exists() {
                thread::yield_now();
            }

            assert!(Place::take(Runner(None), &wanted).is_ok());
        });
    }
}
