//! Bad input, wrong papers, full disks, noise: each a clear error with the right number, nothing lost,
//! nothing left behind.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;
use squall_cluster::Up;
use squall_core::host::Record;
use squall_core::ids::{ExperimentId, FaultId, LogIndex};
use squall_journal::Journal;
use squall_tests::air::throw;
use squall_tests::fleet::{Fleet, Said, config, until};
use squall_wire::{ClusterAuthority, GossipKey, Role, codec};
use uuid::Uuid;

const HOSTS: [&str; 3] = ["h1", "h2", "h3"];

/// What a person must be told: what happened, what is still true of the hosts, what to do next.
fn clear(said: &Said, words: &[&str]) {
    for word in words {
        assert!(said.err.contains(word), "`{word}` is not said: {said:#?}");
    }
    for word in ["error: ", "\nhosts: ", "\nnext:  "] {
        assert!(said.err.contains(word), "`{}` is missing: {said:#?}", word.trim());
    }
    for word in ["panicked", "Err(", "Some(", "RaftError", "DuplicateKeyPolicy"] {
        assert!(!said.err.contains(word), "`{word}` is no word for a person: {said:#?}");
    }
}

fn nothing_is_left(fleet: &Fleet) {
    for host in HOSTS {
        assert_eq!(fleet.traces(host), [""; 0], "{host}");
    }
}

fn file(targets: &str, fault: &str, rest: &str) -> String {
    format!("name: x\ntargets: {targets}\nfaults:\n  - {fault}\n{rest}\n")
}

fn short(host: &str) -> String {
    file(&format!("{{ hosts: [{host}] }}"), "cpu: { workers: 1, load: 5 }", "duration: 500ms")
}

fn works(fleet: &Fleet) {
    let path = fleet.file("short.yaml", &short("h1")).display().to_string();
    let said = fleet.squall(&["run", &path]).ended(0);
    let words = "blast radius 0.333 of at most 0.3: one host of three or more is always allowed";
    assert!(said.out.contains(words), "{said:#?}");
}

