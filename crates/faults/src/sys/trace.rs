//! Threads that stand still because we trace them.
//!
//! Tracing belongs to the *thread* that seized: all of this is called from the holder's first one.
//! When it dies the kernel detaches every thread and lets it run; one that job control had stopped
//! before stays stopped.

use std::collections::BTreeMap;
use std::io;
use std::ptr;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::unistd::Pid;
use rustix::process::{WaitOptions, WaitStatus, wait, waitpid};

/// Between two looks at threads that have not stopped yet.
const LOOK: Duration = Duration::from_micros(500);

/// The threads that this thread has seized.
#[derive(Debug, Default)]
pub struct Tracees {
    /// By number; whether it has stopped.
    threads: BTreeMap<i32, bool>,
}

impl Tracees {
    /// Seizes a thread and asks it to stop. `false` where it is gone or seized already.
    ///
    /// # Errors
    /// The kernel's: `EPERM` where it may not be traced, or somebody else traces it.
    pub fn seize(&mut self, tid: i32) -> io::Result<bool> {
        let pid = Pid::from_raw(tid);
        if self.threads.contains_key(&tid) {
            return Ok(false);
        }
        match ptrace::seize(pid, Options::empty()) {
            Err(Errno::ESRCH) => return Ok(false),
            other => other?,
        }
        self.threads.insert(tid, false);
        // A thread that died meanwhile is reaped like one that dies later.
        match ptrace::interrupt(pid) {
            Ok(()) | Err(Errno::ESRCH) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    /// How many threads are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.threads.len()
    }

    /// Whether no thread is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.threads.is_empty()
    }

    /// Waits until every thread has stopped or died. Returns one that has not when `limit` is over.
    ///
    /// # Errors
    /// The kernel's.
    pub fn await_stops(&mut self, limit: Duration) -> io::Result<Option<i32>> {
        let began = Instant::now();
        loop {
            let waiting: Vec<i32> =
                self.threads.iter().filter(|(_, stopped)| !**stopped).map(|(t, _)| *t).collect();
            for tid in &waiting {
                self.look(Some(*tid))?;
            }
            let left = waiting.iter().find(|tid| self.threads.get(tid) == Some(&false));
            match left {
                None => return Ok(None),
                Some(tid) if began.elapsed() >= limit => return Ok(Some(*tid)),
                Some(_) => std::thread::sleep(LOOK),
            }
        }
    }

    /// Takes note of the threads that have died. Until we do, their parents do not learn of it. The
    /// calling thread must have no other children.
    ///
    /// # Errors
    /// The kernel's.
    pub fn reap(&mut self) -> io::Result<()> {
        // Each thread has at most its end to tell, and maybe a stop before it.
        for _ in 0..2 * self.threads.len() {
            if !self.look(None)? {
                break;
            }
        }
        Ok(())
    }

    /// Takes one piece of news of this thread, or of any. `false` where there is none.
    fn look(&mut self, tid: Option<i32>) -> io::Result<bool> {
        // Not nix's: it loses a stop at a real-time signal, which it has no name for.
        let options = WaitOptions::NOHANG | WaitOptions::from_bits_retain(libc::__WALL as u32);
        let news = match tid {
            Some(tid) => waitpid(rustix::process::Pid::from_raw(tid), options),
            None => wait(options),
        };
        let (tid, status) = match news {
            Ok(Some((of, status))) => (of.as_raw_nonzero().get(), status),
            Ok(None) | Err(rustix::io::Errno::INTR) => return Ok(false),
            Err(rustix::io::Errno::CHILD) => {
                match tid {
                    Some(tid) => drop(self.threads.remove(&tid)),
                    None => self.threads.clear(),
                }
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        };
        if !status.stopped() {
            self.threads.remove(&tid);
            return Ok(true);
        }
        match passing_signal(status) {
            // A signal was on its way before the thread stopped: it is passed on, or it would be
            // lost with us. The stop that was asked for comes next.
            Some(signal) => pass_on(tid, signal)?,
            None => drop(self.threads.insert(tid, true)),
        }
        Ok(true)
    }

    /// Lets one thread run that was seized by mistake. It has to stop for that first, which may take it so
    /// long.
    ///
    /// # Errors
    /// The kernel's, or it has not stopped: it goes when this thread ends.
    pub fn let_go(&mut self, tid: i32, limit: Duration) -> io::Result<()> {
        let began = Instant::now();
        loop {
            self.look(Some(tid))?;
            match self.threads.get(&tid) {
                None => return Ok(()),
                Some(true) => {
                    self.threads.remove(&tid);
                    return match ptrace::detach(Pid::from_raw(tid), None) {
                        Ok(()) | Err(Errno::ESRCH) => Ok(()),
                        Err(error) => Err(error.into()),
                    };
                }
                Some(false) if began.elapsed() >= limit => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not stop"));
                }
                Some(false) => std::thread::sleep(LOOK),
            }
        }
    }

