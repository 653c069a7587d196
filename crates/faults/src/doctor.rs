//! What this host can hold, found out by trying.
//!
//! Nothing is changed: rules are shown to the kernel in a batch that is never carried out, and what
//! may be done to processes is done to a child of our own that does nothing.

use std::io;
use std::time::Duration;

use rustix::thread::{CapabilitySet, capabilities};
use squall_core::fault::Kind;
use squall_core::hold::{Capability, Holding};

use crate::proc;
use crate::sys::dummy::Dummy;
use crate::sys::pidfd::Process;
use crate::sys::timer::KillTimer;
use crate::sys::trace::Tracees;
use crate::traffic;

/// How long our own child may take to stop or to die.
const PATIENCE: Duration = Duration::from_millis(500);

/// One row for each fault, by trying what its backend does. Takes some milliseconds.
#[must_use]
pub fn doctor() -> Vec<Capability> {
    let timer = KillTimer::new().err().map(|e| format!("no timer that kills a frozen holder: {e}"));
    let row = |fault| {
        let mut row = one(fault);
        if let Some(why) = &timer
            && row.held == Holding::Held
        {
            row.backend = None;
            row.fallbacks.clear();
            row.reason.clone_from(why);
        }
        row
    };
    Kind::ALL.map(row).to_vec()
}

fn one(fault: Kind) -> Capability {
    let none = String::new;
    match fault {
        Kind::Partition => traffic::capability(fault, None),
        Kind::Loss => traffic::capability(fault, Some(1)),
        Kind::Kill => row(fault, "pidfd_send_signal", Holding::OneShot, kills(), others()),
        Kind::Pause => row(fault, "ptrace of every thread", Holding::Held, pauses(), others()),
        Kind::Cpu => row(fault, "burner processes", Holding::Held, starts(), none()),
        Kind::Memory => {
            let found = starts().and_then(|()| proc::memory_available().map(drop));
            row(fault, "a burner process", Holding::Held, found, none())
        }
    }
}

fn row(
    fault: Kind,
    backend: &str,
    held: Holding,
    found: io::Result<()>,
    limit: String,
) -> Capability {
    let (backend, reason) = match found {
        Ok(()) => (Some(backend.to_owned()), limit),
        Err(error) => (None, format!("{backend}: {error}")),
    };
    Capability { fault, backend, fallbacks: Vec::new(), held, reason }
}

fn starts() -> io::Result<()> {
    Dummy::start().map(drop)
}

fn kills() -> io::Result<()> {
    let child = Dummy::start()?;
    let process = Process::open(child.pid())?;
    process.signal(libc::SIGKILL as u8)?;
    let ms = u64::try_from(PATIENCE.as_millis()).unwrap_or(0);
    match Process::dead([&process], ms)?[..] {
        [true] => Ok(()),
        _ => Err(io::Error::other("our own child does not die")),
    }
}

fn pauses() -> io::Result<()> {
    let child = Dummy::start()?;
    let mut tracees = Tracees::default();
    tracees.seize(child.pid())?;
    let waits = tracees.await_stops(PATIENCE)?;
    if waits.is_some() || proc::stat(child.pid())?.state != 't' {
        return Err(io::Error::other("our own child does not stop"));
    }
    tracees.release();
    match proc::tracer(child.pid())? {
        0 => Ok(()),
        _ => Err(io::Error::other("our own child is not let go")),
    }
}

/// What keeps us from other users' processes, where something does.
fn others() -> String {
    let may = |one| capabilities(None).is_ok_and(|sets| sets.effective.contains(one));
    if may(CapabilitySet::SYS_PTRACE) && may(CapabilitySet::KILL) {
        String::new()
    } else {
        "without root only processes of the same user".to_owned()
    }
}