#[test]
fn a_wrong_file_is_refused_where_it_is_wrong() {
    let fleet = Fleet::up(&Up { hosts: 3, coordinators: 1, ..Up::default() });
    let h1 = "{ hosts: [h1] }";
    let cpu = "cpu: { workers: 1, load: 5 }";
    let cases: [(&str, String, &[&str]); 20] = [
        ("malformed", "name: [\n".into(), &["malformed.yaml:1:7: "]),
        ("empty", String::new(), &["empty.yaml:1:1: "]),
        ("list", "- a\n".into(), &["list.yaml:1:1: "]),
        (
            "fault",
            file(h1, "partitoin: {}", "duration: 5s"),
            &["fault.yaml:4:5: unknown fault `partitoin`", "partition, loss"],
        ),
        (
            "key",
            file(h1, cpu, "durration: 5s"),
            &["key.yaml:5:1: unknown field `durration`", "duration"],
        ),
        ("inner", file(h1, "cpu: { wrkers: 1 }", "duration: 5s"), &["inner.yaml:4:12: ", "wrkers"]),
        (
            "twice",
            file(h1, cpu, "duration: 5s\nname: y"),
            &["twice.yaml:6:1: duplicate mapping key: name"],
        ),
        ("zero", file(h1, cpu, "duration: 0s"), &["zero.yaml:5:11: `0s` is zero"]),
        ("negative", file(h1, cpu, "duration: -5s"), &["negative.yaml:5:11: `-5s` is negative"]),
        ("unit", file(h1, cpu, "duration: 5"), &["unit.yaml:5:11: `5` has no unit"]),
        ("long", file(h1, cpu, "duration: 25h"), &["duration: 25h is too long; write at most 24h"]),
        (
            "loss",
            file(h1, "loss: { percent: 150, peers: [h2] }", "duration: 5s"),
            &["loss.yaml:4:22: `150` is more than the whole"],
        ),
        (
            "address",
            file(h1, "partition: { peers: [10.0.0.300] }", "duration: 5s"),
            &["faults[0].partition.peers[0]: `10.0.0.300` is not an address"],
        ),
        (
            "network",
            file(h1, "partition: { peers: [10.0.0.0/33] }", "duration: 5s"),
            &["`10.0.0.0/33` is not an address"],
        ),
        (
            "host",
            file("{ hosts: [h9] }", cpu, "duration: 5s"),
            &["targets.hosts[0]: no host `h9` is registered; known: h1, h2, h3"],
        ),
        (
            "peer",
            file(h1, "partition: { peers: [h9] }", "duration: 5s"),
            &["faults[0].partition.peers[0]: no host `h9`"],
        ),
        (
            "group",
            file("{ group: etcd }", cpu, "duration: 5s"),
            &["targets.group: no host is in a group `etcd`"],
        ),
        ("nobody", file("{}", cpu, "duration: 5s"), &["targets: no host is asked for"]),
        (
            "lease",
            file(h1, cpu, "duration: 5s\nsafety: { lease: 31s }"),
            &["safety.lease: 31s is no lease; write 1s to 30s"],
        ),
        (
            "share",
            file(h1, cpu, "duration: 5s\nsafety: { max-blast-radius: 1.5 }"),
            &["share.yaml:6:29: `1.5` is not a share"],
        ),
    ];
    for (name, text, words) in &cases {
        let path = fleet.file(&format!("{name}.yaml"), text).display().to_string();
        for command in ["run", "plan"] {
            clear(&fleet.squall(&[command, &path]).ended(2), words);
        }
    }
    // No file, and files that are none.
    let noise: Vec<u8> = (0..3_000).map(|n| (n * 7 + 128) as u8).collect();
    let binary = fleet.file("binary.yaml", "");
    std::fs::write(&binary, noise).expect("written");
    let big = fleet.file("big.yaml", &"#".repeat(2 << 20));
    for (path, word) in [
        (PathBuf::from("/nowhere/x.yaml"), "/nowhere/x.yaml: No such file or directory"),
        (PathBuf::from("/tmp"), "/tmp: Is a directory"),
        (binary, "not UTF-8"),
        (big, "longer than 1048576 bytes"),
    ] {
        clear(&fleet.squall(&["run", &path.display().to_string()]).ended(2), &[word]);
    }
    // Things that are not there, and words that are none.
    let nowhere = fleet.squall(&["status", "--cluster", "/nowhere"]).ended(2);
    assert!(nowhere.err.contains("/nowhere/cluster.toml: No such file"), "{nowhere:#?}");
    for (args, word) in [
        (&["show", "1234"][..], "no experiment `1234`"),
        (&["stop", "zz"], "no experiment `zz`"),
        (&["resume", "x"], "`x` is not the id of a stop"),
        (&["nosuch"], "unrecognized subcommand 'nosuch'"),
        (&["run"], "<FILE>"),
        (
            &["inject", "loss", "--percent", "150", "--peers", "10.77.0.2", "--for", "3s"],
            "more than the whole",
        ),
        (&["inject", "loss", "--percent", "5", "--peers", "10.77.0.2"], "--for"),
        (&["inject", "partition", "--peers", "h2", "--for", "3s"], "`h2` is a name"),
        (&["inject", "partition", "--peers", "10.77.0.299", "--for", "3s"], "10.77.0.299"),
        (&["inject", "cpu", "--for", "0s"], "`0s` is zero"),
        (&["inject", "cpu", "--for", "-3s"], "-3"),
        (&["inject", "memory", "--for", "3s"], "--bytes"),
        (&["inject", "kill", "--for", "3s"], "say which processes"),
    ] {
        let said = match args[0] {
            "inject" => fleet.on("h1", &[&["squall"], args].concat()),
            _ => fleet.squall(args),
        };
        let said = said.ended(2);
        assert!(said.err.contains(word), "`{word}` is not said: {said:#?}");
    }
    assert_eq!(fleet.json(&["ls"]), Value::Array(Vec::new()), "nothing was submitted");
    nothing_is_left(&fleet);
    works(&fleet);
}

