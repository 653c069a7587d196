//! Processes of labs, by number and start time.

use std::collections::BTreeSet;
use std::fs;
use std::io;

use rustix::io::Errno;
use rustix::process::Pid;
use serde::{Deserialize, Serialize};
use squall_faults::sys::pidfd;

use crate::error::{LabError, system};

/// A process that cannot be mistaken for a later one of the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it started, in the kernel's ticks since boot.
    pub start: u64,
}

impl Process {
    /// The process that has this number now.
    pub(crate) fn of(pid: Pid) -> io::Result<Process> {
        let pid = pid.as_raw_nonzero().get();
        Ok(Process { pid, start: start(pid)? })
    }

    /// A handle of it; none where it is gone.
    pub(crate) fn handle(self) -> Result<Option<pidfd::Process>, LabError> {
        let handle = match pidfd::Process::open(self.pid) {
            Ok(handle) => handle,
            Err(error) if error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) => {
                return Ok(None);
            }
            Err(error) => return Err(system(format!("a handle of process {}", self.pid))(error)),
        };
        // Looked at after the handle was taken: from here on the number cannot change hands.
        Ok(start(self.pid).is_ok_and(|start| start == self.start).then_some(handle))
    }
}

/// Field 22 of `/proc/PID/stat`; the second one may hold spaces and brackets.
fn start(pid: i32) -> io::Result<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let after = text.rsplit_once(") ").map(|(_, rest)| rest);
    let field = after.and_then(|rest| rest.split(' ').nth(19)).and_then(|f| f.parse().ok());
    field.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

/// This boot of the machine.
pub(crate) fn boot() -> Result<String, LabError> {
    let path = "/proc/sys/kernel/random/boot_id";
    Ok(fs::read_to_string(path).map_err(system(path))?.trim().to_owned())
}

/// A handle of this process, by which others see its death.
pub(crate) fn own_handle() -> Result<pidfd::Process, LabError> {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    pidfd::Process::open(own).map_err(system("a handle of this process"))
}

/// The children of the switch, in the order in which it made them.
pub(crate) fn children(switch: Pid) -> Result<Vec<Process>, LabError> {
    let parent = switch.as_raw_nonzero().get();
    let mut found = Vec::new();
    for seen in all()?.iter().filter(|seen| seen.parent == parent) {
        found.push((seen.inside, Process::of(seen.pid).map_err(system("/proc"))?));
    }
    found.sort_unstable_by_key(|(inside, _)| *inside);
    Ok(found.into_iter().map(|(_, process)| process).collect())
}

/// The numbers of all processes that have children.
pub(crate) fn parents() -> Result<BTreeSet<i32>, LabError> {
    Ok(all()?.into_iter().map(|seen| seen.parent).collect())
}

/// A process at this moment.
struct Seen {
    pid: Pid,
    parent: i32,
    /// For a child of a switch: its number in the switch's own namespace.
    inside: u32,
}

fn all() -> Result<Vec<Seen>, LabError> {
    let failed = || system("/proc");
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc").map_err(failed())? {
        let name = entry.map_err(failed())?.file_name();
        let pid = name.to_str().and_then(|n| n.parse().ok()).and_then(Pid::from_raw);
        let Some(pid) = pid else { continue };
        // Others' processes end at any time.
        let path = format!("/proc/{}/status", pid.as_raw_nonzero());
        let Ok(status) = fs::read_to_string(path) else { continue };
        let field = |name: &str| status.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
        let parent = field("PPid:").and_then(|n| n.parse().ok()).unwrap_or_default();
        // From this process's namespace inwards: the switch's is the last but one.
        let inside = field("NSpid:").and_then(|n| n.split_whitespace().rev().nth(1));
        let inside = inside.and_then(|n| n.parse().ok()).unwrap_or_default();
        all.push(Seen { pid, parent, inside });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_number_is_another_process() {
        let own = Pid::from_raw(i32::try_from(std::process::id()).unwrap()).unwrap();
        let mut process = Process::of(own).expect("this one");
        assert!(process.handle().expect("asked").is_some());
        process.start += 1;
        assert!(process.handle().expect("asked").is_none());
    }
}
