//! What a fault could leave behind on this host, and whether it did.
//!
//! What carries the fault's tag is its own, whoever is asked and whatever was there before; so may
//! be a process that is ending and carries none any more. What else has changed is told for
//! information: this host is not ours alone. No fault that exists here
//! touches filters, sysctls, cgroups, mounts, limits or files, so none of them is looked at.

use std::collections::BTreeSet;
use std::io;

use squall_core::ids::FaultId;

use crate::proc::{self, Stat};
use crate::sys::devices;
use crate::sys::nft::Nft;

/// How every process of ours is called; only their command lines are read.
pub(crate) const OUR_NAME: &str = "squall";
/// How those of a fault are: its holder, and what burns for it.
const OF_FAULTS: [&str; 2] = ["squall-hold", "squall-burn"];
/// What the kernel answers where it has no nf_tables. Then no table can be there.
const NO_TABLES: [i32; 3] = [libc::EINVAL, libc::EOPNOTSUPP, libc::EPROTONOSUPPORT];

/// What there is in the calling thread's network namespace and among the processes in `/proc`.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// We are not let near the tables: of this process's faults none can be there, of others' any may.
    unseen: bool,
    /// Family and name.
    tables: BTreeSet<(&'static str, String)>,
    /// One line each.
    network: BTreeSet<String>,
    processes: Vec<Process>,
    /// Processes of faults whose words are gone: the kernel takes their memory back before they are dead,
    /// and nothing tells any more which fault they were of.
    ending: BTreeSet<String>,
    stopped: BTreeSet<String>,
}

/// A process of ours.
#[derive(Clone, Debug)]
struct Process {
    pid: i32,
    words: Vec<String>,
}

impl Snapshot {
    /// Looks at the host.
    ///
    /// # Errors
    /// Part of it could not be read, so that nothing could be proven.
    pub fn take() -> io::Result<Snapshot> {
        let (tables, unseen) = match tables() {
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => (BTreeSet::new(), true),
            tables => (tables?, false),
        };
        let mut snapshot =
            Snapshot { unseen, tables, network: devices::setup()?, ..Self::default() };
        for pid in proc::processes()? {
            let Ok(stat) = proc::stat(pid) else { continue };
            snapshot.add(pid, &stat);
        }
        Ok(snapshot)
    }

    fn add(&mut self, pid: i32, stat: &Stat) {
        if stat.is_stopped() {
            let by = if stat.state == 't' { " by a tracer" } else { "" };
            self.stopped.insert(format!("process {pid} ({}) is stopped{by}", stat.comm));
        }
        if stat.comm.starts_with(OUR_NAME)
            && proc::is_of_our_user(pid)
            && let Ok(words) = proc::words(&format!("/proc/{pid}"))
        {
            self.add_ours(pid, stat, words);
        }
    }

    fn add_ours(&mut self, pid: i32, stat: &Stat, words: Vec<String>) {
        // There is nothing left of a dead process but its number.
        if stat.is_dead() {
            return;
        }
        if !words.is_empty() {
            self.processes.push(Process { pid, words });
        } else if OF_FAULTS.contains(&stat.comm.as_str()) {
            self.ending.insert(format!("process {pid} ({}), which is ending", stat.comm));
        }
    }

    /// What has changed up to `after` beside what carries the tag of the fault `id`, by whomever, one line
    /// each.
    #[must_use]
    pub fn changes(&self, after: &Snapshot, id: &FaultId) -> Vec<String> {
        let tag = id.tag();
        let (before, now) = (self.lines(&tag), after.lines(&tag));
        let gone = before.difference(&now).map(|line| format!("no longer: {line}"));
        let new = now.difference(&before).map(|line| format!("new: {line}"));
        gone.chain(new).collect()
    }

    /// Everything but what carries this tag.
    fn lines(&self, tag: &str) -> BTreeSet<String> {
        let foreign = self.tables.iter().filter(|(_, name)| tag_of(name) != tag);
        let tables = foreign.map(table_line);
        self.network.iter().chain(&self.stopped).cloned().chain(tables).collect()
    }

    /// What carries the tag of the fault `id`, one line each. Taken once its holder is gone; the kernel may
    /// need some milliseconds more to take back what it stood on.
    #[must_use]
    pub fn carrying(&self, id: &FaultId) -> Vec<String> {
        let (tag, word) = (id.tag(), word(id));
        self.listed(|of| of == tag, |process| process.words.contains(&word))
    }

    /// The tables with these tags, these processes, and whatever is ending, one line each.
    fn listed(&self, tag: impl Fn(&str) -> bool, is: impl Fn(&Process) -> bool) -> Vec<String> {
        let tables = self.tables.iter().filter(|(_, name)| tag(tag_of(name))).map(table_line);
        let processes = self.processes.iter().filter(|process| is(process));
        let processes = processes.map(|p| format!("process {} ({})", p.pid, p.words.join(" ")));
        tables.chain(processes).chain(self.ending.iter().cloned()).collect()
    }
}

/// What the command line of each of the fault's processes carries. With the host's name, since hosts
/// of one machine may see each other's processes.
pub(crate) fn word(id: &FaultId) -> String {
    format!("{}@{}", id.tag(), id.host)
}

