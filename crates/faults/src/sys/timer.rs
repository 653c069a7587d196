//! A timer of the kernel that kills this process, frozen or not.

use std::io;
use std::mem::MaybeUninit;
use std::ptr;

use squall_core::time::Time;

/// SIGKILL to this process at a moment of its boot clock. Must be made after exec: timers do not
/// survive it.
#[derive(Debug)]
pub struct KillTimer {
    id: libc::timer_t,
}

// SAFETY: the id is a name that the kernel gave, not memory of ours; any thread may set the timer.
unsafe impl Send for KillTimer {}
// SAFETY: as above, and `timer_settime` may be called from many threads at once.
unsafe impl Sync for KillTimer {}

impl KillTimer {
    /// Makes the timer, not armed yet.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new() -> io::Result<KillTimer> {
        let mut event = MaybeUninit::<libc::sigevent>::zeroed();
        let mut id = MaybeUninit::<libc::timer_t>::uninit();
        // SAFETY: `sigevent` is plain data for which all zeroes is a value; the pointers live
        // through the call, and the id is read only after the kernel has written it.
        unsafe {
            (*event.as_mut_ptr()).sigev_notify = libc::SIGEV_SIGNAL;
            (*event.as_mut_ptr()).sigev_signo = libc::SIGKILL;
            if libc::timer_create(libc::CLOCK_BOOTTIME, event.as_mut_ptr(), id.as_mut_ptr()) != 0 {
                return Err(io::Error::last_os_error());
            }
            Ok(KillTimer { id: id.assume_init() })
        }
    }

    /// Arms it anew, for `at`. A moment that has passed kills at once.
    ///
    /// # Errors
    /// The kernel's; the former setting stays.
    pub fn arm(&self, at: Time) -> io::Result<()> {
        // Zero would disarm it.
        let ms = at.0.max(1).min(i64::MAX as u64 / 2);
        let value = libc::timespec {
            tv_sec: (ms / 1000) as libc::time_t,
            tv_nsec: (ms % 1000 * 1_000_000) as libc::c_long,
        };
        let interval = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let spec = libc::itimerspec { it_interval: interval, it_value: value };
        // SAFETY: the id is a live timer of this process, and `spec` lives through the call.
        let done = unsafe {
            libc::timer_settime(self.id, libc::TIMER_ABSTIME, &raw const spec, ptr::null_mut())
        };
        if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

impl Drop for KillTimer {
    fn drop(&mut self) {
        // SAFETY: the id is a live timer of this process, and nobody uses it after this.
        unsafe {
            libc::timer_delete(self.id);
        }
    }
}
