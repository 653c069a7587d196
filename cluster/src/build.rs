//! Making a lab: this process forks the switch, the switch forks the hosts, each says how it went.
//!
//! Whoever makes a lab holds it: killed at any point before [`Making::commit`], nothing is left but
//! a directory with logs, which the next `up` or `down` of that name clears.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, getegid, geteuid, kill_process, waitpid};
use rustix::thread::{CapabilitySet, capabilities};
use squall_core::ids::HostName;
use squall_faults::sys::namespaces::{Spaces, fork_into};

use crate::down;
use crate::error::{LabError, errno, system};
use crate::place::Claim;
use crate::plan::{Host, Plan};
use crate::process::{Process, boot, children, own_handle, parents};
use crate::record::{HOSTS_DIR, HostRecord, LAB_LOG, Record, State};
use crate::switch;

/// How long the hosts have to be made.
const SETUP: Duration = Duration::from_secs(120);
/// How much the hosts may say about it, in bytes.
const MAX_WORDS: u64 = 256 * 1024;
/// The size of a host's file system for state, in MiB, where [`STATE_VARIABLE`] does not say. It
/// takes memory as it fills; an etcd alone reserves 64.
const STATE_MB: u32 = 256;
/// Chooses the size of each host's file system for state, in MiB, for tests that fill it.
pub const STATE_VARIABLE: &str = "SQUALL_LAB_STATE_MB";
/// One word of this process to the switch: its number is on record, begin.
pub(crate) const RECORDED: u8 = b'r';
/// And another: the lab is complete, live on without this process. The switch repeats it.
pub(crate) const COMMIT: u8 = b'c';

/// A program of ours to be started on a host.
#[derive(Clone, Debug)]
pub struct Start {
    /// The name of its log, without `.log`.
    pub log: String,
    /// Its arguments.
    pub args: Vec<String>,
}

/// Furnishes a host: runs in all of its namespaces, writes its files, and answers what to start.
pub type Furnish<'a> = &'a dyn Fn(&Host) -> Result<Vec<Start>, String>;

/// Everything that the makers of switch and hosts need to know.
pub(crate) struct Site<'a> {
    pub(crate) dir: PathBuf,
    pub(crate) program: PathBuf,
    pub(crate) plan: Plan,
    pub(crate) furnish: Furnish<'a>,
    pub(crate) state_mb: u32,
    /// User and group of this process, where it must make a user namespace.
    pub(crate) rootless: Option<(u32, u32)>,
    pub(crate) log: File,
}

/// What a lab made in a user namespace cannot do, with one user and one group mapped.
pub const ROOTLESS_LACKS: &[&str] = &[
    "cgroups: no limits of processor, memory or disk, no freezer",
    "the clock cannot be set",
    "one user only: no program can change to another one (setuid, chown)",
    "fanotify permission events and FUSE: no faults of open and read",
    "socket buffers stay within net.core.rmem_max and wmem_max",
];

/// A lab that is made, and still dies with this process.
#[derive(Debug)]
pub struct Making {
    claim: Claim,
    record: Record,
    switch: Pid,
    control: UnixStream,
    /// What the hosts lack, for a person.
    pub notes: Vec<String>,
    committed: bool,
}

/// Makes the hosts of a plan under a claimed name. `program` is the binary that becomes their init,
/// is found there as `squall`, and runs what `furnish` says.
///
/// # Errors
/// A lab of that name stands (nothing was touched), or something failed (nothing is left but logs).
pub fn make(
    claim: Claim,
    plan: Plan,
    program: &Path,
    clustered: bool,
    furnish: Furnish<'_>,
) -> Result<Making, LabError> {
    if let Some(record) = Record::load(&claim.dir)?
        && record.state == State::Up
        && record.switch()?.is_some()
    {
        return Err(LabError::Exists(claim.name.clone()));
    }
    down::clear(&claim)?;
    let site = site(&claim, plan, program, furnish)?;
    let record = record(&site, clustered)?;
    record.save(&claim.dir)?;
    for host in &site.plan.hosts {
        let logs = claim.dir.join(HOSTS_DIR).join(host.name.as_str());
        fs::create_dir_all(&logs).map_err(system(logs.display().to_string()))?;
    }
    let (reports, words) = pipe_with(PipeFlags::CLOEXEC).map_err(errno("a pipe"))?;
    let (control, far) = UnixStream::pair().map_err(system("a pair of sockets"))?;
    let parent = own_handle()?;
    let user = if site.rootless.is_some() { Spaces::USER } else { Spaces::empty() };
    let spaces = user | Spaces::NETWORK | Spaces::PROCESS_ID;
    let switch = fork_into(spaces, || switch::run(&site, &parent, &far, &words));
    let switch = switch.map_err(system(format!("new namespaces{}", advice(&site))))?;
    drop(far);
    let mut making = Making { claim, record, switch, control, notes: Vec::new(), committed: false };
    making.begin(reports, words)?;
    Ok(making)
}

