//! Files as people write them, against a small fleet.

mod refusals;
mod text;

use std::collections::BTreeSet;

use super::*;
use crate::experiment::{Experiment, Placement};
use crate::fault::{
    Amount, Cpu, Direction, Fault, Kill, Loss, Memory, Partition, Ports, Processes, Protocol,
    Traffic,
};
use crate::ids::HostName;
use crate::probe::{Expect, ProbeKind, ProbeSpec, Vantage};
use crate::registry::HostRecord;

fn host(name: &str) -> HostName {
    name.parse().unwrap()
}

/// h1-h5 in the group `etcd`, zones a and b; w1, w2 in `web` with IPv6; c1 with a coordinator; d1
/// drained; s1 silent.
fn fleet() -> Fleet {
    let mut fleet = Fleet {
        coordinators: vec!["10.0.1.1".parse().unwrap(), "10.0.1.2".parse().unwrap()],
        ..Fleet::default()
    };
    let mut add = |name: &str, address: &str, labels: &[(&str, &str)]| {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let record = HostRecord {
            name: host(name),
            address: address.parse().unwrap(),
            also: Vec::new(),
            labels,
            gossip_port: 1,
            relay_port: 2,
            coordinator: name == "c1",
            drained: name == "d1",
        };
        fleet.hosts.insert(host(name), record);
        if name != "s1" {
            fleet.healthy.insert(host(name));
        }
    };
    for (i, zone) in ["a", "a", "b", "b", "b"].into_iter().enumerate() {
        let i = i + 1;
        add(&format!("h{i}"), &format!("10.0.0.{i}"), &[("group", "etcd"), ("zone", zone)]);
    }
    add("w1", "fd00::1", &[("group", "web")]);
    add("w2", "fd00::2", &[("group", "web")]);
    add("c1", "10.0.1.1", &[("group", "control")]);
    add("d1", "10.0.2.1", &[("group", "etcd"), ("zone", "c")]);
    add("s1", "10.0.2.2", &[]);
    fleet
}

fn parse(yaml: &str) -> File {
    serde_saphyr::from_str(yaml).unwrap_or_else(|e| panic!("{yaml}\n{e}"))
}

/// A file with these lines instead of, or besides, the plainest ones.
fn file(lines: &str) -> File {
    let mut yaml = lines.to_owned();
    for (key, line) in [
        ("name", "name: test"),
        ("targets", "targets: {hosts: h1}"),
        ("faults", "faults: [{cpu: {}}]"),
        ("duration", "duration: 30s"),
    ] {
        if !lines.lines().any(|l| l.starts_with(&format!("{key}:"))) {
            yaml.push('\n');
            yaml.push_str(line);
        }
    }
    parse(&yaml)
}

fn resolved(lines: &str) -> Experiment {
    resolve(&file(lines), &fleet(), 7).unwrap_or_else(|problems| panic!("{lines}\n{problems:?}"))
}

fn problems(lines: &str) -> Vec<String> {
    let problems = resolve(&file(lines), &fleet(), 7).expect_err(lines);
    problems.iter().map(ToString::to_string).collect()
}

fn nets(addresses: &[&str]) -> Vec<ipnet::IpNet> {
    addresses.iter().map(|a| a.parse::<std::net::IpAddr>().unwrap().into()).collect()
}

fn to_all(peers: Vec<ipnet::IpNet>) -> Traffic {
    Traffic { peers, direction: Direction::Both, ports: Vec::new(), protocol: None }
}

/// Who holds what, as `h1: 10.0.0.2 10.0.0.3`, of partitions.
fn holds(experiment: &Experiment) -> Vec<String> {
    let line = |p: &Placement| {
        let peers = p.spec.traffic().expect("a network fault").peers.iter();
        let peers: Vec<String> = peers.map(|n| n.addr().to_string()).collect();
        format!("{}: {}", p.host, peers.join(" "))
    };
    experiment.faults.iter().map(line).collect()
}

