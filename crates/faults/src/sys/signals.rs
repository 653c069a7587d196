//! Signals as things to read, for programs of one thread that only wait; and the one that a child
//! gets at its parent's death.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Signals that this thread takes by reading.
#[derive(Debug)]
pub struct Signals(SignalFd);

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Came {
    /// Its number.
    pub number: i32,
    /// A process sent it. One from a terminal has reached the whole process group already.
    pub by_process: bool,
}

impl Signals {
    /// Blocks the signals of these numbers, so that they can be read.
    ///
    /// # Errors
    /// One is not a signal's number, or the kernel's.
    pub fn take(numbers: &[i32]) -> io::Result<Signals> {
        let mut set = SigSet::empty();
        for number in numbers {
            set.add(Signal::try_from(*number)?);
        }
        set.thread_block()?;
        Ok(Signals(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC)?))
    }

    /// Waits for the next one. Several of the same kind may come as one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn next(&self) -> io::Result<Came> {
        loop {
            match self.0.read_signal() {
                Ok(Some(info)) => {
                    let number = i32::try_from(info.ssi_signo).unwrap_or_default();
                    // Codes of the kernel are above zero (`SI_USER` is zero, `SI_KERNEL` is not).
                    return Ok(Came { number, by_process: info.ssi_code <= 0 });
                }
                Ok(None) | Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl std::os::fd::AsFd for Signals {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Lets the program die (SIGKILL) with the thread that starts it, and so with this process at the
/// latest. Start it from a thread that lives as long as the program may. A program with setuid rights
/// is let off by the kernel, and the program's own children are not tied.
pub fn die_with_parent(command: &mut Command) {
    let parent = std::process::id();
    let tie = move || {
        // SAFETY: a plain system call; no pointer is passed.
        let done = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        // It may have died already.
        if std::os::unix::process::parent_id() == parent {
            Ok(())
        } else {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    };
    // SAFETY: between fork and exec the closure makes two system calls and allocates nothing.
    unsafe {
        command.pre_exec(tie);
    }
}

/// `SIGCHLD`: a child ended.
pub const CHILD: i32 = libc::SIGCHLD;
/// What a terminal, a supervisor or a script sends to end a program.
pub const ENDINGS: [i32; 4] = [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_of_a_process_is_read_and_known_as_such() {
        let signals = Signals::take(&[libc::SIGUSR1]).expect("blocked");
        // `raise` goes to this thread alone; the harness's others have not blocked it.
        nix::sys::signal::raise(Signal::SIGUSR1).expect("sent");
        let came = signals.next().expect("read");
        assert_eq!(came, Came { number: libc::SIGUSR1, by_process: true });
    }
}