/// Runs a role once more beside the one that runs, for at most a few seconds.
fn second(fleet: &Fleet, host: &str, role: &str, change: &str) -> Said {
    let changed = fleet.on(host, &["sed", change, config(role)]).ended(0).out;
    std::fs::write(fleet.path(host, "/run/second.toml"), changed).expect("written");
    fleet.on(host, &["timeout", "5", "squall", role, "--config", "/run/second.toml"])
}

#[test]
fn ports_in_use_and_wrong_papers_are_told_and_let_nobody_in() {
    let fleet = Fleet::up(&Up { hosts: 3, coordinators: 1, ..Up::default() });
    // The same place twice, then only the same port.
    let said = second(&fleet, "c1", "coordinator", "").ended(1);
    clear(&said, &["/var/lib/squall-coordinator"]);
    let said =
        second(&fleet, "c1", "coordinator", "s|^state-dir.*|state-dir = \"/var/lib/other\"|")
            .ended(1);
    clear(&said, &["cannot listen: 0.0.0.0:7443", "in use"]);
    let said = second(&fleet, "h1", "agent", "").ended(1);
    clear(&said, &["/var/lib/squall is in use by process"]);
    let other = "1i state-dir = \"/var/lib/other\"\\nrun-dir = \"/run/other\"";
    let said = second(&fleet, "h1", "agent", other).ended(1);
    clear(&said, &["UDP 10.77.0.1:7446", "in use"]);

    // Papers of another role, another host, another cluster.
    let papers = |host: &str, dir: &str, authority: &ClusterAuthority, role, name: &str| {
        let dir = fleet.path(host, dir);
        authority.issue(role, name, 1).expect("issued").save(&dir).expect("saved");
        GossipKey::create().save(&dir).expect("saved");
    };
    let ours = fleet.lab.cluster().expect("a cluster").join("authority");
    let ours = ClusterAuthority::load(&ours).expect("the lab's own");
    papers("h1", "etc/operators", &ours, Role::Operator, "h1");
    papers("h1", "etc/anothers", &ours, Role::Agent, "h2");
    papers("c1", "etc/agents", &ours, Role::Agent, "c1");
    let with = |dir: &str| format!("s|^identity-dir.*|identity-dir = \"{dir}\"|");
    clear(
        &second(&fleet, "h1", "agent", &with("/etc/operators")).ended(1),
        &["operator", "needs one with the role agent"],
    );
    clear(&second(&fleet, "h1", "agent", &with("/etc/anothers")).ended(1), &["`h2`", "`h1`"]);
    clear(&second(&fleet, "h1", "agent", &with("/etc/nowhere")).ended(1), &["/etc/nowhere"]);
    clear(
        &second(&fleet, "c1", "coordinator", &with("/etc/agents")).ended(1),
        &["is for agent c1", "not for coordinator c1"],
    );

    // Another cluster's agent runs, and gets nowhere.
    let theirs = ClusterAuthority::create(fleet.lab.name()).expect("another authority");
    papers("h3", "etc/theirs", &theirs, Role::Agent, "h3");
    let _ = fleet.on("h3", &["sed", "-i", &with("/etc/theirs"), "/etc/squall/agent.toml"]).ended(0);
    assert_eq!(fleet.signal("h3", "agent", "KILL"), 1);
    fleet.await_state("h3", "unconnected");
    fleet.revive("h3", "agent");
    until(20_000, "both sides say so", || {
        let (agent, coordinator) = (fleet.log("h3", "agent"), fleet.log("c1", "coordinator"));
        let refused = |log: &str| log.to_lowercase().contains("certificate");
        (refused(&agent) && refused(&coordinator)).then_some(())
    });
    assert_eq!(fleet.host("h3")["state"], "unconnected");
    let said = fleet.on("h3", &["squall", "inject", "cpu", "--load", "5", "--for", "3s"]).ended(1);
    assert!(said.err.contains("no leader has told this host of stops"), "{said:#?}");

    // Papers of another role, and a stranger's, in an operator's hand.
    let cluster = fleet.lab.cluster().expect("a cluster");
    let role = "refuse this operator\n  c1 (10.77.200.1:7443): refused by 10.77.200.1:7443: the certificate \
                shown is not of the role operator";
    let unknown = "c1 (10.77.200.1:7443): 10.77.200.1:7443 is refused: unknown authority";
    for (who, authority, role, why) in [
        ("agent", &ours, Role::Agent, role),
        ("coordinator", &ours, Role::Coordinator, role),
        ("stranger", &theirs, Role::Operator, unknown),
    ] {
        let dir = cluster.parent().expect("the lab's directory").join(who);
        std::fs::create_dir_all(&dir).expect("a directory");
        std::fs::copy(cluster.join("cluster.toml"), dir.join("cluster.toml")).expect("copied");
        let issued = authority.issue(role, "h1", 1).expect("issued");
        issued.save(&dir.join("operator")).expect("saved");
        let dir = dir.display().to_string();
        for args in [["status"], ["stop-all"]] {
            let said = fleet.squall(&[&args[..], &["--cluster", &dir]].concat()).ended(4);
            clear(&said, &[why]);
        }
        // The lab keeps what is not its own.
        std::fs::remove_dir_all(dir).expect("removed");
    }
    let status = fleet.json(&["status"]);
    assert_eq!(status["cluster"]["armed"], true, "somebody stopped the fleet");
    // A client that does not believe the coordinator either says so first.
    let refused = &status["coordinators"][0]["refused"];
    assert!(refused["protocol"].as_u64() >= Some(2), "h3 and the stranger: {refused:#}");
    assert_eq!(refused["wrong role"], 4, "an agent's and a coordinator's: {refused:#}");
    let said = fleet.squall(&["status"]).ended(0);
    assert!(said.out.contains("c1 refused connections: "), "{said:#?}");
    // With its own papers h3 is one of us again.
    assert_eq!(fleet.signal("h3", "agent", "KILL"), 1);
    let _ = fleet
        .on("h3", &["sed", "-i", &with("/etc/squall/identity"), "/etc/squall/agent.toml"])
        .ended(0);
    fleet.revive("h3", "agent");
    fleet.await_state("h3", "armed");
    nothing_is_left(&fleet);
    works(&fleet);
}

