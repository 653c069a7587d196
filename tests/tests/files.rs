//! What one copies to a fleet can be read by what reads it there.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use squall_core::fault::Kind;
use squall_core::policy::Policy;
use squall_core::registry::HostRecord;
use squall_core::spec::{self, File, Fleet};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lies in the root").to_owned()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

fn fleet() -> Fleet {
    let host = |n: u8| HostRecord {
        name: format!("h{n}").parse().expect("a host name"),
        address: [10, 0, 0, 10 + n].into(),
        also: Vec::new(),
        labels: if n <= 3 {
            BTreeMap::from([("group".into(), "etcd".into())])
        } else {
            BTreeMap::new()
        },
        gossip_port: 1,
        relay_port: 2,
        coordinator: false,
        drained: false,
    };
    let hosts: BTreeMap<_, _> = (1..=5).map(|n| (host(n).name.clone(), host(n))).collect();
    let healthy = hosts.keys().cloned().collect();
    Fleet { hosts, coordinators: vec![[10, 0, 0, 1].into()], healthy }
}

#[test]
fn every_example_resolves_and_there_is_one_for_each_fault() {
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(root().join("cluster/experiments")).unwrap().flatten() {
        let path = entry.path();
        let text = std::fs::read_to_string(&path).unwrap();
        let file: File =
            serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let experiment = spec::resolve(&file, &fleet(), 7)
            .unwrap_or_else(|problems| panic!("{}: {problems:?}", path.display()));
        assert!(!experiment.faults.is_empty() && !experiment.objective.is_empty());
        seen.extend(experiment.faults.iter().map(|p| p.spec.kind()));
        assert!(text.starts_with("# "), "{} says not what it does", path.display());
    }
    for kind in Kind::ALL {
        assert!(seen.contains(&kind), "no example has {kind}");
    }
}

/// Every key of a form: those that it names where it refuses another one.
fn keys<T: DeserializeOwned>() -> BTreeSet<String> {
    let refused = toml::from_str::<T>("no-such-key = 1").err().expect("an unknown key is refused");
    let (_, known) = refused.message().split_once("expected one of ").expect("a list of keys");
    known.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// A file that shows every key, its commented examples as if they were none.
fn shown<T: DeserializeOwned>(path: &str) -> T {
    let example = |line: &str| {
        let key = line.strip_prefix("# ").and_then(|line| line.split_once(" = "));
        key.is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
    };
    let line = |line: &str| if example(line) { line[2..].to_owned() } else { line.to_owned() };
    let text = read(path).lines().map(line).collect::<Vec<_>>().join("\n");
    let table: toml::Table = text.parse().unwrap_or_else(|e| panic!("{path}: {e}"));
    assert_eq!(table.keys().cloned().collect::<BTreeSet<_>>(), keys::<T>(), "{path}");
    toml::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn the_configuration_files_show_every_key_and_are_valid() {
    let agent: squall_agent::Config = shown("cluster/config/agent.toml");
    assert_eq!(agent.coordinators.len(), 3);
    let coordinator: squall_coordinator::Config = shown("cluster/config/coordinator.toml");
    assert_eq!(coordinator.validate(), Ok(()));
    let _: Policy = shown("cluster/config/policy.toml");
    let policy: Policy = toml::from_str(&read("cluster/config/policy.toml")).unwrap();
    assert_eq!(policy, Policy::default(), "the file says that it shows the default");
}

#[test]
fn the_units_start_what_the_configuration_files_are_for() {
    for (unit, config) in [
        ("squall-agent", "agent --config /etc/squall/agent.toml"),
        ("squall-coordinator", "coordinator --config /etc/squall/coordinator/coordinator.toml"),
    ] {
        let text = read(&format!("cluster/systemd/{unit}.service"));
        assert!(text.contains(&format!("ExecStart=/usr/local/bin/squall {config}")), "{unit}");
    }
}

#[test]
fn the_agents_unit_leaves_to_others_what_is_theirs() {
    let text = read("cluster/systemd/squall-agent.service");
    for (line, why) in [
        ("OOMPolicy=continue", "a burner that dies for memory ends no other fault"),
        ("RuntimeDirectoryPreserve=yes", "the socket there may be another process's"),
        ("KillMode=control-group", "every holder goes with the agent"),
    ] {
        assert!(text.lines().any(|l| l == line), "{line}: {why}");
    }
}
