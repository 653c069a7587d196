//! What is wrong, where, and what to do.
#![allow(clippy::too_many_lines, reason = "lists of cases")]

use super::*;

#[test]
fn what_cannot_be_read_is_told_with_its_place() {
    let known =
        "unknown fault `latency`: known faults are partition, loss, kill, pause, cpu, memory";
    for (text, line, column, says) in [
        ("faults:\n  - latency: {peers: h1}", 2, 5, known),
        ("faults:\n  - latency", 2, 5, known),
        ("faults:\n  - cpu: {}\n    loss: {}", 3, 5, "`loss` does not belong to the fault before"),
        ("faults:\n  - cpu", 2, 5, "`cpu` needs its parameters: write `cpu: {…}`"),
        ("faults: [{}]", 1, 10, "a fault is missing"),
        ("faults: [{loss: {percent: 150, peers: h2}}]", 1, 27, "percent must be at most 100"),
        ("faults: [{loss: {percent: -1, peers: h2}}]", 1, 27, "is negative"),
        ("faults: [{loss: {percent: some, peers: h2}}]", 1, 27, "is not percent"),
        ("faults: [{loss: {percent: 5}}]", 1, 18, "missing field `peers`"),
        ("faults: [{loss: {percent: 5, peers: h2, ports: [80, 99999]}}]", 1, 53, "is not a port"),
        ("faults: [{loss: {percent: 5, peers: [h2, 7]}}]", 1, 42, "expected a host's name"),
        ("faults: [{partition: {peers: {grp: a}}}]", 1, 31, "unknown field `grp`"),
        ("faults: [{partition: {peers: h2, protocol: icmp}}]", 1, 44, "not a protocol: tcp or udp"),
        ("faults: [{partition: {peers: h2, ports: '80,x'}}]", 1, 41, "`x` is not a port"),
        ("faults: [{partition: {shape: square}}]", 1, 30, "unknown variant `square`"),
        ("faults: [{memory: {bytes: 64TB}}]", 1, 27, "units are B, KiB"),
        ("faults: [{memory: {touch-rate: 64MiB}}]", 1, 32, "not an amount a second, as 100MiB/s"),
        ("faults: [{memory: {touch-rate: 64/s}}]", 1, 32, "`64` has no unit: write 64MiB"),
        ("faults: [{memory: {touch-rate: 0B/s}}]", 1, 32, "is nothing"),
        ("faults: [{cpu: {cores: [0, 1024]}}]", 1, 28, "not a processor's number from 0 to 1023"),
        ("faults: [{cpu: {cores: 3-2}}]", 1, 24, "not a processor's number from 0 to 1023"),
        ("faults: [{cpu: {ramp: 0s}}]", 1, 23, "is zero"),
        ("faults: [{kill: {name: x, signal: SIGHUB}}]", 1, 35, "is not a signal"),
        ("duration: 30", 1, 11, "`30` has no unit: write 30s"),
        ("duration: 0s", 1, 11, "is zero"),
        ("duration: -5s", 1, 11, "is negative"),
        ("duration: 5 weeks", 1, 11, "units are ms, s, m, h and d"),
        ("duration:", 1, 9, "nothing stands here"),
        ("duraton: 3s", 1, 1, "unknown field `duraton`, expected one of name"),
        ("targets: {host: h1}", 1, 11, "unknown field `host`"),
        ("targets: h1", 1, 10, "keys belong here: hosts, group, labels, count, percent, all"),
        ("faults: [{pause: nginx}]", 1, 18, "keys belong here: name, cmdline, pid, port, cgroup"),
        ("steady-state: [{name: a, http: 'http://h2/'}]", 1, 32, "keys belong here: url"),
        ("safety: [5s]", 1, 9, "keys belong here: max-blast-radius, of, auto-rollback"),
        ("safety: {max-blast-radius: 34}", 1, 28, "for 34 % write 0.34"),
        ("safety: {max-blast-radius: 0}", 1, 28, "more than 0 and at most 1"),
        ("safety: {lease: 5}", 1, 17, "has no unit"),
        ("steady-state: [{name: a, expect: {error-rate: 1}}]", 1, 47, "as `< 1%`"),
    ] {
        let error = serde_saphyr::from_str::<File>(text).expect_err(text);
        let said = error.to_string();
        assert!(said.contains(says), "{text}: {said}");
        let at = error.location().unwrap_or_else(|| panic!("{text}: no place: {said}"));
        assert_eq!((at.line(), at.column()), (line, column), "{text}: {said}");
    }
}