/// Pads a host's journal so that one more fault fits into its last page, and nothing after that: a page
/// that is there takes writes when no new one is to be had, so that a full disk would be felt late.
fn to_the_brim(fleet: &Fleet, host: &str) {
    const PAGE: u64 = 4_096;
    assert_eq!(fleet.signal(host, "agent", "TERM"), 1);
    until(20_000, "the agent has ended", || fleet.pids(host, "agent").is_empty().then_some(()));
    let (mut journal, _) = Journal::open(&fleet.path(host, "/var/lib/squall")).expect("open");
    let id = || {
        let experiment = ExperimentId(Uuid::from_u128(rand::random()));
        FaultId { experiment, fault: 0, host: host.parse().expect("a name") }
    };
    let encoded = |record: Record| codec::encode(&record).expect("encoded");
    let intent = encoded(Record::Intent(id(), LogIndex(9)));
    // Eight bytes of a batch, four of a record; and less than the least that is ever written.
    let one = intent.len() as u64 + 12;
    let wanted = one..one + 24;
    loop {
        let left = PAGE - journal.len_bytes() % PAGE;
        if wanted.contains(&left) {
            break;
        }
        let record =
            if left > 300 { Record::Ended(id(), LogIndex(0)) } else { Record::Floor(LogIndex(0)) };
        journal.append(&[encoded(record)]).expect("there is room");
    }
    drop(journal);
    fleet.revive(host, "agent");
    fleet.await_state(host, "armed");
}

fn fill(fleet: &Fleet, host: &str) {
    for (file, block) in [("of=/var/fill", "bs=1k"), ("of=/var/rest", "bs=1")] {
        let _ = fleet.on(host, &["dd", "if=/dev/zero", file, block]).ended(1);
    }
    let left = fleet.on(host, &["df", "-k", "--output=avail", "/var"]).ended(0).out;
    assert_eq!(left.lines().last().map(str::trim), Some("0"), "{host} is not full");
}

