//! A child that does nothing, for trying out what may be done to a process.

use std::io;
use std::ptr;

use rustix::process::Pid;

/// Seconds after which it ends by itself.
const LIFE: libc::c_uint = 5;

/// A child that only waits. Dropping it kills and reaps it.
#[derive(Debug)]
pub struct Dummy(Pid);

impl Dummy {
    /// Makes one.
    ///
    /// # Errors
    /// The kernel's.
    pub fn start() -> io::Result<Dummy> {
        // SAFETY: the parent may have threads, so the child must call nothing that takes a lock: it
        // makes system calls only. It closes what it inherits, or it would keep alive what hangs on
        // those descriptors.
        let pid = unsafe {
            let pid = libc::fork();
            if pid == 0 {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                libc::prctl(libc::PR_SET_NAME, c"squall-dummy".as_ptr());
                libc::syscall(libc::SYS_close_range, 0, libc::c_uint::MAX, 0);
                libc::alarm(LIFE);
                loop {
                    libc::ppoll(ptr::null_mut(), 0, ptr::null(), ptr::null());
                }
            }
            pid
        };
        match Pid::from_raw(pid) {
            Some(pid) if pid.as_raw_nonzero().get() > 0 => Ok(Dummy(pid)),
            Some(_) | None => Err(io::Error::last_os_error()),
        }
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.0.as_raw_nonzero().get()
    }
}

impl Drop for Dummy {
    fn drop(&mut self) {
        // It is our child and not reaped yet: the number is its own.
        let _ = rustix::process::kill_process(self.0, rustix::process::Signal::KILL);
        let _ = rustix::process::waitpid(Some(self.0), rustix::process::WaitOptions::empty());
    }
}
