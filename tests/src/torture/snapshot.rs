//! A host as the kernel shows it, in lines, so that before and after can be compared.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::{fs, io};

use crate::fleet::{Fleet, until};

/// What prints what the kernel holds, and how each line of it begins here.
const TOOLS: [(&str, &[&str]); 9] = [
    ("nft", &["nft", "list", "ruleset"]),
    ("link", &["ip", "-d", "link"]),
    ("address", &["ip", "addr"]),
    ("rule", &["ip", "rule"]),
    ("rule", &["ip", "-6", "rule"]),
    ("route", &["ip", "route", "show", "table", "all"]),
    ("route", &["ip", "-6", "route", "show", "table", "all"]),
    ("qdisc", &["tc", "qdisc"]),
    ("sysctl", &["sysctl", "-a"]),
];
/// Where on a device filters may hang.
const PARENTS: [&[&str]; 4] = [&[], &["ingress"], &["egress"], &["root"]];
/// Settings of the kernel's that count.
const SETTINGS: [&str; 5] = ["net.", "vm.", "kernel.yama", "kernel.panic", "kernel.sched"];
/// Directories whose files count, and whether their sizes do: only where nothing but a fault would write.
const FILES: [(&str, bool); 4] =
    [("/etc", true), ("/run", false), ("/var", false), ("/dev/shm", false)];
const CGROUPS: &str = "/sys/fs/cgroup";
/// Lines that change by themselves: counters that the kernel shows beside its settings, and what the
/// agent writes into files that are there before any fault.
const RESTLESS: [&str; 3] = [
    "sysctl: net.netfilter.nf_conntrack_count",
    "sysctl: vm.stat_refresh",
    "sysctl: net.ipv4.tcp_mem",
];

/// Lines, and how often each is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<String, usize>);

impl Snapshot {
    /// Looks at a host that has just come up, once its addresses are its own.
    ///
    /// # Panics
    /// It cannot be looked at, or its addresses stay tentative.
    #[must_use]
    pub fn first(fleet: &Fleet, host: &str) -> Snapshot {
        let ready = || {
            let taken = Snapshot::take(fleet, host);
            (!taken.0.keys().any(|line| line.contains(" tentative"))).then_some(taken)
        };
        until(10_000, "addresses that are not tentative", ready).0
    }

    /// Looks at a host.
    ///
    /// # Panics
    /// It cannot be looked at.
    #[must_use]
    pub fn take(fleet: &Fleet, host: &str) -> Snapshot {
        let mut lines = Snapshot::default();
        let mut say = |section: &str, argv: &[&str]| {
            for line in fleet.on(host, argv).ended(0).out.lines() {
                if section != "sysctl" || SETTINGS.iter().any(|s| line.starts_with(s)) {
                    lines.add(format!("{section}: {}", line.trim_end()));
                }
            }
        };
        for (section, argv) in TOOLS {
            say(section, argv);
        }
        for device in fs::read_dir(fleet.path(host, "/sys/class/net")).expect("its devices") {
            let device = device.expect("a device").file_name().to_string_lossy().into_owned();
            for parent in PARENTS {
                let filters = [&["tc", "filter", "show", "dev", &device], parent].concat();
                say(&format!("filter {device} {}", parent.concat()), &filters);
            }
        }
        lines.files(fleet, host);
        let init = fleet.init(host);
        let mounts = fs::read_to_string(init.join("mountinfo")).expect("its mounts");
        for mount in mounts.lines() {
            // Without the numbers by which the kernel counts mounts.
            let fields: Vec<&str> = mount.split(' ').skip(3).collect();
            lines.add(format!("mount: {}", fields.join(" ")));
        }
        let processes = fs::read_dir(init.join("root/proc")).expect("its processes");
        for path in processes.flatten().map(|e| e.path()) {
            let number =
                path.file_name().is_some_and(|n| n.to_string_lossy().parse::<i32>().is_ok());
            // One that is gone meanwhile is none.
            if let Some(line) = number.then(|| process(&path)).flatten() {
                lines.add(line);
            }
        }
        lines
    }

