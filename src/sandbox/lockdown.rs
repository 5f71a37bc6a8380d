//! What a child may not: everything but compute, read its pipe and write its pipe.

use std::{collections::BTreeMap, sync::Once};

use landlock::{ABI, Access, AccessFs, AccessNet, Ruleset, RulesetAttr, RulesetStatus, Scope};
use nix::sys::resource::{Resource, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use serde::{Deserialize, Serialize};

/// How well a child is locked in: as well as the kernel can.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Sandbox {
    /// No system call but the few that computing takes.
    seccomp: Result<(), String>,
    /// No file and no network.
    landlock: Result<(), String>,
}

impl Sandbox {
    /// To the log, once: what protects photos from each other, and what does not.
    pub(super) fn tell(&self) {
        static TOLD: Once = Once::new();
        TOLD.call_once(|| match (&self.seccomp, &self.landlock) {
            (Ok(()), Ok(())) => tracing::info!("photos are looked at under seccomp and Landlock"),
            (Ok(()), Err(why)) => {
                tracing::info!("photos are looked at under seccomp (no Landlock: {why})");
            }
            (Err(why), Ok(())) => {
                tracing::warn!("photos are looked at under Landlock only: no seccomp: {why}");
            }
            (Err(seccomp), Err(landlock)) => tracing::warn!(
                "photos are looked at without a sandbox: no seccomp ({seccomp}), no Landlock ({landlock}); run photogate where the kernel has one of them"
            ),
        });
    }
}

/// Enters it, for good. What was opened and loaded stays.
pub(super) fn enter(memory_megabytes: u64) -> nix::Result<Sandbox> {
    let memory = memory_megabytes << 20;
    setrlimit(Resource::RLIMIT_DATA, memory, memory)?;
    // A core dump of a child has somebody's photo in it.
    setrlimit(Resource::RLIMIT_CORE, 0, 0)?;
    let landlock = landlock();
    Ok(Sandbox { landlock, seccomp: seccomp().map_err(|error| error.to_string()) })
}

fn landlock() -> Result<(), String> {
    let restricted = Ruleset::default()
        .handle_access(AccessFs::from_all(ABI::V6))
        .and_then(|rules| rules.handle_access(AccessNet::from_all(ABI::V6)))
        .and_then(|rules| rules.scope(Scope::from_all(ABI::V6)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self);
    match restricted {
        Ok(status) if status.ruleset == RulesetStatus::NotEnforced => {
            Err("the kernel has none".into())
        }
        Ok(status) if status.ruleset == RulesetStatus::PartiallyEnforced => {
            Err("the kernel's is older: files are out of reach, sockets only by seccomp".into())
        }
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

/// All that computing takes: memory, time, its pipes, and to end. Anything else is refused, not deadly: a library that
/// asks for a file it can do without goes on.
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

fn seccomp() -> Result<(), seccompiler::Error> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    let rule = |conditions| SeccompRule::new(conditions).map(|rule| vec![rule]);
    let dword = SeccompCmpArgLen::Dword;
    // Memory, but none to run code from.
    let executable = SeccompCmpOp::MaskedEq(u64::from(libc::PROT_EXEC.unsigned_abs()));
    let no_code = || SeccompCondition::new(2, dword.clone(), executable.clone(), 0);
    // The limit on memory does not count what is shared, nor stacks that grow.
    let flags = u64::from((libc::MAP_SHARED | libc::MAP_GROWSDOWN).unsigned_abs());
    let counted = SeccompCondition::new(3, dword.clone(), SeccompCmpOp::MaskedEq(flags), 0);
    rules.insert(libc::SYS_mmap, rule(vec![no_code()?, counted?])?);
    rules.insert(libc::SYS_mprotect, rule(vec![no_code()?])?);
    // Its own limits, nobody else's; and to abort, itself.
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
    // Also for threads that a library may have started.
    seccompiler::apply_filter_all_threads(&program)
}
