//! What is known of a lab: its file, and its processes by number and start time.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use squall_core::ids::HostName;
use squall_faults::sys::pidfd;

use crate::error::{LabError, system};
use crate::process::{Process, boot};

/// The file in a lab's directory.
pub const RECORD_FILE: &str = "lab.json";
/// The same while it is being written.
const RECORD_ASIDE: &str = ".lab.json.new";
/// What the switch says, below a lab's directory.
pub(crate) const LAB_LOG: &str = "lab.log";
/// All that stands in a lab's directory, the first two also where there is no record yet or any more,
/// which goes last.
pub(crate) const ENTRIES: [&str; 5] = [RECORD_ASIDE, LAB_LOG, CLUSTER_DIR, HOSTS_DIR, RECORD_FILE];
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
        let aside = dir.join(RECORD_ASIDE);
        let write = || -> io::Result<()> {
            let mut file = fs::File::create(&aside)?;
            file.write_all(&serde_json::to_vec_pretty(self)?)?;
            file.sync_all()?;
            fs::rename(&aside, &path)
        };
        write().map_err(system(path.display().to_string()))
    }

    /// A handle of the switch; none where the lab's processes are gone.
    ///
    /// # Errors
    /// The kernel's.
    pub fn switch(&self) -> Result<Option<pidfd::Process>, LabError> {
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
    pub fn init(&self, host: &str) -> Result<pidfd::Process, LabError> {
        let Some(found) = self.hosts.iter().find(|h| h.name.as_str() == host) else {
            let others = self.hosts.iter().map(|h| h.name.to_string()).collect();
            let what = format!("host {host} in lab {}", self.name);
            return Err(LabError::Absent { what, others });
        };
        let what = format!("host {host} of lab {}", self.name);
        self.handle(found.init)?.ok_or_else(|| LabError::Down { what, lab: self.name.clone() })
    }

    fn handle(&self, process: Option<Process>) -> Result<Option<pidfd::Process>, LabError> {
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