    fn files(&mut self, fleet: &Fleet, host: &str) {
        let root = fleet.path(host, "/");
        let inside =
            |path: &Path| path.strip_prefix(&root).expect("below it").display().to_string();
        for (at, sized) in FILES {
            let top = fleet.path(host, at);
            let device = fs::symlink_metadata(&top).expect("a directory").dev();
            walk(&top, Some(device), &mut |path, found| {
                let size = if sized { found.size() } else { 0 };
                let to = found.is_symlink().then(|| there(fs::read_link(path), path)).flatten();
                let to = to.map(|to| format!(" -> {}", to.display())).unwrap_or_default();
                self.add(format!("file: /{} {:o} {size}{to}", inside(path), found.mode()));
            });
        }
        let groups = fleet.path(host, CGROUPS);
        assert!(groups.is_dir(), "{host} has no {CGROUPS}");
        walk(&groups, None, &mut |path, _| {
            if path.file_name().is_some_and(|name| name.to_string_lossy().contains("squall")) {
                self.add(format!("cgroup: /{}", inside(path)));
            }
        });
    }

    fn add(&mut self, line: String) {
        if !RESTLESS.iter().any(|restless| line.starts_with(restless)) {
            *self.0.entry(line).or_default() += 1;
        }
    }

    /// What is there now and was not, and the other way round.
    #[must_use]
    pub fn difference(&self, now: &Snapshot) -> Vec<String> {
        let count = |of: &Snapshot, line: &str| of.0.get(line).copied().unwrap_or(0);
        let new = now.0.iter().filter(|(line, n)| **n > count(self, line));
        let gone = self.0.iter().filter(|(line, n)| **n > count(now, line));
        let new = new.map(|(line, _)| format!("new: {line}"));
        new.chain(gone.map(|(line, _)| format!("gone: {line}"))).collect()
    }
}

/// Shows all that lies at a path and below it, on the same file system where that is named.
fn walk(path: &Path, device: Option<u64>, seen: &mut impl FnMut(&Path, &fs::Metadata)) {
    let Some(found) = there(fs::symlink_metadata(path), path) else { return };
    seen(path, &found);
    if found.is_dir() && device.is_none_or(|device| device == found.dev()) {
        for entry in there(fs::read_dir(path), path).into_iter().flatten() {
            if let Some(entry) = there(entry, path) {
                walk(&entry.path(), device, seen);
            }
        }
    }
}

/// None for what is gone meanwhile.
fn there<T>(asked: io::Result<T>, path: &Path) -> Option<T> {
    match asked {
        Ok(found) => Some(found),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => panic!("{}: {error}", path.display()),
    }
}

/// A process in a line: its name, and what a fault could have done to it.
fn process(path: &Path) -> Option<String> {
    let read = |name: &str| fs::read_to_string(path.join(name)).ok();
    let status = read("status")?;
    let field = |name: &str| {
        let line = status.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    };
    let state = field("State").chars().next()?;
    let command = read("cmdline")?;
    let ours = command.split('\0').nth(1).filter(|_| field("Name").starts_with("squall"));
    let still = if matches!(state, 'T' | 't' | 'Z') { state } else { '-' };
    let limits = read("limits").unwrap_or_default();
    let limits: usize = limits.bytes().map(usize::from).sum();
    let groups = read("cgroup").unwrap_or_default().replace('\n', " ");
    Some(format!(
        "process: {} {} still={still} tracer={} oom={} nice={} limits={limits} {groups}",
        field("Name"),
        ours.unwrap_or_default(),
        field("TracerPid"),
        read("oom_score_adj")?.trim(),
        read("stat")?.rsplit_once(')')?.1.split_ascii_whitespace().nth(16)?,
    ))
}