fn free(fleet: &Fleet, host: &str) {
    let _ = fleet.on(host, &["rm", "/var/fill", "/var/rest"]).ended(0);
}

fn receipt(said: &Said, host: &str) -> Value {
    let hosts = said.json()["hosts"].as_array().cloned().unwrap_or_default();
    hosts.into_iter().find(|h| h["host"] == host).unwrap_or_else(|| panic!("no {host}: {said:#?}"))
}

#[test]
fn on_a_full_disk_a_host_begins_nothing_stops_all_the_same_and_says_so() {
    let fleet = Fleet::up(&Up { hosts: 3, coordinators: 1, state_mb: Some(16), ..Up::default() });
    to_the_brim(&fleet, "h1");
    let long = file("{ hosts: [h1] }", "cpu: { workers: 1, load: 5 }", "duration: 10m");
    let held = fleet.start(&long);
    fill(&fleet, "h1");
    let inject = ["squall", "inject", "cpu", "--load", "5", "--for", "1s"];
    let said = fleet.on("h1", &inject).ended(1);
    assert!((said.err.clone() + &said.out).contains("no space left"), "{said:#?}");
    let path = fleet.file("short.yaml", &short("h1")).display().to_string();
    let said = fleet.squall(&["run", "-o", "json", &path]).ended(1);
    let view = said.json();
    assert!(
        view["reasons"].to_string().contains("/var/lib/squall/journal: no space left"),
        "{view:#}"
    );
    assert_eq!(view["targets_affected"], 0, "{view:#}");
    // What is held already stays held, and its measure goes on.
    assert_eq!(fleet.pids("h1", "hold").len(), 1);

    let said = fleet.squall(&["stop-all", "-o", "json"]).ended(5);
    let h1 = receipt(&said, "h1");
    assert_eq!(
        (&h1["lifted"], &h1["residue"], &h1["latched"]),
        (&1.into(), &0.into(), &"memory".into())
    );
    assert!(said.err.contains("h1: latched in memory only"), "{said:#?}");
    assert_eq!(receipt(&said, "h2")["latched"], "durable");
    nothing_is_left(&fleet);
    let first = said.json()["stop"].as_str().expect("an id").to_owned();
    let said = fleet.on("h1", &["squall", "inject", "cpu", "--load", "5", "--for", "1s"]).ended(3);
    assert!(said.err.contains(&first), "{said:#?}");
    let _ = fleet.on("h1", &["squall", "lift"]).ended(0);

    // With room again the same latch becomes durable, by itself.
    free(&fleet, "h1");
    until(30_000, "the latch is durable", || {
        let log = fleet.log("h1", "agent");
        log.lines().any(|l| l.contains(&first) && l.contains("latched=Durable")).then_some(())
    });
    assert_eq!(fleet.signal("h1", "agent", "KILL"), 1);
    back(&fleet, "h1");
    fleet.await_state("h1", "latched");
    let said = fleet.squall(&["stop-all", "-o", "json"]).ended(0);
    let second = said.json()["stop"].as_str().expect("an id").to_owned();
    assert_eq!(fleet.json(&["show", &held])["verdict"], "stopped");

    // An agent that begins on a full disk says which file, and stops things all the same.
    fill(&fleet, "h1");
    assert_eq!(fleet.signal("h1", "agent", "KILL"), 1);
    fleet.await_deaths();
    back(&fleet, "h1");
    let log = fleet.log("h1", "agent");
    let warned =
        |line: &str| line.contains("/var/lib/squall/gossip-run") && line.contains("No space left");
    assert!(log.lines().any(warned), "{log}");
    fleet.await_state("h1", "latched");
    let _ = fleet.on("h1", &["squall", "lift"]).ended(0);
    free(&fleet, "h1");
    fleet.await_state("h1", "latched");
    let _ = fleet.squall(&["resume", &first, &second]).ended(0);
    fleet.await_state("h1", "armed");
    works(&fleet);
    nothing_is_left(&fleet);
}