fn table_line((family, name): &(&'static str, String)) -> String {
    format!("nft table {family} {name}")
}

/// The name, without the letter by which a fault tells two tables of one family apart. Tags end with a
/// hex digit, so that no tag is another one and that letter.
fn tag_of(table: &str) -> &str {
    table.strip_suffix(crate::traffic::OUT_SUFFIX).unwrap_or(table)
}

fn tables() -> io::Result<BTreeSet<(&'static str, String)>> {
    match Nft::open().and_then(|mut nft| nft.tables()) {
        Ok(tables) => Ok(tables.into_iter().collect()),
        Err(error) if error.raw_os_error().is_some_and(|e| NO_TABLES.contains(&e)) => {
            Ok(BTreeSet::new())
        }
        Err(error) => Err(error),
    }
}

/// Whatever there is of any fault, one line each: tables with a tag in the calling thread's network
/// namespace, and holders and burners that live there. Of one that is ending nothing tells where it lived.
///
/// # Errors
/// Part of the host could not be read, so that nothing could be proven.
pub fn of_any_fault() -> io::Result<Vec<String>> {
    let snapshot = Snapshot::take()?;
    if snapshot.unseen {
        return Err(io::Error::from_raw_os_error(libc::EPERM));
    }
    let space = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net"));
    let ours = space("thread-self")?;
    let works = |p: &Process| {
        let role = p.words.get(1).map(String::as_str);
        // One that may not be looked at may live here.
        let here = match space(&p.pid.to_string()) {
            Ok(space) => space == ours,
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        };
        matches!(role, Some("hold" | "burn")) && here
    };
    Ok(snapshot.listed(FaultId::is_a_tag, works))
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall_core::ids::ExperimentId;

    fn snapshot(tables: &[&str], stopped: &[&str]) -> Snapshot {
        Snapshot {
            tables: tables.iter().map(|name| ("inet", (*name).to_owned())).collect(),
            stopped: stopped.iter().map(|line| (*line).to_owned()).collect(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn ours_carries_the_tag_and_nothing_else_is_ours() {
        let experiment = ExperimentId("12345678-9000-0000-0000-000000000000".parse().unwrap());
        let id = FaultId { experiment, fault: 1, host: "h1".parse().unwrap() };
        let tag = id.tag();
        let before = snapshot(&["filter", "old"], &[]);
        let another = FaultId { fault: 16, ..id.clone() };
        let elsewhere = FaultId { host: "h2".parse().unwrap(), ..id.clone() };
        let foreign = another.tag();
        let mut after = snapshot(&["filter", &tag, &format!("{tag}o"), &foreign], &["process 9"]);
        let words = |id: &FaultId| vec!["squall".to_owned(), "burn".to_owned(), word(id)];
        for (pid, id) in [(7, &id), (8, &another), (9, &elsewhere)] {
            after.processes.push(Process { pid, words: words(id) });
        }
        let changes = before.changes(&after, &id);
        let ours = [
            format!("nft table inet {tag}"),
            format!("nft table inet {tag}o"),
            format!("process 7 (squall burn {tag}@h1)"),
        ];
        assert_eq!(after.carrying(&id), ours);
        let others =
            ["no longer: nft table inet old".to_owned(), format!("new: nft table inet {foreign}")];
        assert_eq!(changes[..2], others);
        assert_eq!(changes[2..], ["new: process 9"]);
    }

    #[test]
    fn what_is_ending_may_be_any_faults_and_what_is_dead_is_nobodys() {
        let experiment = ExperimentId("12345678-9000-0000-0000-000000000000".parse().unwrap());
        let id = FaultId { experiment, fault: 1, host: "h1".parse().unwrap() };
        let stat = proc::stat(std::process::id() as i32).unwrap();
        for (comm, state, is_left) in [
            ("squall-burn", 'R', true),
            ("squall-hold", 'D', true),
            ("squall-burn", 'Z', false),
            ("squall-dummy", 'R', false),
        ] {
            let mut after = Snapshot::default();
            after.add_ours(7, &Stat { comm: comm.into(), state, ..stat.clone() }, Vec::new());
            let left = after.carrying(&id);
            assert_eq!(!left.is_empty(), is_left, "{comm} {state}: {left:?}");
        }
    }

    #[test]
    fn a_process_of_another_user_is_none_of_ours_whatever_it_is_called() {
        let dir = tempfile::tempdir().unwrap();
        let is_ours = |uid: Option<u32>| {
            let mut child = crate::processes::tests::of_our_name(dir.path(), uid);
            let pid = child.id() as i32;
            let mut snapshot = Snapshot::default();
            snapshot.add(pid, &proc::stat(pid).unwrap());
            child.kill().unwrap();
            child.wait().unwrap();
            !snapshot.listed(|_| false, |process| process.pid == pid).is_empty()
        };
        assert!(is_ours(None));
        if rustix::process::geteuid().is_root() {
            assert!(!is_ours(Some(65_534)));
        } else {
            eprintln!("SKIPPED in part: only root can be another user");
        }
    }
}
