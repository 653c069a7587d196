//! The holder's lease, and whoever keeps it while the fault is being put in place.

use std::io::{self, PipeReader};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::event::{PollFd, PollFlags, poll};
use squall_core::hold::HolderOrder;
use squall_core::time::Time;

use super::child::{Line, Orders};
use crate::clock;
use crate::sys::timer::KillTimer;

/// How much longer than to its deadline a holder may live, in milliseconds. At the deadline it lifts the
/// fault, and then says what it measured last; a kernel that killed it in that moment would take its words.
const LAST_WORDS_MS: u64 = 500;

/// When the kernel kills whoever holds a fault that is in place until then. No lease goes past the deadline.
pub(crate) fn killed_at(until: Time, deadline: Time) -> Time {
    if until < deadline { until } else { deadline.plus(LAST_WORDS_MS) }
}

/// The moment at which the kernel kills this process, frozen or not.
#[derive(Debug)]
pub(crate) struct Lease {
    timer: KillTimer,
    /// Milliseconds of the boot clock.
    until: AtomicU64,
    deadline: Time,
    /// The fault is: before, nobody has last words, and nothing may begin after the deadline.
    in_place: AtomicBool,
}

impl Lease {
    /// A lease that runs from now on.
    pub(crate) fn new(until: Time, deadline: Time) -> io::Result<Lease> {
        let timer = KillTimer::new()?;
        let until = until.min(deadline);
        timer.arm(until)?;
        let (until, in_place) = (AtomicU64::new(until.0), AtomicBool::new(false));
        Ok(Lease { timer, until, deadline, in_place })
    }

    /// Its end, as it is now.
    pub(crate) fn until(&self) -> Time {
        Time(self.until.load(Ordering::Relaxed))
    }

    /// Moves its end, never past the deadline; the new one, or `None` where that has passed already.
    pub(crate) fn renew(&self, until: Time) -> io::Result<Option<Time>> {
        let until = until.min(self.deadline);
        if until <= clock::now() {
            return Ok(None);
        }
        self.until.store(until.0, Ordering::Relaxed);
        self.arm()?;
        Ok(Some(until))
    }

    /// The fault is in place, and its holder will have last words.
    pub(crate) fn in_place(&self) -> io::Result<()> {
        self.in_place.store(true, Ordering::Relaxed);
        self.arm()
    }

    fn arm(&self) -> io::Result<()> {
        let until = self.until();
        let in_place = self.in_place.load(Ordering::Relaxed);
        self.timer.arm(if in_place { killed_at(until, self.deadline) } else { until })
    }

    /// Does `work`, and takes renewals beside it: on a busy host it may last longer than what is left
    /// of the lease. Returns the orders that came meanwhile as well, for they bind the fault too.
    pub(crate) fn keep<T>(
        &self,
        orders: &mut Orders,
        work: impl FnOnce() -> T,
    ) -> io::Result<(T, Vec<Line>)> {
        let (done, ends) = io::pipe()?;
        std::thread::scope(|scope| {
            let keeper = std::thread::Builder::new().name("lease".into());
            let keeper = keeper.spawn_scoped(scope, move || self.listen(orders, &done))?;
            let found = work();
            drop(ends);
            let heard = keeper.join().map_err(|_| io::Error::other("the lease's thread died"))?;
            Ok((found, heard?))
        })
    }

    fn listen(&self, orders: &mut Orders, done: &PipeReader) -> io::Result<Vec<Line>> {
        let mut heard = Vec::new();
        let stdin = io::stdin();
        loop {
            let mut fds = [
                PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(done.as_fd(), PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let (readable, over) = (!fds[0].revents().is_empty(), !fds[1].revents().is_empty());
            if readable {
                let lines = orders.read()?;
                if let Some(until) = newest(&lines)? {
                    self.renew(until)?;
                }
                heard.extend(lines);
            }
            if over || heard.last() == Some(&None) {
                return Ok(heard);
            }
        }
    }
}

/// The end of the lease that these orders ask for last.
pub(super) fn newest(lines: &[Line]) -> io::Result<Option<Time>> {
    let mut newest = None;
    for line in lines.iter().flatten() {
        if let HolderOrder::Renew(until) = serde_json::from_str(line)? {
            newest = Some(until);
        }
    }
    Ok(newest)
}