/// Starts a host's agent again, and waits until it is the new one that the coordinator hears.
fn back(fleet: &Fleet, host: &str) {
    let connected =
        || fleet.log("c1", "coordinator").matches(&format!("agent connected host={host} ")).count();
    let before = connected();
    fleet.revive(host, "agent");
    until(30_000, "it is connected anew", || (connected() > before).then_some(()));
}

/// Drains h3 and takes it back until a coordinator is no more; returns whether the last word that was
/// acknowledged was to drain it.
fn write_until_gone(fleet: &Fleet, coordinator: &str) -> bool {
    let mut drained = false;
    let failed = || fleet.log(coordinator, "coordinator").matches("cannot be written").count();
    let before = failed();
    for _ in 0..200 {
        if fleet.pids(coordinator, "coordinator").is_empty() {
            return drained;
        }
        let args: &[&str] =
            if drained { &["agent", "drain", "h3", "--undo"] } else { &["agent", "drain", "h3"] };
        let _ = fleet.squall(args).ended(0);
        drained = !drained;
        // Whichever write it was that failed, no other one is needed to end it.
        if failed() > before {
            until(10_000, "it ends by itself", || {
                fleet.pids(coordinator, "coordinator").is_empty().then_some(())
            });
            return drained;
        }
    }
    panic!("{coordinator} goes on with a full disk");
}

#[test]
fn a_coordinator_with_a_full_disk_ends_and_nothing_acknowledged_is_lost() {
    let fleet = Fleet::up(&Up { hosts: 3, coordinators: 3, state_mb: Some(16), ..Up::default() });
    let mut done = Vec::new();
    for leads in [false, true] {
        let leader = fleet.json(&["status"])["cluster"]["leader"].as_str().expect("one").to_owned();
        let victim = if leads {
            leader
        } else if leader == "c1" {
            "c2".into()
        } else {
            "c1".into()
        };
        fill(&fleet, &victim);
        let drained = write_until_gone(&fleet, &victim);
        let log = fleet.log(&victim, "coordinator");
        let last: Vec<&str> = log.lines().rev().take(6).collect();
        let last = last.join("\n");
        for word in [
            "error: the coordinator cannot run",
            "/var/lib/squall-coordinator",
            "No space left",
            "hosts: ",
            "next: ",
        ] {
            assert!(last.contains(word), "`{word}` is not in its last words: {last}");
        }
        assert_eq!(
            fleet.host("h3")["state"] == "drained",
            drained,
            "an acknowledged write is lost"
        );
        // The other two go on; a drained host would not count for the radius.
        if drained {
            let _ = fleet.squall(&["agent", "drain", "h3", "--undo"]).ended(0);
        }
        let id =
            fleet.start(&file("{ hosts: [h1] }", "cpu: { workers: 1, load: 5 }", "duration: 1s"));
        let _ = fleet.squall(&["watch", &id]).ended(0);
        done.push(id);
        free(&fleet, &victim);
        fleet.revive(&victim, "coordinator");
        until(30_000, "it is back, with everything", || {
            let status = fleet.json(&["status"]);
            let all = status["coordinators"].as_array()?.clone();
            let applied: Vec<Option<u64>> = all.iter().map(|c| c["applied"].as_u64()).collect();
            (applied.iter().all(|a| *a == applied[0] && *a > Some(0))).then_some(())
        });
    }
    // One is left, and its disk is full: a stop reaches every host, and outlives that coordinator.
    let rest = "duration: 10m\nsafety: { lease: 30s }";
    let _ = fleet.start(&file("{ hosts: [h2] }", "cpu: { workers: 1, load: 5 }", rest));
    for coordinator in ["c1", "c2"] {
        assert_eq!(fleet.signal(coordinator, "coordinator", "KILL"), 1);
    }
    fill(&fleet, "c3");
    let said = fleet.squall(&["stop-all", "-o", "json"]).ended(0);
    assert_eq!(
        (&said.json()["committed"], &receipt(&said, "h2")["lifted"]),
        (&false.into(), &1.into())
    );
    nothing_is_left(&fleet);
    assert_eq!(fleet.signal("c3", "coordinator", "KILL"), 1);
    free(&fleet, "c3");
    for coordinator in ["c1", "c2", "c3"] {
        fleet.revive(coordinator, "coordinator");
    }
    until(30_000, "a quorum", || {
        let said = fleet.squall(&["status", "-o", "json"]);
        (said.code == 0 && said.json()["cluster"]["confirmed"] == true).then_some(())
    });
    for host in HOSTS {
        fleet.await_state(host, "latched");
    }
    let stop = said.json()["stop"].as_str().expect("an id").to_owned();
    let path = fleet.file("short.yaml", &short("h1")).display().to_string();
    clear(&fleet.squall(&["run", &path]).ended(3), &[&stop]);
    // The new leader must have seen every host stopped, which takes it a moment.
    until(20_000, "it is released", || (fleet.squall(&["resume", &stop]).code == 0).then_some(()));
    works(&fleet);
    for id in done {
        assert_eq!(fleet.json(&["show", &id])["verdict"], "held", "an experiment is lost");
    }
}

