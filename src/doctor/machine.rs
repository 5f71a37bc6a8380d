//! This machine: room on its disks, and memory for the slots.

use std::{
    fs,
    path::{Path, PathBuf},
};

use nix::sys::statvfs::statvfs;

use super::{Check, beside, needs::directory};
use crate::config::Config;

const DISK: &str = "disk";
const MEMORY: &str = "memory";
const MEGABYTE: u64 = 1_000_000;

/// Less is not enough for what is written while somebody reads the message.
const FREE_MIN: u64 = 500 * MEGABYTE;
/// 32 uploads of 100 MiB at once, which come into the temporary directory first.
const FREE_GOOD: u64 = 3_400 * MEGABYTE;

/// A slot's photo and child, and an idle child (`docs/settings.md`).
const SLOT: u64 = 300 * MEGABYTE;
const IDLE_CHILD: u64 = 150 * MEGABYTE;

pub(super) async fn disk(config: &Config) -> Check {
    let mut places = vec![("uploads", std::env::temp_dir())];
    places.extend(directory(&config.store_url).map(|path| ("the store", path)));
    match beside(move || places.into_iter().map(|(what, path)| room(what, &path)).collect()).await {
        Some(rooms) => judge(rooms),
        None => Check::fail(DISK, "the check ended early", "try again"),
    }
}

/// How much room there is for something: bytes, and whether there are names left for new files.
struct Room {
    what: &'static str,
    path: PathBuf,
    found: nix::Result<(u64, bool)>,
}

fn room(what: &'static str, path: &Path) -> Room {
    let found = statvfs(path).map(|of| {
        let bytes = of.blocks_available() * of.fragment_size();
        // Some file systems do not count their files.
        (bytes, of.files() == 0 || of.files_available() > 0)
    });
    Room { what, path: path.to_owned(), found }
}

fn judge(rooms: Vec<Room>) -> Check {
    let mut seen = Vec::new();
    let mut least = u64::MAX;
    for Room { what, path, found } in rooms {
        let path = path.display();
        match found {
            Ok((bytes, has_names)) => {
                least = least.min(if has_names { bytes } else { 0 });
                let names = if has_names { "" } else { ", and no inode" };
                seen.push(format!("{} free{names} in {path} ({what})", size(bytes)));
            }
            Err(error) => {
                least = 0;
                seen.push(format!("{path} ({what}) cannot be asked: {error}"));
            }
        }
    }
    let seen = seen.join(", ");
    let advice = "make room, or set TMPDIR or store_url to a larger disk";
    match least {
        ..FREE_MIN => Check::fail(DISK, seen, advice),
        FREE_MIN..FREE_GOOD => Check::warn(DISK, seen, advice),
        _ => Check::ok(DISK, seen),
    }
}

pub(super) async fn memory(config: &Config) -> Check {
    let (slots, idle) = (config.slots() as u64, config.idle_children() as u64);
    match beside(available).await.flatten() {
        Some(available) => fits(available, slots, idle),
        None => Check::warn(
            MEMORY,
            "this system does not say how much is available",
            "see that each slot has 300 MB",
        ),
    }
}

fn fits(available: u64, slots: u64, idle: u64) -> Check {
    let (least, most) = (slots * SLOT, slots * SLOT + idle * IDLE_CHILD);
    let seen = format!(
        "{} available; {slots} slots need {}, with {idle} idle children {}",
        size(available),
        size(least),
        size(most)
    );
    match available {
        n if n < least => Check::fail(MEMORY, seen, "set slots to fewer, or give it more memory"),
        n if n < most => {
            Check::warn(MEMORY, seen, "set idle_children to fewer, or give it more memory")
        }
        _ => Check::ok(MEMORY, seen),
    }
}

/// Memory that this process may take: of the machine, or of its control group if that has less.
fn available() -> Option<u64> {
    let info = fs::read_to_string("/proc/meminfo").ok()?;
    let line = info.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let machine = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024;
    Some(of_control_groups(Path::new("/sys/fs/cgroup")).map_or(machine, |group| group.min(machine)))
}

/// What is left in this process's control group, or in one above it. `None` if none has a limit.
fn of_control_groups(root: &Path) -> Option<u64> {
    let own = fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    root.join(path)
        .ancestors()
        .take_while(|group| group.starts_with(root))
        .filter_map(|group| {
            let most = number(group.join("memory.max"))?;
            Some(most.saturating_sub(number(group.join("memory.current"))?))
        })
        .min()
}

fn size(bytes: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "it is shown with one digit")]
    let bytes = bytes as f64;
    if bytes < 1e9 { format!("{:.0} MB", bytes / 1e6) } else { format!("{:.1} GB", bytes / 1e9) }
}

#[cfg(test)]
mod tests {
    use super::{super::State, *};

    #[test]
    fn memory_must_be_there_for_all_slots() {
        for (megabytes, state) in
            [(599, State::Fail), (600, State::Warn), (1799, State::Warn), (1800, State::Ok)]
        {
            assert_eq!(fits(megabytes * MEGABYTE, 2, 8).state, state, "{megabytes} MB");
        }
    }

    #[test]
    fn a_disk_without_inodes_is_full() {
        let room = |found| Room { what: "uploads", path: "/tmp".into(), found };
        for (found, state) in [
            (Ok((10_000 * MEGABYTE, true)), State::Ok),
            (Ok((10_000 * MEGABYTE, false)), State::Fail),
            (Ok((600 * MEGABYTE, true)), State::Warn),
            (Ok((400 * MEGABYTE, true)), State::Fail),
            (Err(nix::Error::ENOENT), State::Fail),
        ] {
            assert_eq!(judge(vec![room(found)]).state, state, "{found:?}");
        }
    }
}
