//! A host as the kernel shows it, in lines, so that before and after can be compared.

use std::collections::BTreeMap;
use std::fs;

use crate::fleet::{Fleet, until};

/// Each line of what the tools print, with its section in front. `find` names files with their kind
/// and mode; sizes only where nothing but a fault would write.
const LOOK: &str = r#"
say() { sed "s/^/$1: /"; }
nft list ruleset | say nft
ip -d link | say link
ip addr | say address
{ ip rule; ip -6 rule; } | say rule
{ ip route show table all; ip -6 route show table all; } | say route
tc qdisc | say qdisc
for device in /sys/class/net/*; do
    for parent in "" ingress egress root; do
        tc filter show dev "${device##*/}" $parent 2>&1 | say "filter ${device##*/} $parent"
    done
done
sysctl -a 2>/dev/null | grep -E '^(net|vm)\.|^kernel\.(yama|panic|sched)' | say sysctl
find /etc -xdev -printf '%p %y %m %s %l\n' | say file
find /run /var /dev/shm -xdev -printf '%p %y %m %l\n' | say file
find /sys/fs/cgroup -name '*squall*' | say cgroup
"#;
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
        let said = fleet.on(host, &["sh", "-c", LOOK]).ended(0);
        for line in said.out.lines().filter(|l| !RESTLESS.iter().any(|r| l.starts_with(r))) {
            lines.add(line.trim_end().to_owned());
        }
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

    fn add(&mut self, line: String) {
        *self.0.entry(line).or_default() += 1;
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

/// A process in a line: its name, and what a fault could have done to it.
fn process(path: &std::path::Path) -> Option<String> {
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