    /// Lets every thread that has stopped run again. Those that have not cannot be let go: they are still
    /// asked to stop, and go when this thread ends.
    pub fn release(&mut self) {
        self.threads.retain(|tid, stopped| {
            if *stopped && let Err(error) = ptrace::detach(Pid::from_raw(*tid), None) {
                tracing::debug!(tid, %error, "a thread was not there to be let go");
            }
            !*stopped
        });
    }
}

/// The signal at which a thread stopped; `None` for the stop that was asked for, or job control's.
fn passing_signal(status: WaitStatus) -> Option<i32> {
    let event = status.as_raw().cast_unsigned() >> 16;
    if event == 0 { status.stopping_signal() } else { None }
}

fn pass_on(tid: i32, signal: i32) -> io::Result<()> {
    // SAFETY: PTRACE_CONT takes no pointer; its last argument is the signal's number.
    let done = unsafe {
        libc::ptrace(
            libc::PTRACE_CONT,
            tid,
            ptr::null_mut::<libc::c_void>(),
            libc::c_long::from(signal),
        )
    };
    match io::Error::last_os_error() {
        _ if done == 0 => Ok(()),
        error if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
        error => Err(error),
    }
}

impl Drop for Tracees {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::sync::atomic::{AtomicI32, Ordering};

    use super::*;

    fn state(pid: i32) -> char {
        crate::proc::stat(pid).unwrap().state
    }

    /// Where the child below says that it is ready, and what it got.
    static TELL: AtomicI32 = AtomicI32::new(-1);

    fn tell(word: u8) {
        // SAFETY: one byte that lives here, into a pipe.
        unsafe { libc::write(TELL.load(Ordering::SeqCst), (&raw const word).cast(), 1) };
    }

    extern "C" fn got(_: libc::c_int) {
        tell(b'g');
    }

    /// The life of a child: it goes on until it is killed, or whoever began it ends.
    fn tell_of(signal: libc::c_int) -> ! {
        // SAFETY: plain calls; the handler does nothing but write.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::signal(signal, got as *const () as libc::sighandler_t);
        }
        tell(b'r');
        loop {
            std::hint::spin_loop();
        }
    }

    /// A signal that was being delivered when the thread was asked to stop must reach it, also where
    /// the tracer dies while it holds the thread.
    #[test]
    fn a_signal_on_its_way_is_not_lost_with_the_tracer() {
        for signal in [libc::SIGUSR1, 40] {
            let (mut told, tell) = std::io::pipe().unwrap();
            TELL.store(tell.as_raw_fd(), Ordering::SeqCst);
            // SAFETY: the child calls nothing but what a signal handler may.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                tell_of(signal);
            }
            drop(tell);
            let mut word = [0];
            told.read_exact(&mut word).unwrap();
            assert_eq!(&word, b"r");
            let held = std::thread::spawn(move || {
                let mut tracees = Tracees::default();
                ptrace::seize(Pid::from_raw(pid), Options::empty()).unwrap();
                tracees.threads.insert(pid, false);
                let process = crate::sys::pidfd::Process::open(pid).unwrap();
                process.signal(u8::try_from(signal).unwrap()).unwrap();
                while state(pid) != 't' {
                    std::thread::sleep(LOOK);
                }
                ptrace::interrupt(Pid::from_raw(pid)).unwrap();
                let late = tracees.await_stops(Duration::from_secs(5)).unwrap();
                let found = (late, state(pid));
                // The thread ends as if by SIGKILL: it lets nothing go.
                std::mem::forget(tracees);
                found
            });
            assert_eq!(held.join().unwrap(), (None, 't'));
            let (say, said) = std::sync::mpsc::channel();
            std::thread::spawn(move || say.send(told.read_exact(&mut word).map(|()| word)));
            let got = said.recv_timeout(Duration::from_secs(5));
            nix::sys::signal::kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
            nix::sys::wait::waitpid(Pid::from_raw(pid), None).unwrap();
            assert!(matches!(got, Ok(Ok([b'g']))), "signal {signal}: {got:?}");
        }
    }
}