#[test]
fn the_example_of_the_design_means_what_it_says() {
    let file = parse(
        r#"
name: cut-the-leader
objective: writes go on while one member is cut off
targets: { group: etcd, count: 1 }
faults:
  - partition: { peers: { group: etcd }, direction: both }
  - loss: { percent: 5, peers: [h2] }
duration: 30s
steady-state:
  - { name: health, http: { url: "http://h2:2379/health" }, every: 200ms, expect: { status: 200, error-rate: "< 1%", p99: "< 250ms" } }
safety: { max-blast-radius: 0.34, auto-rollback: true, lease: 5s }
"#,
    );
    // Whoever is drawn, it is never h2, which would lose packets of its own.
    let drawn = |seed| resolve(&file, &fleet(), seed).expect("whatever the seed").targets();
    let all: BTreeSet<HostName> = (0..100).flat_map(drawn).collect();
    assert_eq!(all, ["h1", "h3", "h4", "h5"].into_iter().map(host).collect());
    let seed = (0..100).find(|seed| drawn(*seed).contains(&host("h1")));
    let experiment = resolve(&file, &fleet(), seed.unwrap()).unwrap();
    assert_eq!(
        (experiment.duration_ms, experiment.baseline_ms, experiment.recovery_ms),
        (30_000, 5_000, 10_000)
    );
    assert_eq!(experiment.safety.max_radius_ppm, 340_000);
    assert!(experiment.safety.auto_rollback && !experiment.safety.continue_on_loss);
    let partition = Partition {
        traffic: to_all(nets(&["10.0.2.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"])),
        severed: Vec::new(),
    };
    let loss = Loss { traffic: to_all(nets(&["10.0.0.2"])), per_million: 50_000 };
    assert_eq!(
        experiment.faults,
        [
            Placement { host: host("h1"), fault: 0, spec: Fault::Partition(partition) },
            Placement { host: host("h1"), fault: 1, spec: Fault::Loss(loss) },
        ]
    );
    let touched: BTreeSet<_> = ["h2", "h3", "h4", "h5", "d1"].into_iter().map(host).collect();
    assert_eq!(experiment.touched, touched);
    assert_eq!(
        experiment.probes,
        [ProbeSpec {
            name: "health".into(),
            from: Vantage::Host(host("c1")),
            kind: ProbeKind::Http { url: "http://10.0.0.2:2379/health".into(), status: 200 },
            every_ms: 200,
            timeout_ms: 2_000,
            expect: Expect {
                max_errors_per_million: 9_999,
                max_p99_us: Some(249_999),
                max_p50_us: None
            },
        }]
    );
}

#[test]
fn chance_follows_the_seed_and_never_picks_who_is_not_to_be_picked() {
    let mut seen = BTreeSet::new();
    for (text, count) in [
        ("{count: 2}", 2),
        ("{percent: 34}", 2),
        ("{percent: 1}", 1),
        ("{percent: 100}", 7),
        ("{all: true}", 7),
    ] {
        let file = file(&format!("targets: {text}"));
        for seed in 0..200 {
            let targets = resolve(&file, &fleet(), seed).unwrap().targets();
            assert_eq!(targets, resolve(&file, &fleet(), seed).unwrap().targets());
            assert_eq!(targets.len(), count, "{text}");
            seen.extend(targets);
        }
    }
    let seen: Vec<&str> = seen.iter().map(HostName::as_str).collect();
    assert_eq!(seen, ["h1", "h2", "h3", "h4", "h5", "w1", "w2"]);
}

#[test]
fn a_probe_is_run_by_another_host_than_it_asks() {
    for (kind, from) in [
        ("http: {url: 'http://h3:80/health'}", "h4"),
        ("http: {url: 'http://10.0.0.3'}", "h4"),
        ("tcp: {address: 'h3:80'}", "h4"),
        ("tcp: {address: 'h4:80'}", "h3"),
        ("tcp: {address: 'example.org:80'}", "h3"),
    ] {
        let resolved = resolved(&format!(
            "targets: {{hosts: h1}}\nfaults: [{{partition: {{peers: [h2, c1]}}}}]\n\
             steady-state: [{{name: p, {kind}}}]"
        ));
        assert_eq!(resolved.probes[0].from, Vantage::Host(host(from)), "{kind}");
    }
}