fn advice(site: &Site<'_>) -> &'static str {
    if site.rootless.is_some() {
        " (without root this needs user namespaces: sysctl user.max_user_namespaces, and \
         kernel.unprivileged_userns_clone or kernel.apparmor_restrict_unprivileged_userns where \
         there is one)"
    } else {
        ""
    }
}

fn site<'a>(
    claim: &Claim,
    plan: Plan,
    program: &Path,
    furnish: Furnish<'a>,
) -> Result<Site<'a>, LabError> {
    let able = capabilities(None).map_err(errno("capabilities"))?.effective;
    let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN;
    let ids = (geteuid().as_raw(), getegid().as_raw());
    let state_mb = match std::env::var(STATE_VARIABLE) {
        Ok(text) => text.parse().ok().filter(|mb| *mb > 0).ok_or_else(|| {
            LabError::Invalid(format!("{STATE_VARIABLE}={text} is not a number of MiB"))
        })?,
        Err(_) => STATE_MB,
    };
    let path = claim.dir.join(LAB_LOG);
    let log = OpenOptions::new().create(true).append(true).open(&path);
    Ok(Site {
        dir: claim.dir.clone(),
        program: program.to_owned(),
        plan,
        furnish,
        state_mb,
        rootless: (!able.contains(needed)).then_some(ids),
        log: log.map_err(system(path.display().to_string()))?,
    })
}

fn record(site: &Site<'_>, clustered: bool) -> Result<Record, LabError> {
    let host = |h: &Host| HostRecord {
        name: h.name.clone(),
        address: h.address(),
        labels: h.labels.clone(),
        init: None,
    };
    Ok(Record {
        name: site.plan.name.clone(),
        state: State::Making,
        boot: boot()?,
        rootless: site.rootless.is_some(),
        clustered,
        switch: None,
        hosts: site.plan.hosts.iter().map(host).collect(),
    })
}

impl Making {
    /// Puts the switch on record, lets it begin, and waits until every host is made.
    fn begin(&mut self, reports: OwnedFd, words: OwnedFd) -> Result<(), LabError> {
        // The switch's copy is then the last one, and the end of the pipe is its word.
        drop(words);
        self.record.switch = Some(Process::of(self.switch).map_err(system("the switch"))?);
        self.record.save(&self.claim.dir)?;
        self.control.write_all(&[RECORDED]).map_err(system("the switch"))?;
        let text = read_to_end(reports)?;
        let mut errors = Vec::new();
        for line in text.lines() {
            match line.strip_prefix(switch::NOTE) {
                Some(note) if self.notes.iter().any(|n| n == note) => {}
                Some(note) => self.notes.push(note.to_owned()),
                None => errors.push(line.to_owned()),
            }
        }
        if let Some((_, status)) =
            waitpid(Some(self.switch), WaitOptions::NOHANG).map_err(errno("the switch"))?
        {
            errors.push(format!("the switch ended: {status:?}"));
        }
        if !errors.is_empty() {
            return Err(LabError::Failed(errors.join("\n")));
        }
        let inits = children(self.switch)?;
        if inits.len() != self.record.hosts.len() {
            let what = format!("{} of {} hosts live", inits.len(), self.record.hosts.len());
            return Err(LabError::Failed(what));
        }
        for (host, init) in self.record.hosts.iter_mut().zip(inits) {
            host.init = Some(init);
        }
        self.record.save(&self.claim.dir)
    }

    /// The lab's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.claim.dir
    }

    /// What is on record.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// Hosts on which no program runs any more.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn idle(&self) -> Result<Vec<HostName>, LabError> {
        let parents = parents()?;
        let idle = |h: &&HostRecord| h.init.is_none_or(|init| !parents.contains(&init.pid));
        Ok(self.record.hosts.iter().filter(idle).map(|h| h.name.clone()).collect())
    }

    /// Lets the lab stand by itself.
    ///
    /// # Errors
    /// The switch is dead, and the lab with it.
    pub fn commit(mut self) -> Result<Record, LabError> {
        self.record.state = State::Up;
        self.record.save(&self.claim.dir)?;
        let mut word = [0];
        self.control.write_all(&[COMMIT]).map_err(system("the switch"))?;
        self.control.read_exact(&mut word).map_err(system("the switch"))?;
        self.committed = true;
        Ok(self.record.clone())
    }
}

impl Drop for Making {
    /// A lab that was not committed goes, at once and with all that hangs on it.
    fn drop(&mut self) {
        if !self.committed {
            // It is our child and not reaped, unless it ended before: then both fail.
            let _ = kill_process(self.switch, Signal::KILL);
            let _ = waitpid(Some(self.switch), WaitOptions::empty());
        }
    }
}

/// Reads all that the hosts say, within bounds of time and length.
fn read_to_end(reports: OwnedFd) -> Result<String, LabError> {
    let failed = || system("what the hosts say");
    let until = Instant::now() + SETUP;
    let mut reports = File::from(reports).take(MAX_WORDS);
    let mut text = Vec::new();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let limit = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: 0 };
        let mut fds = [PollFd::new(reports.get_ref(), PollFlags::IN)];
        if poll(&mut fds, Some(&limit)).map_err(errno("what the hosts say"))? == 0 {
            let what = format!("the hosts were not made within {} s", SETUP.as_secs());
            return Err(LabError::Failed(what));
        }
        let mut piece = [0; 4096];
        match reports.read(&mut piece).map_err(failed())? {
            0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
            read => text.extend_from_slice(&piece[..read]),
        }
    }
}