/// UDP ports that are bound on a host.
fn udp_ports(fleet: &Fleet, host: &str) -> Vec<u16> {
    let table = fleet.on(host, &["cat", "/proc/net/udp", "/proc/net/udp6"]).ended(0).out;
    let local = table.lines().filter_map(|l| l.split_whitespace().nth(1)?.split_once(':'));
    let ports = local.filter_map(|(_, port)| u16::from_str_radix(port, 16).ok());
    let ports: std::collections::BTreeSet<u16> = ports.filter(|p| *p > 0).collect();
    ports.into_iter().collect()
}

#[test]
fn noise_on_every_port_breaks_nothing() {
    let fleet = Fleet::up(&Up { hosts: 3, coordinators: 1, ..Up::default() });
    let id = fleet.start(&file("{ hosts: [h1] }", "cpu: { workers: 1, load: 5 }", "duration: 10m"));
    let mut pids = Vec::new();
    let mut thrown = Vec::new();
    for (host, role) in [("h1", "agent"), ("h2", "agent"), ("c1", "coordinator")] {
        pids.push((host, role, fleet.pids(host, role)));
        let ports = udp_ports(&fleet, host);
        println!("{host}: {ports:?}");
        assert!(ports.len() >= if role == "agent" { 3 } else { 1 }, "{host}: {ports:?}");
        let address = fleet.lab.host(host).expect("a host").address;
        for port in ports {
            // A mebibyte: noise, and noise that begins like QUIC.
            let datagrams: Vec<Vec<u8>> = (0..1_024u32)
                .map(|n| {
                    let mut one: Vec<u8> = (0..1_024).map(|_| rand::random()).collect();
                    if n % 2 == 0 {
                        one[0] = 0xc0 | (one[0] & 0x3f);
                        one[1..5].copy_from_slice(&[0, 0, 0, (n % 4 / 2) as u8]);
                    }
                    one
                })
                .collect();
            let to = SocketAddr::new(address, port);
            thrown.push(throw(&fleet, "h3", to, datagrams, Duration::from_millis(1)));
        }
    }
    thrown.into_iter().for_each(|t| t.join().expect("thrown"));
    for (host, role, before) in pids {
        assert_eq!(fleet.pids(host, role), before, "{host}: the {role} died");
        let log = fleet.log(host, role);
        assert!(!log.contains("panicked"), "{host}: {log}");
        assert!(log.len() < 256 * 1024, "{host}: {} bytes of log for noise", log.len());
    }
    // What was held is held, and all goes on.
    let held = fleet.json(&["show", &id]);
    assert_eq!(held["state"], "holding", "{held:#}");
    let _ = fleet.squall(&["stop", &id]).ended(0);
    works(&fleet);
    nothing_is_left(&fleet);
}