#[test]
fn nothing_behind_a_key_is_told_with_its_place() {
    for (text, line, column) in [
        ("duration:", 1, 9),
        ("name: x\nduration: ~", 2, 11),
        ("targets:\n  group:\n  count: 1", 2, 8),
        ("targets: {group: , count: 1}", 1, 16),
        ("targets: {hosts: }", 1, 16),
        ("targets: {hosts: [h1, ~]}", 1, 23),
        ("targets: {labels: {zone: }}", 1, 24),
        ("faults:\n  - cpu:", 2, 8),
        ("faults:\n  -", 2, 4),
        ("faults: [{partition: {peers: h2, ports: }}]", 1, 39),
        ("faults: [{loss: {percent: 5, peers: h2, ports: null}}]", 1, 48),
        ("faults: [{kill: {cmdline: java, cgroup: }}]", 1, 39),
        ("faults: [{pause: {name: x, exclude: }}]", 1, 35),
        ("steady-state: [{name: a, expect: {error-rate: }}]", 1, 45),
        ("steady-state: [{name: a, expect: {p99: }}]", 1, 38),
        ("safety: {max-blast-radius: }", 1, 26),
    ] {
        let error = serde_saphyr::from_str::<Filled>(text).expect_err(text);
        let said = error.to_string();
        assert!(said.contains("nothing stands here: write a value"), "{text}: {said}");
        let at = error.location().unwrap_or_else(|| panic!("{text}: no place: {said}"));
        assert_eq!((at.line(), at.column()), (line, column), "{text}: {said}");
    }
    for (json, column) in [
        (r#"{"targets": {"group": null, "count": 1}}"#, 26),
        (r#"{"faults": [{"partition": {"peers": ["h2"], "ports": null}}]}"#, 57),
        (r#"{"faults": [null]}"#, 16),
    ] {
        let error = serde_json::from_str::<Filled>(json).expect_err(json);
        assert!(error.to_string().contains("nothing stands here"), "{json}: {error}");
        assert_eq!((error.line(), error.column()), (1, column), "{json}");
    }
    assert_eq!(serde_json::from_str(r#"{"a": ["", 0, -1, 0.5, true, {}, []]}"#).ok(), Some(Filled));
}

#[test]
fn every_problem_is_told_with_its_path_and_remedy() {
    for (lines, expected) in [
        ("name: ''", "name: it is empty; write 1 to 100 printable characters"),
        (
            "targets: {}",
            "targets: no host is asked for; write hosts: [h1], group: etcd, labels: {zone: a}, count: 1, percent: 34 or all: true",
        ),
        (
            "targets: {all: true, group: etcd}",
            "targets: more than one of `hosts`, `group` with `labels`, and `all`; keep the one that is meant",
        ),
        (
            "targets: {hosts: [h1, h9]}",
            "targets.hosts[1]: no host `h9` is registered; known: c1, d1, h1, h2, h3, h4, h5, s1 and 2 more",
        ),
        (
            "targets: {hosts: d1}",
            "targets.hosts[0]: host `d1` is drained; squall agent drain --undo d1, or leave it out",
        ),
        (
            "targets: {hosts: s1}",
            "targets.hosts[0]: host `s1` does not report now; see that its agent runs, or leave it out",
        ),
        ("targets: {hosts: []}", "targets.hosts: the list is empty; name at least one host"),
        (
            "targets: {group: etdc}",
            "targets.group: no host is in a group `etdc`; did you mean `etcd`?",
        ),
        (
            "targets: {labels: {zone: x}}",
            "targets.labels.zone: no host has the label zone=x; known: a, b, c",
        ),
        (
            "targets: {labels: {}, count: 1}",
            "targets.labels: no label is named; write labels: {zone: a}, or leave it out",
        ),
        (
            "targets: {group: web, labels: {zone: a}}",
            "targets: no host has all of these labels; leave some of them out",
        ),
        (
            "targets: {labels: {rack: x}}",
            "targets.labels.rack: no host has a label `rack`; known: group, zone",
        ),
        (
            "targets: {labels: {zone: c}}",
            "targets: no host that matches is in service; 7 of 10 hosts can be drawn: see `squall nodes`",
        ),
        (
            "targets: {group: web, count: 3}",
            "targets.count: 3 hosts are asked for and 2 match in service; write at most 2",
        ),
        (
            "targets: {group: web, count: 2}\nfaults: [{loss: {percent: 5, peers: w1}}]",
            "targets: 2 hosts are asked for, and w1 would have no peer but itself; name other peers, or ask for fewer hosts",
        ),
        ("targets: {count: 0}", "targets.count: 0 hosts hold nothing; write at least 1"),
        (
            "targets: {count: 1, percent: 5}",
            "targets: both `count` and `percent` say how many; leave one out",
        ),
        ("faults: []", "faults: there is none; write at least one"),
        (
            "faults: [{partition: {}}]",
            "faults[0].partition.peers: nobody is named; write peers: [h2], peers: {group: etcd} or a shape",
        ),
        (
            "faults: [{partition: {peers: []}}]",
            "faults[0].partition.peers: the list is empty; name at least one host, group or address",
        ),
        (
            "faults: [{partition: {peers: h2, ports: []}}]",
            "faults[0].partition.ports: the list is empty; name at least one port, or leave it out for all of them",
        ),
        (
            "faults: [{loss: {percent: 5, peers: h2, ports: []}}]",
            "faults[0].loss.ports: the list is empty; name at least one port, or leave it out for all of them",
        ),
        (
            "faults: [{partition: {peers: [h2, h9]}}]",
            "faults[0].partition.peers[1]: no host `h9` is registered; known: c1, d1, h1, h2, h3, h4, h5, s1 and 2 more",
        ),
        (
            "faults: [{partition: {peers: [10.0.0.256]}}]",
            "faults[0].partition.peers[0]: `10.0.0.256` is not an address; write 10.0.0.2, 10.0.0.0/24, fd00::2 or fd00::/64",
        ),
        (
            "faults: [{partition: {peers: 10.0.0.0/33}}]",
            "faults[0].partition.peers[0]: `10.0.0.0/33` is not an address; write 10.0.0.2, 10.0.0.0/24, fd00::2 or fd00::/64",
        ),
        (
            "faults: [{partition: {peers: 'fd00::g'}}]",
            "faults[0].partition.peers[0]: `fd00::g` is not an address; write 10.0.0.2, 10.0.0.0/24, fd00::2 or fd00::/64",
        ),
        (
            "faults: [{partition: {peers: 127.0.0.1}}]",
            "faults[0].partition.peers[0]: `127.0.0.1` is no other host; name the address of a peer",
        ),
        (
            "faults: [{partition: {peers: {group: wep}}}]",
            "faults[0].partition.peers[0].group: no host is in a group `wep`; known: control, etcd, web",
        ),
        (
            "faults: [{partition: {peers: [{}]}}]",
            "faults[0].partition.peers[0]: it says nothing; write {group: etcd} or {labels: {zone: a}}",
        ),
        (
            "faults: [{partition: {peers: {group: web, labels: {zone: a}}}}]",
            "faults[0].partition.peers[0]: no host has all of these labels; leave some of them out",
        ),
        (
            "faults: [{partition: {peers: [h1]}}]",
            "faults[0].partition.peers: target `h1` would have no peer but itself; name another peer, or leave this target out",
        ),
        (
            "faults: [{partition: {peers: [10.0.0.1]}}]",
            "faults[0].partition.peers: target `h1` would have no peer but itself; name another peer, or leave this target out",
        ),
        (
            "faults: [{partition: {shape: ring}}]",
            "faults[0].partition.shape: 1 targets are too few: nothing would be cut; choose at least 4 targets",
        ),
        (
            "faults: [{partition: {shape: simplex, direction: both}}]",
            "faults[0].partition.direction: simplex is one way; write in or out, or the shape isolate",
        ),
        (
            "targets: {group: etcd}\nfaults: [{partition: {shape: halves, peers: h2}}]",
            "faults[0].partition.peers: peers and a shape do not go together; leave peers out: a shape cuts the targets from each other",
        ),
        (
            "targets: {group: etcd}\nfaults: [{partition: {shape: halves, direction: in}}]",
            "faults[0].partition.direction: this shape cuts both ways; leave it out, or use the shape simplex",
        ),
        (
            "targets: {group: etcd}\nfaults: [{partition: {shape: {groups: [[h1, h2], [w1]]}}}]",
            "faults[0].partition.shape.groups[1][0]: `w1` is not among the targets; known: h1, h2, h3, h4, h5",
        ),
        (
            "targets: {group: etcd}\nfaults: [{partition: {shape: {groups: [[h1, h2], [h2]]}}}]",
            "faults[0].partition.shape.groups[1][0]: `h2` stands in a group already",
        ),
        (
            "targets: {group: etcd}\nfaults: [{partition: {shape: {groups: [[h1, h2]]}}}]",
            "faults[0].partition.shape.groups: there is nothing to cut apart; write at least two groups with a host each, as [[h1, h2], [h3]]",
        ),
        (
            "faults: [{kill: {}}]",
            "faults[0].kill: say which processes: name, cmdline, pid, port or cgroup",
        ),
        ("faults: [{kill: {port: 0}}]", "faults[0].kill: port 0 is nobody's: write 1 to 65535"),
        (
            "faults: [{kill: {name: x, exclude: [x]}}]",
            "faults[0].kill: `x` is named and excluded: leave one out",
        ),
        (
            "faults: [{pause: {name: postgres-checkpointer}}]",
            "faults[0].pause: name: the kernel keeps 15 bytes of a command's name, so `postgres-checkpointer` matches nothing: shorten it, or use cmdline",
        ),
        (
            "faults: [{kill: {name: x, signal: SIGSTOP}}]",
            "faults[0].kill: SIGSTOP, SIGTSTP, SIGTTIN and SIGTTOU cannot be lifted: use the fault `pause`",
        ),
        (
            "faults: [{kill: {name: x, signal: 22}}]",
            "faults[0].kill: SIGSTOP, SIGTSTP, SIGTTIN and SIGTTOU cannot be lifted: use the fault `pause`",
        ),
        (
            "faults: [{kill: {name: x, count: 1, percent: 5}}]",
            "faults[0].kill: both `count` and `percent` say how many; leave one out",
        ),
        (
            "faults: [{kill: {name: x, percent: 0.5}}]",
            "faults[0].kill.percent: 0.5% is not a whole percent; write 1 to 100",
        ),
        (
            "faults: [{pause: {pid: 1}}]",
            "faults[0].pause: pid 0 and pid 1 are protected: choose another process",
        ),
        ("faults: [{cpu: {workers: 999}}]", "faults[0].cpu: workers must be 1 to 256, not 999"),
        (
            "faults: [{cpu: {load: 12.5}}]",
            "faults[0].cpu.load: 12.5% is not a whole percent; write 1 to 100",
        ),
        (
            "faults: [{cpu: {cores: []}}]",
            "faults[0].cpu.cores: the list is empty; name at least one, or leave it out for any",
        ),
        (
            "duration: 10s\nfaults: [{cpu: {ramp: 11s}}]",
            "faults[0].cpu: ramp: 11s is longer than the fault is held, which is 10s",
        ),
        (
            "duration: 10s\nfaults: [{memory: {bytes: 1MiB, ramp: 25h}}]",
            "faults[0].memory.ramp: it is too long; write at most 24h",
        ),
        (
            "faults: [{cpu: {cores: 0-1023}}]",
            "faults[0].cpu: a burner for each of 1024 cores: 256 are started at most",
        ),
        (
            "faults: [{memory: {}}]",
            "faults[0].memory: one of `bytes` and `percent` says how much; write bytes: 64MiB",
        ),
        (
            "faults: [{memory: {percent: 96}}]",
            "faults[0].memory: percent must be 1 to 95 of the memory available, not 96",
        ),
        ("duration: 25h", "duration: 25h is too long; write at most 24h"),
        (
            "baseline: 3s",
            "baseline: there is no probe to sample; write steady-state, or leave it out",
        ),
        (
            "recovery: 3s",
            "recovery: there is no probe to sample; write steady-state, or leave it out",
        ),
        ("safety: {lease: 31s}", "safety.lease: 31s is no lease; write 1s to 30s"),
        ("safety: {lease: 999ms}", "safety.lease: 999ms is no lease; write 1s to 30s"),
        (
            "safety: {of: group}",
            "safety.of: the targets name no group; write targets: {group: …}, or leave it out",
        ),
        (
            "steady-state: [{name: p}]",
            "steady-state[0]: it says not what to do; write one of http, tcp and exec",
        ),
        (
            "steady-state: [{name: p, tcp: {address: 'h2:1'}, exec: [x]}]",
            "steady-state[0]: it says more than one thing to do; keep one of http, tcp and exec",
        ),
        (
            "steady-state: [{name: '', exec: [x]}]",
            "steady-state[0].name: it is empty or too long; write 1 to 100 characters",
        ),
        (
            "steady-state: [{name: p, exec: [x]}, {name: p, exec: [x]}]",
            "steady-state[1].name: another probe is called `p` too; give each its own name",
        ),
        (
            "steady-state: [{name: p, exec: []}]",
            "steady-state[0].exec: no program is named; write a list of a program's path and arguments",
        ),
        (
            "steady-state: [{name: p, exec: [x], every: 9ms}]",
            "steady-state[0].every: 9ms is too often; write at least 10ms",
        ),
        (
            "steady-state: [{name: p, exec: [x], timeout: 2m}]",
            "steady-state[0].timeout: 2m is too long; write at most 1m",
        ),
        (
            "steady-state: [{name: \"p\\nq\", exec: [x]}]",
            "steady-state[0].name: it has a line break or a control; leave it out",
        ),
        (
            "steady-state: [{name: p, exec: [x], every: 1251ms}]\nduration: 10s",
            "steady-state[0].every: 1251ms gives fewer than 5 samples in a baseline of 5s, which say \
             nothing; write less, or baseline: 5004ms at least",
        ),
        (
            "steady-state: [{name: p, exec: [x], every: 1s}]\nduration: 3s",
            "steady-state[0].every: 1s gives fewer than 5 samples in a duration of 3s, which say \
             nothing; write less, or duration: 4s at least",
        ),
        (
            "steady-state: [{name: p, exec: [x], from: h9}]",
            "steady-state[0].from: no host `h9` is registered; known: c1, coordinator, d1, h1, h2, h3, h4, h5 and 3 more",
        ),
        (
            "steady-state: [{name: p, exec: [x], from: s1}]",
            "steady-state[0].from: host `s1` does not report now; see that its agent runs, or name another",
        ),
        (
            "steady-state: [{name: p, exec: [x], expect: {status: 200}}]",
            "steady-state[0].expect.status: only http has a status; leave it out",
        ),
        (
            "steady-state: [{name: p, http: {url: 'http://h2/'}, expect: {status: 99}}]",
            "steady-state[0].expect.status: 99 is no HTTP status; write 100 to 599",
        ),
        (
            "steady-state: [{name: p, http: {url: 'https://h2/'}}]",
            "steady-state[0].http.url: a probe does not speak `https`; write http://host:port/path; for https use exec with a program",
        ),
        (
            "steady-state: [{name: p, http: {url: h2}}]",
            "steady-state[0].http.url: `h2` is not a URL; write http://host:port/path; for https use exec with a program",
        ),
        (
            "steady-state: [{name: p, http: {url: 'http://h2:0/'}}]",
            "steady-state[0].http.url: `0` is no port from 1 to 65535; write http://host:port/path",
        ),
        (
            "steady-state: [{name: p, http: {url: 'http:///x'}}]",
            "steady-state[0].http.url: `` names no host; write http://host:port/path",
        ),
        (
            "steady-state: [{name: p, http: {url: 'http://a:b@h2/'}}]",
            "steady-state[0].http.url: credentials do not belong into a URL; use exec with a program",
        ),
        (
            "steady-state: [{name: p, http: {url: 'http://LOCALHOST:80/'}}]",
            "steady-state[0]: this address is whoever asks, and `from` does not say who; write from: and a host, or the address of the host that is meant",
        ),
        (
            "steady-state: [{name: p, tcp: {address: '[::1]:80'}}]",
            "steady-state[0]: this address is whoever asks, and `from` does not say who; write from: and a host, or the address of the host that is meant",
        ),
        (
            "steady-state: [{name: p, tcp: {address: h2}}]",
            "steady-state[0].tcp.address: `h2` has no port; write host:port, as h2:2379",
        ),
        (
            "steady-state: [{name: p, tcp: {address: 'fd00::2:80'}}]",
            "steady-state[0].tcp.address: `:2:80` is no port from 1 to 65535; write host:port, as h2:2379",
        ),
    ] {
        assert_eq!(problems(lines), [expected], "{lines}");
    }
}

#[test]
fn all_problems_are_told_at_once() {
    let said = problems(
        "targets: {hosts: [h1, h9]}\nfaults: [{partition: {peers: [h8, 1.2.3]}}, {memory: {}}]\nbaseline: 1s\nsafety: {lease: 60s}",
    );
    let paths: Vec<&str> = said.iter().filter_map(|p| p.split(": ").next()).collect();
    assert_eq!(
        paths,
        [
            "targets.hosts[1]",
            "faults[0].partition.peers[0]",
            "faults[0].partition.peers[1]",
            "faults[1].memory",
            "baseline",
            "safety.lease"
        ]
    );
}

#[test]
fn too_much_of_anything_is_refused() {
    let cores = vec!["0-1023"; 513].join(", ");
    assert_eq!(
        problems(&format!("faults: [{{cpu: {{cores: [{cores}]}}}}]")),
        ["faults[0].cpu.cores: 513 are too many; write at most 512, ranges as 0-3 among them"]
    );
    let faults = vec!["{cpu: {}}"; MAX_FAULTS + 1].join(", ");
    assert_eq!(
        problems(&format!("faults: [{faults}]")),
        [format!("faults: {} faults are too many; write at most {MAX_FAULTS}", MAX_FAULTS + 1)]
    );
    let probe = |i| format!("{{name: p{i}, exec: [x]}}");
    let probes: Vec<String> = (0..=MAX_PROBES).map(probe).collect();
    assert_eq!(
        problems(&format!("steady-state: [{}]", probes.join(", "))),
        [format!(
            "steady-state: {} probes are too many; write at most {MAX_PROBES}",
            MAX_PROBES + 1
        )]
    );
}

#[test]
fn one_host_alone_takes_addresses_only() {
    let form = |yaml: &str| serde_saphyr::from_str::<FaultForm>(yaml).unwrap();
    let fault = resolve_local(
        &form("partition: {peers: [10.0.0.2, 'fd00::/64'], direction: out}"),
        Millis(10_000),
    );
    let Ok(Fault::Partition(partition)) = fault else { panic!("{fault:?}") };
    assert_eq!(partition.traffic.direction, Direction::Out);
    assert_eq!(partition.traffic.peers.len(), 2);
    assert!(resolve_local(&form("cpu: {}"), Millis(10_000)).is_ok());
    assert!(resolve_local(&form("loss: {percent: 5, peers: 10.0.0.0/8}"), Millis(10_000)).is_ok());
    for (yaml, expected) in [
        (
            "partition: {peers: [h2]}",
            "partition.peers[0]: `h2` is a name, and on one host alone no fleet knows names; write addresses, as 10.0.0.2 or 10.0.0.0/24",
        ),
        (
            "partition: {peers: {group: etcd}}",
            "partition.peers[0]: `a group` is a name, and on one host alone no fleet knows names; write addresses, as 10.0.0.2 or 10.0.0.0/24",
        ),
        (
            "partition: {peers: 10.0.0.300}",
            "partition.peers[0]: `10.0.0.300` is not an address; write 10.0.0.2, 10.0.0.0/24, fd00::2 or fd00::/64",
        ),
        (
            "partition: {}",
            "partition.peers: nobody is named; write addresses, as 10.0.0.2 or 10.0.0.0/24",
        ),
        (
            "partition: {shape: halves}",
            "partition.shape: a shape needs a fleet; write peers, or use `squall run` on a fleet",
        ),
        (
            "partition: {peers: 10.0.0.2, control: severed}",
            "partition.control: no coordinator is known here; leave it out, or use `squall run` on a fleet",
        ),
        (
            "partition: {peers: 10.0.0.2, ports: []}",
            "partition.ports: the list is empty; name at least one port, or leave it out for all of them",
        ),
        (
            "memory: {bytes: 1MiB, ramp: 10001ms}",
            "memory: ramp: 10001ms is longer than the fault is held, which is 10s",
        ),
        ("kill: {}", "kill: say which processes: name, cmdline, pid, port or cgroup"),
        (
            "loss: {percent: 5, peers: []}",
            "loss: peers must name at least one host, group or address",
        ),
    ] {
        let problems = resolve_local(&form(yaml), Millis(10_000)).expect_err(yaml);
        let said: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(said, [expected], "{yaml}");
    }
}
