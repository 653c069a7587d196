//! Children of a holder that burn what the host has: processor time, or memory.
//!
//! They are this same program. The kernel kills them when the holder dies, they exit when their pipe
//! ends, and each has a timer of its own for the end of the lease (and half a second, where that is the
//! deadline, in which the holder measures them last), so that even stopped ones go.

mod child;
mod cpu;
mod memory;
mod rise;

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::thread::{CpuSet, sched_setaffinity};
use serde::{Deserialize, Serialize};
use squall_core::hold::{Failure, Hold};
use squall_core::time::Time;

use crate::holder::{Lease, killed_at};
use crate::lines;
use crate::{proc, residue};

pub use child::burn_main;
pub(crate) use memory::{FIRST, LEAST};
pub(crate) use rise::Rise;

/// What a burner does.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Body {
    /// Uses so many percent of one processor.
    Cpu { load_percent: u8, ramp_ms: u32 },
    /// Takes so many bytes and writes to so many of them a second, but leaves `floor` bytes available
    /// on the host.
    Memory { bytes: u64, floor: u64, ramp_ms: u32, touch_rate: Option<u64> },
}

impl Body {
    /// How what is asked for comes up.
    pub(crate) fn rise(&self) -> Rise {
        match *self {
            Body::Cpu { ramp_ms, .. } | Body::Memory { ramp_ms, .. } => Rise { ramp_ms },
        }
    }
}

/// The first line that a burner reads. Each further one is a new end of its life.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Work {
    body: Body,
    until: Time,
}

/// Burners at work. Dropping them kills them.
#[derive(Debug)]
pub(crate) struct Burners {
    children: Vec<(Child, ChildStdin)>,
    until: Time,
    deadline: Time,
    rise: Rise,
    started: Instant,
    /// How long they stood still, all together, and when that was looked at last.
    stood: Duration,
    looked: Instant,
}

impl Burners {
    /// Starts `count` of them, bound to `cores` one after the other where there are any.
    ///
    /// # Errors
    /// One could not be started, or not be bound; then none is left.
    pub(crate) fn start(
        hold: &Hold,
        lease: &Lease,
        body: Body,
        count: u16,
        cores: &[u16],
    ) -> Result<Burners, Failure> {
        let (until, deadline) = (lease.until(), hold.deadline);
        let work = Work { body, until: killed_at(until, deadline) };
        let (rise, started) = (body.rise(), Instant::now());
        let (stood, looked) = (Duration::ZERO, started);
        let children = Vec::new();
        let mut burners = Burners { children, until, deadline, rise, started, stood, looked };
        let mut cores = cores.iter().cycle();
        for _ in 0..count {
            let child = start_one(hold, &work);
            burners.children.push(child.map_err(|e| Failure::System(format!("a burner: {e}")))?);
            if let (Some(core), Some((child, _))) = (cores.next(), burners.children.last()) {
                bind(child.id(), *core)?;
            }
        }
        Ok(burners)
    }

    /// How long they have been at work.
    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// How what they were asked for comes up.
    pub(crate) fn rise(&self) -> Rise {
        self.rise
    }

    /// Bytes that they took and wrote to since this was asked last, all together. No more than they have,
    /// however often they did.
    ///
    /// # Errors
    /// One of them has died, or this kernel does not tell.
    pub(crate) fn touched(&mut self) -> Result<u64, Failure> {
        self.sum(proc::referenced)
    }

    /// Moves the end of their lease, where it is another one.
    ///
    /// # Errors
    /// One of them has died: the fault is no longer what was asked for.
    pub(crate) fn renew(&mut self, until: Time) -> Result<(), Failure> {
        if std::mem::replace(&mut self.until, until) == until {
            return Ok(());
        }
        let until = killed_at(until, self.deadline);
        for (child, stdin) in &mut self.children {
            match lines::write(stdin, &until) {
                Ok(()) => {}
                // It is frozen; its own timer ends it.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(died(child)),
            }
        }
        Ok(())
    }

    /// How long somebody kept them from running, all together, as far as [`Burners::check`] has seen.
    pub(crate) fn stood(&self) -> Duration {
        self.stood
    }

    /// Whether all of them live: what one that has died has used or taken is told no more, or for ever.
    ///
    /// # Errors
    /// One of them has died: the fault is no longer what was asked for.
    pub(crate) fn check(&mut self) -> Result<(), Failure> {
        let since = std::mem::replace(&mut self.looked, Instant::now()).elapsed();
        for (child, _) in &mut self.children {
            if !matches!(child.try_wait(), Ok(None)) {
                return Err(died(child));
            }
            let stat = i32::try_from(child.id()).ok().and_then(|pid| proc::stat(pid).ok());
            if stat.is_some_and(|stat| stat.is_stopped()) {
                self.stood += since;
            }
        }
        Ok(())
    }

    /// Processor time that they have used, all together.
    ///
    /// # Errors
    /// One of them has died.
    pub(crate) fn cpu_time(&mut self) -> Result<Duration, Failure> {
        self.sum(proc::cpu_time)
    }

    /// Bytes that they have taken, all together.
    ///
    /// # Errors
    /// One of them has died.
    pub(crate) fn memory(&mut self) -> Result<u64, Failure> {
        self.sum(proc::own_memory)
    }

    /// Kills them, and does not wait for their end.
    pub(crate) fn kill(&mut self) {
        for (child, _) in &mut self.children {
            // Nothing but its own death can make this fail.
            let _ = child.kill();
        }
    }

    fn sum<T: std::iter::Sum>(&mut self, of: fn(i32) -> io::Result<T>) -> Result<T, Failure> {
        let all = self.children.iter_mut().map(|(child, _)| {
            let pid = i32::try_from(child.id()).unwrap_or(0);
            of(pid).map_err(|_| died(child))
        });
        all.sum()
    }
}

/// Binds a child, which has but one thread, to one processor.
fn bind(child: u32, core: u16) -> Result<(), Failure> {
    let mut set = CpuSet::new();
    set.set(usize::from(core));
    let pid = i32::try_from(child).ok().and_then(rustix::process::Pid::from_raw);
    sched_setaffinity(pid, &set).map_err(|e| {
        let online = std::fs::read_to_string("/sys/devices/system/cpu/online");
        let online = online.map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned());
        let may = "and this process may run on those that its cpuset has";
        Failure::System(format!("core {core}: {e} (online here: {online}, {may})"))
    })
}

fn start_one(hold: &Hold, work: &Work) -> io::Result<(Child, ChildStdin)> {
    let mut child = Command::new("/proc/self/exe")
        .arg0("squall")
        .args(["burn", &std::process::id().to_string(), &residue::word(&hold.id)])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()?;
    let stdin = child.stdin.take();
    let mut stdin = stdin.ok_or_else(|| io::Error::other("it has no stdin"))?;
    // A pipe holds far more than a line; from here on one that does not read must not hold us up.
    lines::never_wait(&stdin)?;
    lines::write(&mut stdin, work)?;
    Ok((child, stdin))
}

fn died(child: &mut Child) -> Failure {
    let how = match child.try_wait() {
        Ok(Some(status)) => status.to_string(),
        Ok(None) | Err(_) => "it does not answer".to_owned(),
    };
    Failure::System(format!("burner {} has ended: {how}", child.id()))
}

impl Drop for Burners {
    fn drop(&mut self) {
        self.kill();
        for (child, _) in &mut self.children {
            let _ = child.wait();
        }
    }
}
