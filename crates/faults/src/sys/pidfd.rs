//! Processes by handle: a number may come to mean another process, a handle never does.

use crate::clock;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// A process, alive or dead, that this handle means for ever.
#[derive(Debug)]
pub struct Process(OwnedFd);

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Process {
    /// The process that has this number now.
    ///
    /// # Errors
    /// The kernel's: nobody has it, or no descriptor is free.
    pub fn open(pid: i32) -> io::Result<Process> {
        let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Process(pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// Sends the signal of this number, 1 to 64.
    ///
    /// # Errors
    /// The kernel's: it is dead and reaped, or not ours to signal.
    pub fn signal(&self, number: u8) -> io::Result<()> {
        let (fd, number) = (self.0.as_raw_fd(), libc::c_int::from(number));
        // SAFETY: plain system call on a descriptor that lives through it; no pointer is passed.
        let done = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                fd,
                number,
                ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Which of these processes are dead, after waiting at most `ms` for one that is.
    ///
    /// # Errors
    /// The kernel's.
    pub fn dead<'a>(
        processes: impl IntoIterator<Item = &'a Process>,
        ms: u64,
    ) -> io::Result<Vec<bool>> {
        let timeout = clock::timespec(ms);
        let mut fds: Vec<PollFd<'_>> =
            processes.into_iter().map(|p| PollFd::new(&p.0, PollFlags::IN)).collect();
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(fds.iter().map(|fd| !fd.revents().is_empty()).collect())
    }
}
