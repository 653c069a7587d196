//! What is known of a lab: its file, and its processes by number and start time.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};
use squall_core::ids::HostName;

use crate::error::{LabError, errno, system};

/// The file in a lab's directory.
pub const RECORD_FILE: &str = "lab.json";
/// The directory in a lab's directory that `--cluster` takes.
pub const CLUSTER_DIR: &str = "cluster";
/// The directory in a lab's directory with a directory for each host's logs.
pub const HOSTS_DIR: &str = "hosts";

/// `lab.json`: written before anything is made, and again as things stand.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// The lab's name.
    pub name: HostName,
    /// How far it is.
    pub state: State,
    /// The machine's boot to which the processes belong.
    pub boot: String,
    /// Made without privileges, in a user namespace of its own.
    pub rootless: bool,
    /// Has a cluster's directory: something was started on the hosts.
    pub clustered: bool,
    /// The process on which everything hangs; none before it was made.
    pub switch: Option<Process>,
    /// Its hosts.
    pub hosts: Vec<HostRecord>,
}

/// How far a lab is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It dies with whoever makes it.
    Making,
    /// It stands by itself.
    Up,
}

/// One virtual host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HostRecord {
    /// Its name.
    pub name: HostName,
    /// Its address.
    pub address: IpAddr,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its pid 1, as the machine numbers it; none before it was made.
    pub init: Option<Process>,
}

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
    fn handle(self) -> Result<Option<OwnedFd>, LabError> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(None) };
        let handle = match pidfd_open(pid, PidfdFlags::empty()) {
            Ok(handle) => handle,
            Err(rustix::io::Errno::SRCH) => return Ok(None),
            Err(error) => return Err(errno(format!("a handle of process {}", self.pid))(error)),
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

impl Record {
    /// Reads the file in a lab's directory; none where there is none yet.
    ///
    /// # Errors
    /// It cannot be read, or is not such a file.
    pub fn load(dir: &Path) -> Result<Option<Record>, LabError> {
        let path = dir.join(RECORD_FILE);
        let failed = || system(path.display().to_string());
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| failed()(e.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed()(error)),
        }
    }

    /// Writes the file, whole or not at all.
    pub(crate) fn save(&self, dir: &Path) -> Result<(), LabError> {
        let path = dir.join(RECORD_FILE);
        let aside = dir.join(".lab.json.new");
        let write = || -> io::Result<()> {
            fs::write(&aside, serde_json::to_vec_pretty(self)?)?;
            fs::rename(&aside, &path)
        };
        write().map_err(system(path.display().to_string()))
    }

    /// A handle of the switch; none where the lab's processes are gone.
    ///
    /// # Errors
    /// The kernel's.
    pub fn switch(&self) -> Result<Option<OwnedFd>, LabError> {
        self.handle(self.switch)
    }

    /// How the lab stands, in one word: `up`, `making`, or `down` where its processes are gone.
    ///
    /// # Errors
    /// The kernel's.
    pub fn standing(&self) -> Result<&'static str, LabError> {
        Ok(match (self.switch()?, self.state) {
            (None, _) => "down",
            (Some(_), State::Making) => "making",
            (Some(_), State::Up) => "up",
        })
    }

    /// A handle of a host's init.
    ///
    /// # Errors
    /// There is no such host, or its processes are gone.
    pub fn init(&self, host: &str) -> Result<OwnedFd, LabError> {
        let Some(found) = self.hosts.iter().find(|h| h.name.as_str() == host) else {
            let others = self.hosts.iter().map(|h| h.name.to_string()).collect();
            let what = format!("host {host} in lab {}", self.name);
            return Err(LabError::Absent { what, others });
        };
        let down = || LabError::Down(format!("host {host} of lab {}", self.name));
        self.handle(found.init)?.ok_or_else(down)
    }

    fn handle(&self, process: Option<Process>) -> Result<Option<OwnedFd>, LabError> {
        match process {
            Some(process) if self.boot == boot()? => process.handle(),
            Some(_) | None => Ok(None),
        }
    }

    /// What a person is shown.
    #[must_use]
    pub fn view(&self, dir: &Path) -> LabView {
        let host = |h: &HostRecord| HostView {
            name: h.name.to_string(),
            address: h.address,
            labels: h.labels.clone(),
            pid: h.init.map(|p| p.pid),
        };
        LabView {
            name: self.name.to_string(),
            cluster: self.clustered.then(|| dir.join(CLUSTER_DIR)),
            hosts: self.hosts.iter().map(host).collect(),
        }
    }
}

/// A lab, as `lab up -o json` prints it and `lab ls -o json` lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabView {
    /// Its name.
    pub name: String,
    /// What `--cluster` takes; none where nothing was started on the hosts.
    pub cluster: Option<PathBuf>,
    /// Its hosts.
    pub hosts: Vec<HostView>,
}

/// A virtual host in [`LabView`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostView {
    /// Its name.
    pub name: String,
    /// The address by which others reach it.
    pub address: IpAddr,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its pid 1, as the machine numbers it.
    pub pid: Option<i32>,
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
