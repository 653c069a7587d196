//! The holder itself: `squall hold`.

use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::ExitCode;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::set_parent_process_death_signal;
use squall_core::hold::{Achieved, Failure, Hold, HolderOrder, HolderReport};
use squall_core::time::Time;

use crate::clock;
use crate::held::{self, HeldFault};
use crate::holder::lease::{Lease, newest};
use crate::lines;

/// How often a held fault is measured, in milliseconds.
const MEASURE_MS: u64 = 1_000;
/// A task longer than this is not one.
const MAX_TASK: u64 = 4 * 1024 * 1024;

/// The body of `squall hold PARENT`. Reads its task from stdin, holds the fault, and exits once it
/// is lifted, its pipe ends, or its parent dies.
///
/// Call it before any thread is started: the fault must die with this one.
#[must_use]
pub fn hold_main(parent: &str) -> ExitCode {
    match hold(parent) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The agent reads the end of the pipe; this line is for its log.
            let _ = writeln!(io::stderr(), "squall hold: {error}");
            ExitCode::FAILURE
        }
    }
}

fn hold(parent: &str) -> io::Result<()> {
    die_with(parent)?;
    rustix::thread::set_name(c"squall-hold")?;
    let mut orders = Orders::new();
    let (line, early) = orders.task()?;
    let task: Hold = serde_json::from_str(&line)?;
    if ended(&early)? {
        // What a kill does could not be undone.
        return Ok(());
    }
    let terminate = block_sigterm()?;
    let stdout = io::stdout();
    // A reader that has stopped reading must not keep the fault alive.
    lines::never_wait(&stdout)?;
    // A renewal that came with the task counts from the start: the task may have waited for long.
    let lease = Lease::new(newest(&early)?.unwrap_or(task.lease_until), task.deadline)?;
    let (found, heard) = lease.keep(&mut orders, || held::apply(&task, &lease))?;
    match found {
        Ok((fault, achieved)) => {
            lease.in_place()?;
            say(&HolderReport::Held(achieved));
            let heard = early.into_iter().chain(heard).collect();
            Loop { task, orders, terminate, fault, lease }.run(heard)
        }
        Err(failure) => {
            say(&HolderReport::Failed(failure));
            Ok(())
        }
    }
}

/// Asks the kernel for SIGKILL at the parent's death, then looks whether it has died already.
pub(crate) fn die_with(parent: &str) -> io::Result<()> {
    set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    let now = std::os::unix::process::parent_id();
    if now.to_string() == parent {
        return Ok(());
    }
    Err(io::Error::other(format!("the parent {parent} is gone: nothing was touched")))
}

fn block_sigterm() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGTERM);
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?)
}

fn say(report: &HolderReport) {
    let mut stdout = io::stdout().lock();
    // A full or closed pipe: the agent is frozen or gone, and the lease decides.
    let _ = lines::write(&mut stdout, report).and_then(|()| stdout.flush());
}

struct Loop {
    task: Hold,
    orders: Orders,
    terminate: SignalFd,
    fault: Box<dyn HeldFault>,
    /// Last, since it is dropped last: letting a fault go must not outlive its timer either.
    lease: Lease,
}

fn over(failure: Failure) -> io::Error {
    io::Error::other(failure.to_string())
}

enum Next {
    Go,
    Lift,
    End,
}

impl Loop {
    /// Holds to the end. `heard` are orders that came before the fault was in place.
    fn run(mut self, heard: Vec<Line>) -> io::Result<()> {
        let mut next = self.obey(heard)?;
        let mut measure_at = clock::now().plus(MEASURE_MS);
        loop {
            match next {
                Next::Go => {}
                Next::Lift => break,
                // The agent is gone: so is the fault, with this process.
                Next::End => return Ok(()),
            }
            let now = clock::now();
            if now >= self.task.deadline {
                break;
            }
            let due = self.fault.tick(now).unwrap_or(Time::FAR);
            if now >= measure_at {
                measure_at = now.plus(MEASURE_MS);
                self.fault.check().map_err(over)?;
                if let Some(achieved) = self.fault.measure() {
                    say(&HolderReport::Measured(achieved));
                }
            }
            let wake = due.min(measure_at).min(self.task.deadline);
            next = self.wait(now.until(wake))?;
        }
        let until = clock::now();
        let achieved: Achieved = self.fault.lift();
        // Before what may take long: to give much memory back, say.
        say(&HolderReport::Lifted(achieved, until));
        Ok(())
    }

    fn wait(&mut self, ms: u64) -> io::Result<Next> {
        let timeout = clock::timespec(ms);
        let stdin = io::stdin();
        let (readable, asked_to_end) = {
            let mut fds = [
                PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(self.terminate.as_fd(), PollFlags::IN),
            ];
            match poll(&mut fds, Some(&timeout)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            (!fds[0].revents().is_empty(), !fds[1].revents().is_empty())
        };
        if asked_to_end {
            return Ok(Next::Lift);
        }
        if !readable {
            return Ok(Next::Go);
        }
        let lines = self.orders.read()?;
        self.obey(lines)
    }

    fn obey(&mut self, lines: Vec<Line>) -> io::Result<Next> {
        for line in lines {
            let Some(line) = line else { return Ok(Next::End) };
            match serde_json::from_str(&line)? {
                HolderOrder::Lift => return Ok(Next::Lift),
                HolderOrder::Renew(until) => self.renew(until)?,
            }
        }
        Ok(Next::Go)
    }

    fn renew(&mut self, until: Time) -> io::Result<()> {
        let Some(until) = self.lease.renew(until)? else { return Ok(()) };
        self.fault.renew(until).map_err(over)
    }
}

/// Whether these orders end the fault.
fn ended(lines: &[Line]) -> io::Result<bool> {
    for line in lines.iter().flatten() {
        if matches!(serde_json::from_str(line)?, HolderOrder::Lift) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A line; `None` is the end.
pub(crate) type Line = Option<String>;

/// Lines of stdin, without a buffer that poll could not see.
pub(crate) struct Orders {
    pending: Vec<u8>,
}

impl Orders {
    pub(crate) fn new() -> Orders {
        Orders { pending: Vec::new() }
    }

    /// The first line, waited for; and what came with it, which poll does not see any more.
    pub(crate) fn task(&mut self) -> io::Result<(String, Vec<Line>)> {
        loop {
            let mut lines = self.read()?.into_iter();
            match lines.next() {
                Some(Some(line)) => return Ok((line, lines.collect())),
                Some(None) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
                None if self.pending.len() as u64 > MAX_TASK => {
                    return Err(io::Error::other("the task is too long"));
                }
                None => {}
            }
        }
    }

    /// One read; whole lines, and `None` for the end. Lines behind the task's are few: one a second.
    pub(crate) fn read(&mut self) -> io::Result<Vec<Line>> {
        let mut chunk = [0; 16 * 1024];
        let stdin = io::stdin();
        let borrowed: BorrowedFd<'_> = stdin.as_fd();
        let len = match rustix::io::read(borrowed, &mut chunk) {
            Ok(len) => len,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        if len == 0 {
            return Ok(vec![None]);
        }
        self.pending.extend_from_slice(&chunk[..len]);
        let mut lines = Vec::new();
        while let Some(end) = self.pending.iter().position(|b| *b == b'\n') {
            let rest = self.pending.split_off(end + 1);
            let line = std::mem::replace(&mut self.pending, rest);
            lines.push(Some(String::from_utf8_lossy(&line).into_owned()));
        }
        Ok(lines)
    }
}
