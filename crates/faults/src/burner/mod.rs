//! Children of a holder that burn what the host has: processor time, or memory.
//!
//! They are this same program. The kernel kills them when the holder dies, they exit when their pipe
//! ends, and each has a timer of its own for the end of the lease (and half a second, where that is the deadline, in which
//! the holder measures them last), so that even stopped ones go.

mod child;
mod cpu;
mod memory;

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use serde::{Deserialize, Serialize};
use squall_core::hold::{Failure, Hold};
use squall_core::time::Time;

use crate::holder::{Lease, killed_at};
use crate::{proc, residue};

pub use child::burn_main;

/// What a burner does.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) enum Body {
    /// Uses so many percent of one processor.
    Cpu { load_percent: u8 },
    /// Takes so many bytes and keeps them in use, but leaves `floor` bytes available on the host.
    Memory { bytes: u64, floor: u64 },
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
}

impl Burners {
    /// Starts `count` of them.
    ///
    /// # Errors
    /// One could not be started; then none is left.
    pub(crate) fn start(
        hold: &Hold,
        lease: &Lease,
        body: Body,
        count: u16,
    ) -> Result<Burners, Failure> {
        let (until, deadline) = (lease.until(), hold.deadline);
        let work = Work { body, until: killed_at(until, deadline) };
        let mut burners = Burners { children: Vec::new(), until, deadline };
        for _ in 0..count {
            let child = start_one(hold, &work);
            burners.children.push(child.map_err(|e| Failure::System(format!("a burner: {e}")))?);
        }
        Ok(burners)
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
            match write_line(stdin, &until) {
                Ok(()) => {}
                // It is frozen; its own timer ends it.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Err(died(child)),
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
    fcntl_setfl(&stdin, fcntl_getfl(&stdin)? | OFlags::NONBLOCK)?;
    write_line(&mut stdin, work)?;
    Ok((child, stdin))
}

fn write_line(stdin: &mut ChildStdin, value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    stdin.write_all(&line)
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
