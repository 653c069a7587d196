//! Processes in namespaces of their own: forked into new ones, tied to the life of another.
//!
//! Entering the namespaces of a running process needs nothing of ours:
//! `rustix::thread::move_into_thread_name_spaces` takes a pidfd.

use std::io;
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;

use nix::sys::signal::SigSet;
use rustix::process::{Pid, Signal, set_parent_process_death_signal};
pub use rustix::thread::ThreadNameSpaceType as Spaces;

use super::pidfd::Process;

/// The number with which a forked process ends whose work panicked.
const PANICKED: i32 = 101;

/// `struct clone_args`, first version. Source: `linux/sched.h`.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
}

/// Whether this process has one thread only. Only such a one may fork without exec, and the kernel
/// lets only such a one enter a user or mount namespace.
///
/// # Errors
/// `/proc` cannot be read.
pub fn single_threaded() -> io::Result<bool> {
    Ok(std::fs::read_dir("/proc/self/task")?.count() == 1)
}

/// Forks this process into new namespaces. `child` runs in the new process, as pid 1 where a pid
/// namespace is among them; the process ends with the number that it returns, and nothing of this
/// process's exit handlers runs there. `child` is meant to end in an exec.
///
/// Returns the new process's number, as this process sees it.
///
/// # Errors
/// This process has other threads, or the kernel's: no privilege, or a limit on namespaces.
pub fn fork_into(spaces: Spaces, child: impl FnOnce() -> i32) -> io::Result<Pid> {
    if !single_threaded()? {
        return Err(io::Error::other("a process with several threads cannot fork into namespaces"));
    }
    let args = CloneArgs {
        flags: u64::from(spaces.bits()),
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    // SAFETY: without a stack and without CLONE_VM this is fork: the child gets a copy of the whole
    // memory, in which no other thread can have left a lock held, for there is none.
    let number =
        unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) };
    if number != 0 {
        let number = i32::try_from(number).ok().filter(|n| *n > 0);
        return number.and_then(Pid::from_raw).ok_or_else(io::Error::last_os_error);
    }
    let code = catch_unwind(AssertUnwindSafe(child)).unwrap_or(PANICKED);
    // SAFETY: ends this process at once. Exit handlers and buffers are copies of the parent's, for
    // the parent to run and to flush.
    unsafe { libc::_exit(code) }
}

/// SIGKILL to this process at the death of the thread that forked it. `parent` is that process: a
/// parent outside of one's pid namespace has no number to compare, so its handle is looked at after
/// the order is given.
///
/// # Errors
/// The kernel's, or the parent is dead already.
pub fn die_with_process(parent: &Process) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    match Process::dead([parent], 0)?.contains(&true) {
        true => Err(io::Error::other("the parent is dead")),
        false => Ok(()),
    }
}

/// Makes the program that `command` will start die with this process ([`die_with_process`]) and hear every
/// signal that its starter had blocked for itself.
pub fn tie(command: &mut Command, parent: Process) {
    let before_exec = move || {
        die_with_process(&parent)?;
        SigSet::empty().thread_set_mask().map_err(io::Error::from)
    };
    // SAFETY: between fork and exec it makes plain system calls and a short allocation, which a fork
    // of a process with one thread may; whoever calls this has checked that, to be able to enter.
    unsafe {
        command.pre_exec(before_exec);
    }
}

/// Marks every descriptor from 3 on close-on-exec: what a caller left open must not be held open by
/// processes that outlive it.
///
/// # Errors
/// The kernel's.
pub fn close_rest_on_exec() -> io::Result<()> {
    // SAFETY: changes flags of descriptors; closes none.
    let done =
        unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_with_threads_does_not_fork() {
        // The test harness has threads.
        let error = fork_into(Spaces::empty(), || 0).expect_err("several threads");
        assert!(error.to_string().contains("several threads"));
    }
}
