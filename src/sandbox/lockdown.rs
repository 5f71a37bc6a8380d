//! Locks a sandbox child in: it can compute, read its pipe and write its pipe, and nothing else.
//! This needs a kernel with seccomp or Landlock. On a kernel with neither, only memory and time are
//! limited, and a child works only if the setting `sandbox_required` is false.

use std::{collections::BTreeMap, fs, io, os::fd::RawFd, sync::Once};

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};
use nix::{
    sys::resource::{Resource, setrlimit},
    unistd::{Gid, Uid, close, setgroups, setresgid, setresuid},
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use serde::{Deserialize, Serialize};

/// Which protections of a child are in force. This depends on the kernel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sandbox {
    /// The child can make only the few system calls that computing needs. The error says why not.
    seccomp: Result<(), String>,
    /// The child has no files and no TCP. The error says why not.
    landlock: Result<(), String>,
}

impl Sandbox {
    /// Why there is no sandbox, if the kernel has neither protection.
    pub(super) fn is_missing(&self) -> Option<String> {
        let (Err(seccomp), Err(landlock)) = (&self.seccomp, &self.landlock) else { return None };
        Some(format!("there is no sandbox: no seccomp ({seccomp}), no Landlock ({landlock})"))
    }

    /// Which protections are in force, in words.
    pub(super) fn words(&self) -> String {
        let of = |name: &str, state: &Result<(), String>| match state {
            Ok(()) => name.to_owned(),
            Err(why) => format!("no {name}: {why}"),
        };
        format!("{}, {}", of("seccomp", &self.seccomp), of("Landlock", &self.landlock))
    }

    /// Logs once which protections are in force and which are not.
    pub(super) fn tell(&self) {
        static TOLD: Once = Once::new();
        TOLD.call_once(|| match (&self.seccomp, &self.landlock) {
            (Ok(()), Ok(())) => tracing::info!("photos are processed under seccomp and Landlock"),
            (Ok(()), Err(why)) => {
                tracing::info!("photos are processed under seccomp (no Landlock: {why})");
            }
            (Err(why), Ok(())) => {
                tracing::warn!(
                    "photos are processed under Landlock only, which leaves UDP open \
                     (no seccomp: {why})"
                );
            }
            (Err(seccomp), Err(landlock)) => tracing::warn!(
                "photos are processed without a sandbox: no seccomp ({seccomp}), \
                 no Landlock ({landlock}); run photogate on a kernel that has one of them"
            ),
        });
    }
}

/// Closes all descriptors but the standard ones: those that the worker has passed on by mistake,
/// and those that a library has opened.
pub(super) fn close_descriptors() -> io::Result<()> {
    let open: Vec<RawFd> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > 2)
        .collect();
    for descriptor in open {
        // The one that has read the directory is closed already.
        let _ = close(descriptor);
    }
    Ok(())
}

/// If the worker runs as root, a child goes on as nobody.
pub(super) fn leave_root() -> nix::Result<()> {
    if !Uid::effective().is_root() {
        return Ok(());
    }
    let (nobody, nogroup) = (Uid::from_raw(65_534), Gid::from_raw(65_534));
    setgroups(&[])?;
    setresgid(nogroup, nogroup, nogroup)?;
    setresuid(nobody, nobody, nobody)
}

/// Locks this process in. There is no way back. Files that are open and models that are loaded stay
/// usable.
pub(super) fn enter(memory_megabytes: u64) -> nix::Result<Sandbox> {
    let memory = memory_megabytes << 20;
    setrlimit(Resource::RLIMIT_DATA, memory, memory)?;
    // No core dump, because it would contain a person's photo. And no other file.
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    setrlimit(Resource::RLIMIT_FSIZE, 0, 0)?;
    let landlock = landlock();
    Ok(Sandbox { landlock, seccomp: seccomp().map_err(|error| error.to_string()) })
}

/// Forbids files, network and signals to other processes, with Landlock.
fn landlock() -> Result<(), String> {
    let restricted = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V6))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(ABI::V6)))
        .and_then(|rules| rules.scope(Scope::from_all(ABI::V6)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self);
    match restricted {
        Ok(status) if status.ruleset == RulesetStatus::NotEnforced => {
            Err("the kernel does not have it".into())
        }
        Ok(status) if status.ruleset == RulesetStatus::PartiallyEnforced => {
            Err("the kernel's version is old: only seccomp blocks sockets".into())
        }
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// System calls that a child may make: for memory, time, its pipes, and its end.
///
/// Other calls return an error and do not kill the child, so that a library can go on without a
/// file that it does not really need.
const ALLOWED: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_brk,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_futex,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_membarrier,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getrusage,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// Forbids all system calls that are not in [`ALLOWED`], with seccomp. A few calls are allowed only
/// with harmless arguments.
fn seccomp() -> Result<(), seccompiler::Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    let rule = |conditions| SeccompRule::new(conditions).map(|rule| vec![rule]);
    let dword = SeccompCmpArgLen::Dword;
    // Memory must not be executable.
    let executable = SeccompCmpOp::MaskedEq(u64::from(libc::PROT_EXEC.unsigned_abs()));
    let no_code = || SeccompCondition::new(2, dword.clone(), executable.clone(), 0);
    // The memory limit does not count shared memory or stacks that grow, so these are forbidden.
    let flags = u64::from((libc::MAP_SHARED | libc::MAP_GROWSDOWN).unsigned_abs());
    let counted = SeccompCondition::new(3, dword.clone(), SeccompCmpOp::MaskedEq(flags), 0);
    rules.insert(libc::SYS_mmap, rule(vec![no_code()?, counted?])?);
    rules.insert(libc::SYS_mprotect, rule(vec![no_code()?])?);
    // The child may change its own limits only, and may send a signal (for abort) to itself only.
    let own = |argument| SeccompCondition::new(argument, dword.clone(), SeccompCmpOp::Eq, 0);
    rules.insert(libc::SYS_prlimit64, rule(vec![own(0)?])?);
    let myself = SeccompCmpOp::Eq;
    let pid = u64::from(std::process::id());
    rules.insert(
        libc::SYS_tgkill,
        rule(vec![SeccompCondition::new(0, dword.clone(), myself, pid)?])?,
    );
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    // The filter also applies to threads that a library may have started.
    seccompiler::apply_filter_all_threads(&program)
}