#[test]
fn what_would_meet_a_host_that_nobody_named_is_refused() {
    let mut twins = fleet();
    twins.hosts.get_mut(&host("h3")).unwrap().address = "10.0.0.2".parse().unwrap();
    let lines = "targets: {hosts: h1}\nfaults: [{partition: {peers: [h2]}}]";
    let problems = resolve(&file(lines), &twins, 7).expect_err("h3 is there too");
    let told = problems[0].to_string();
    assert!(told.contains("peers: `h2` and `h3` are both registered at 10.0.0.2"), "{told}");
    // Whoever names the address, or both, means both.
    for peers in ["[10.0.0.2]", "[h2, h3]"] {
        let lines = lines.replace("[h2]", peers);
        let touched = resolve(&file(&lines), &twins, 7).expect(&lines).touched;
        assert_eq!(touched.into_iter().collect::<Vec<_>>(), [host("h2"), host("h3")], "{peers}");
    }
    let mut triplets = twins.clone();
    triplets.hosts.get_mut(&host("h4")).unwrap().address = "10.0.0.2".parse().unwrap();
    let both = lines.replace("[h2]", "[h2, h3]");
    assert!(resolve(&file(&both), &triplets, 7).is_err(), "h4 is there too");
    // One that is gone, whose addresses another one has now, all of them.
    let further: std::net::IpAddr = "fd09::2".parse().unwrap();
    for name in ["h2", "h3"] {
        twins.hosts.get_mut(&host(name)).unwrap().also = vec![further];
    }
    twins.hosts.get_mut(&host("h3")).unwrap().drained = true;
    let twins = Fleet::new(twins.hosts, twins.coordinators, twins.healthy);
    let resolved = resolve(&file(lines), &twins, 7).expect("it is gone");
    let cut = resolved.faults[0].spec.traffic().unwrap();
    assert_eq!(cut.peers, nets(&["10.0.0.2", "fd09::2"]));
}

#[test]
fn targets_are_found_by_name_group_and_label() {
    for (text, expected) in [
        ("{hosts: [h2, h1, h2]}", "h1 h2"),
        ("{hosts: c1}", "c1"),
        ("{group: etcd}", "h1 h2 h3 h4 h5"),
        ("{group: control}", "c1"),
        ("{labels: {zone: b}}", "h3 h4 h5"),
        ("{group: etcd, labels: {zone: a}}", "h1 h2"),
    ] {
        let targets = resolved(&format!("targets: {text}")).targets();
        let names: Vec<&str> = targets.iter().map(HostName::as_str).collect();
        assert_eq!(names.join(" "), expected, "{text}");
    }
}

#[test]
fn hosts_where_a_coordinator_lives_are_told_apart_from_those_that_are_away() {
    let mut shared = fleet();
    for name in ["h1", "h2"] {
        shared.hosts.get_mut(&host(name)).unwrap().coordinator = true;
    }
    let told = |fleet: &Fleet, lines: &str| {
        let problems = resolve(&file(lines), fleet, 7).expect_err(lines);
        problems.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let never = "in service, but a coordinator lives on";
    for (text, expected) in [
        (
            "{group: control, count: 1}",
            format!(
                "targets: c1 matches {never} it, and such hosts are never drawn; name those that are \
                 meant, without `count`: hosts: [c1]"
            ),
        ),
        (
            "{labels: {zone: a}, percent: 50}",
            format!(
                "targets: h1, h2 match {never} each, and such hosts are never drawn; name those that \
                 are meant, without `percent`: hosts: [h1]"
            ),
        ),
        (
            "{group: etcd, count: 4}",
            "targets.count: 4 hosts are asked for and 3 match in service, without those where a \
             coordinator lives: h1, h2; write at most 3"
                .to_owned(),
        ),
    ] {
        assert_eq!(told(&shared, &format!("targets: {text}")), [expected], "{text}");
    }
    shared.hosts.retain(|_, h| h.coordinator);
    shared.healthy.retain(|name| shared.hosts.contains_key(name));
    let all = told(&shared, "targets: {all: true}");
    assert!(all[0].ends_with("without `all`: hosts: [c1]"), "{all:?}");
    let named = file("targets: {hosts: [h1]}");
    assert_eq!(resolve(&named, &shared, 7).unwrap().targets(), [host("h1")].into());
}

#[test]
fn a_share_that_is_written_as_percent_is_refused() {
    let said = problems("targets: {percent: 0.34}");
    let meant = "0.34% of the hosts are less than 1%; for 34% write 34, for one host count: 1";
    assert_eq!(said, [format!("targets.percent: {meant}")]);
}

#[test]
fn shapes_are_held_by_the_smaller_part_of_the_targets() {
    let cut = |rest: &str| {
        holds(&resolved(&format!("targets: {{group: etcd}}\nfaults: [{{partition: {{{rest}}}}}]")))
    };
    assert_eq!(
        cut("shape: halves"),
        ["h1: 10.0.0.3 10.0.0.4 10.0.0.5", "h2: 10.0.0.3 10.0.0.4 10.0.0.5"]
    );
    assert_eq!(cut("shape: bridge"), ["h1: 10.0.0.4 10.0.0.5", "h2: 10.0.0.4 10.0.0.5"]);
    assert_eq!(
        cut("shape: ring"),
        ["h1: 10.0.0.3 10.0.0.4", "h2: 10.0.0.4 10.0.0.5", "h3: 10.0.0.5"]
    );
    assert_eq!(cut("shape: minority-third"), ["h1: 10.0.0.2 10.0.0.3 10.0.0.4 10.0.0.5"]);
    assert_eq!(cut("shape: {groups: [[h5], [h1, h2]]}"), ["h5: 10.0.0.1 10.0.0.2"]);
    assert_eq!(cut("shape: random"), cut("shape: random"));
    let halves = resolved("targets: {group: etcd}\nfaults: [{partition: {shape: halves}}]");
    assert_eq!(halves.targets().len(), 2, "the other half counts in no radius");
    let touched: Vec<&str> = halves.touched.iter().map(HostName::as_str).collect();
    assert_eq!(touched, ["h3", "h4", "h5"]);
}

#[test]
fn isolation_and_simplex_cut_each_target_from_the_rest() {
    let one = resolved(
        "targets: {hosts: w1}\nfaults: [{partition: {shape: isolate, peers: {group: etcd, labels: {zone: a}}}}]",
    );
    assert_eq!(holds(&one), ["w1: 10.0.0.1 10.0.0.2"]);
    let all = resolved("faults: [{partition: {shape: isolate}}]");
    assert_eq!(all.faults[0].spec.traffic().unwrap().peers.len(), fleet().hosts.len() - 1);
    for (text, direction) in [
        ("shape: simplex", Direction::In),
        ("shape: simplex, direction: out", Direction::Out),
        ("shape: isolate, direction: in", Direction::In),
        ("shape: isolate", Direction::Both),
        ("peers: all, direction: out", Direction::Out),
    ] {
        let experiment = resolved(&format!("faults: [{{partition: {{{text}}}}}]"));
        assert_eq!(experiment.faults[0].spec.traffic().unwrap().direction, direction, "{text}");
    }
}

#[test]
fn two_targets_of_a_simplex_are_cut_one_way_too() {
    let among =
        "targets: {hosts: [h1, h2]}\nfaults: [{partition: {shape: simplex, peers: [h1, h2, h3]}}]";
    assert_eq!(holds(&resolved(among)), ["h1: 10.0.0.2 10.0.0.3", "h2: 10.0.0.3"]);
    let pair =
        "targets: {hosts: [h1, h2]}\nfaults: [{partition: {shape: simplex, peers: [h1, h2]}}]";
    assert_eq!(holds(&resolved(pair)), ["h1: 10.0.0.2"]);
    let addresses = pair.replace("[h1, h2]}}]", "[10.0.0.1, 10.0.0.2]}}]");
    assert_eq!(holds(&resolved(&addresses)), ["h1: 10.0.0.2"]);
}

#[test]
fn parameters_arrive_as_they_were_written() {
    let experiment = resolved(
        "faults:
  - partition: {peers: [10.0.0.7/24, 'fd00::9', h2, 10.0.9.9], ports: [443, 8000-9000, 443], protocol: tcp, control: severed}
  - kill: {name: nginx, count: 2, signal: TERM, interval: 1.5s, exclude: nginx-debug}
  - cpu: {workers: 2, load: 50%}
  - cpu: {cores: [2-3, 0, 3], ramp: 1.5s}
  - memory: {percent: 40}
  - memory: {bytes: 64MiB, ramp: 5s, touch-rate: 1.5 MiB / s}
  - pause: {port: 80}",
    );
    let peers = ["10.0.0.2/32", "10.0.0.0/24", "fd00::9/128", "10.0.9.9/32"];
    let partition = Partition {
        traffic: Traffic {
            peers: peers.iter().map(|p| p.parse().unwrap()).collect(),
            direction: Direction::Both,
            ports: vec![Ports { from: 443, to: 443 }, Ports { from: 8000, to: 9000 }],
            protocol: Some(Protocol::Tcp),
        },
        severed: nets(&["10.0.1.1", "10.0.1.2"]),
    };
    let kill = Kill {
        processes: Processes {
            name: Some("nginx".into()),
            exclude: vec!["nginx-debug".into()],
            ..Processes::default()
        },
        amount: Amount::Count(2),
        signal: 15,
        interval_ms: Some(1_500),
    };
    let expected = [
        Fault::Partition(partition),
        Fault::Kill(kill),
        Fault::Cpu(Cpu::new(Some(2), 50)),
        Fault::Cpu(Cpu { cores: vec![0, 2, 3], ramp_ms: 1_500, ..Cpu::new(None, 100) }),
        Fault::Memory(Memory::percent(40)),
        Fault::Memory(Memory {
            ramp_ms: 5_000,
            touch_rate: Some(3 << 19),
            ..Memory::bytes(64 << 20)
        }),
    ];
    for (placement, fault) in experiment.faults.iter().zip(&expected) {
        assert_eq!(placement.spec, *fault);
    }
    // The network covers the other hosts of the fleet too.
    let touched: Vec<&str> = experiment.touched.iter().map(HostName::as_str).collect();
    assert_eq!(touched, ["h2", "h3", "h4", "h5"]);
}

#[test]
fn several_may_stand_in_one_text_by_commas() {
    let lists = resolved(
        "targets: {hosts: [h1, h2]}
faults:
  - partition: {peers: [h3, h4], ports: [2379, 2380, 8000-9000], protocol: tcp}
  - kill: {name: x, exclude: ['a,b', a, b]}
  - cpu: {cores: [0, 2-3]}",
    );
    let texts = resolved(
        "targets: {hosts: 'h1, h2'}
faults:
  - partition: {peers: 'h3,h4', ports: '2379, 2380,8000-9000', protocol: TCP}
  - kill: {name: x, exclude: 'a,b'}
  - cpu: {cores: '0,2-3'}",
    );
    assert_eq!(texts, lists);
    assert_eq!(
        resolved("faults: [{partition: {peers: h3, ports: 2379}}]"),
        resolved("faults: [{partition: {peers: [h3], ports: [2379]}}]"),
    );
}

#[test]
fn probes_reach_registered_hosts_by_address() {
    for (url, expected) in [
        ("http://h2:2379/health?x=1", "http://10.0.0.2:2379/health?x=1"),
        ("http://h2", "http://10.0.0.2"),
        ("http://w1:80/", "http://[fd00::1]:80/"),
        ("http://[fd00::7]:80/", "http://[fd00::7]:80/"),
        ("http://example.org/h2", "http://example.org/h2"),
        ("http://10.9.9.9:1/", "http://10.9.9.9:1/"),
    ] {
        let experiment = resolved(&format!("steady-state: [{{name: p, http: {{url: '{url}'}}}}]"));
        let ProbeKind::Http { url, status: 200 } = &experiment.probes[0].kind else { panic!() };
        assert_eq!(url, expected);
    }
    let experiment =
        resolved("steady-state: [{name: p, tcp: {address: 'w2:80'}, from: h3}]\nbaseline: 2s");
    assert_eq!(experiment.probes[0].kind, ProbeKind::Tcp { address: "[fd00::2]:80".into() });
    assert_eq!(experiment.probes[0].from, Vantage::Host(host("h3")));
    assert_eq!(experiment.baseline_ms, 2_000);
    for exec in ["[/bin/check, -q]", "{argv: [/bin/check, -q]}"] {
        let experiment = resolved(&format!("steady-state: [{{name: p, exec: {exec}}}]"));
        let argv = vec!["/bin/check".into(), "-q".into()];
        assert_eq!(experiment.probes[0].kind, ProbeKind::Exec { argv });
    }
}

#[test]
fn a_probe_runs_where_no_fault_reaches_or_at_least_none_is_held() {
    let from = |targets: &str, fleet: &Fleet| {
        let file = file(&format!("targets: {targets}\nsteady-state: [{{name: p, exec: [x]}}]"));
        resolve(&file, fleet, 7).unwrap().probes[0].from.to_string()
    };
    let cut = |peers: &str, fleet: &Fleet| {
        let fault = format!("faults: [{{partition: {{peers: {peers}}}}}]");
        from(&format!("{{hosts: h1}}\n{fault}"), fleet)
    };
    let mut small = fleet();
    small.hosts.retain(|name, _| name.as_str().starts_with('h'));
    assert_eq!(from("{hosts: h1}", &small), "h2");
    assert_eq!(from("{hosts: [h1, h2, h4]}", &small), "h3");
    assert_eq!(from("{all: true}", &small), "h1", "every host is a target");
    assert_eq!(cut("[h2, h3]", &small), "h4", "the cut is felt on h2 and h3 too");
    assert_eq!(cut("all", &small), "h2", "it is felt everywhere");
    small.hosts.get_mut(&host("h2")).unwrap().drained = true;
    small.healthy.remove(&host("h3"));
    assert_eq!(from("{hosts: h1}", &small), "h4", "h2 is drained, h3 silent");
    let mut small = fleet();
    small.hosts.retain(|name, _| name.as_str().starts_with('h'));
    // Half of the targets hold a shape: the probe goes to the other half.
    let halves = "targets: {group: etcd}\nfaults: [{partition: {shape: halves}}]\nsteady-state: [{name: p, exec: [x]}]";
    let from = resolve(&file(halves), &small, 7).unwrap().probes.remove(0).from;
    assert_eq!(from, Vantage::Host(host("h3")));
}

#[test]
fn coordinators_run_a_probe_unless_a_host_is_called_so() {
    let file = file("steady-state: [{name: p, exec: [x], from: coordinator}]\nbaseline: 2s");
    let mut fleet = fleet();
    assert_eq!(resolve(&file, &fleet, 7).unwrap().probes[0].from, Vantage::Coordinators);
    let twin = HostRecord { name: host("coordinator"), ..fleet.hosts[&host("h1")].clone() };
    fleet.hosts.insert(twin.name.clone(), twin);
    let problems = resolve(&file, &fleet, 7).unwrap_err();
    assert_eq!(
        problems[0].to_string(),
        "steady-state[0].from: `coordinator` may be the coordinators or the host of that name; name another \
         host, or give that one another name"
    );
}

#[test]
fn safety_is_taken_over_and_has_its_defaults() {
    let plain = resolved("").safety;
    assert_eq!((plain.max_radius_ppm, plain.lease_ms, plain.of_group), (300_000, 5_000, None));
    assert!(plain.auto_rollback && !plain.continue_on_loss && !plain.expects_split);
    let own = resolved("targets: {group: etcd}\nsafety: {max-blast-radius: 100%, of: group, auto-rollback: false, lease: 30s, on-loss: continue, expects-split: true}").safety;
    assert_eq!((own.max_radius_ppm, own.lease_ms), (1_000_000, 30_000));
    assert_eq!(own.of_group.as_deref(), Some("etcd"));
    assert!(!own.auto_rollback && own.continue_on_loss && own.expects_split);
}

#[test]
fn a_hosts_name_stands_for_all_its_addresses_but_those_that_others_have_too() {
    let mut fleet = fleet();
    let mut also = |name: &str, more: &[&str]| {
        let known = fleet.hosts.get_mut(&host(name)).unwrap();
        known.also = more.iter().map(|a| a.parse().unwrap()).collect();
    };
    also("h1", &["172.17.0.1", "fd01::1"]);
    also("h2", &["172.17.0.1", "192.168.0.2", "fd01::2"]);
    let fleet = Fleet::new(fleet.hosts, fleet.coordinators, fleet.healthy);
    let cut = |fault: &str| {
        let text =
            format!("name: n\ntargets: {{hosts: [h1]}}\nfaults: [{{{fault}}}]\nduration: 9s");
        let experiment = resolve(&parse(&text), &fleet, 1).unwrap();
        let Fault::Partition(partition) = &experiment.faults[0].spec else { panic!("{fault}") };
        let peers: Vec<String> = partition.traffic.peers.iter().map(ToString::to_string).collect();
        (peers.join(" "), experiment.touched)
    };
    let (peers, _) = cut("partition: {peers: [h2, h3]}");
    assert_eq!(peers, "10.0.0.2/32 192.168.0.2/32 fd01::2/128 10.0.0.3/32");
    // Its own addresses are not cut, whoever lists them; and a network meets a host at each of them.
    let (peers, touched) = cut("partition: {peers: ['fd01::1', 'fd01::/64']}");
    assert_eq!(peers, "fd01::/64");
    assert!(touched.contains(&host("h2")) && !touched.contains(&host("h3")), "{touched:?}");
    let (_, touched) = cut("partition: {peers: ['172.17.0.0/16']}");
    assert!(touched.is_empty(), "{touched:?}");
}
