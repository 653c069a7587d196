//! No fault outlives its holder, its lease or its order; nothing is left of it; it does not come
//! back. `scripts/torture` is the long form of the same.

use std::process::Stdio;
use std::time::{Duration, Instant};

use squall_cluster::Up;
use squall_core::fault::Kind;
use squall_tests::fleet::{Fleet, until};
use squall_tests::torture::{Cell, Event, Plan, Probe, Snapshot, form, run_all, table};

/// What other work on the machine may cost, in milliseconds.
const SLACK_MS: u64 = 1_500;
/// Kills of an agent that is just putting faults in place.
const KILLS: u64 = 6;

/// Every fault × every event, six faults at once.
#[test]
fn every_fault_lifts_whatever_ends_it() {
    let _alone = crate::alone();
    let plan = |event| Plan {
        faults: Kind::ALL.to_vec(),
        event,
        round: 1,
        lease_ms: 3_000,
        slack_ms: SLACK_MS,
        ipv6_only: event == Event::Freeze,
    };
    // Half as many trials at once as tests: each is heavier than one.
    let tests = std::env::var("RUST_TEST_THREADS").ok().and_then(|n| n.parse::<usize>().ok());
    // The longest first, so that no trial is left to run alone.
    let mut plans = Event::ALL.map(plan);
    plans.reverse();
    let cells = run_all(&plans, tests.unwrap_or(2) / 2, |_, _| {});
    eprintln!("{}", table(&cells));
    assert_eq!(cells.len(), Kind::ALL.len() * Event::ALL.len());
    assert!(cells.iter().all(Cell::is_good), "see the table");
}

/// `pkill -9` in the middle of putting faults in place, at moments a tenth of a second apart.
#[test]
fn killed_in_the_middle_of_an_apply_nothing_stays() {
    let fleet = Fleet::up(&Up { hosts: 4, coordinators: 1, ..Up::default() });
    let probes: Vec<Probe> =
        (0..).zip(Kind::ALL).map(|(i, kind)| Probe::start(&fleet, "h1", kind, i)).collect();
    std::thread::sleep(Duration::from_millis(500));
    let before = Snapshot::first(&fleet, "h1");
    let forms: Vec<String> = Kind::ALL.iter().map(|k| format!("  - {}\n", form(*k))).collect();
    let text = format!(
        "name: early\ntargets: {{ hosts: [h1] }}\nduration: 30s\nfaults:\n{}",
        forms.concat()
    );
    let file = fleet.file("early.yaml", &text).display().to_string();
    for round in 0..KILLS {
        let mut run = fleet.lab.squall(["run", "--detach", "-o", "json", &file]);
        let mut run = run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a run");
        let _ = until(10_000, "a first holder", || fleet.pids("h1", "hold").first().copied());
        std::thread::sleep(Duration::from_millis(100 * round));
        let at = Instant::now();
        let _ = fleet.on("h1", &["pkill", "-9", "squall"]).ended(0);
        for probe in &probes {
            let took = probe.await_end(at, 10_000);
            assert!(took < Duration::from_millis(1_000 + SLACK_MS), "{} {took:?}", probe.kind);
        }
        fleet.revive("h1", "agent");
        // Neither a word nor a fault of it is left once the agent is back.
        let (_, took) = until(30_000, "nothing left", || {
            let found = before.difference(&Snapshot::take(&fleet, "h1"));
            eprintln!("round {round}: {} lines differ", found.len());
            let row = fleet.json(&["status"]);
            let armed = row["hosts"].as_array()?.iter().all(|h| h["state"] == "armed");
            let row = fleet.json(&["ls"]);
            let over = row.as_array()?.iter().all(|e| e["state"] == "settled");
            (found.is_empty() && armed && over).then_some(())
        });
        eprintln!("round {round}: whole again after {took:?}");
        let _ = run.wait();
    }
}

/// Two faults that do the same: the end of one leaves the other as it is.
#[test]
fn the_end_of_one_fault_leaves_another_alone() {
    let fleet = Fleet::up(&Up { hosts: 4, coordinators: 1, ..Up::default() });
    let probe = Probe::start(&fleet, "h1", Kind::Partition, 0);
    let before = Snapshot::first(&fleet, "h1");
    let text = |peer: &str| {
        format!(
            "name: twice\ntargets: {{ hosts: [h1] }}\nduration: 60s\nfaults:\n  \
             - partition: {{ peers: [{peer}, h3] }}\n"
        )
    };
    let (first, second) = (fleet.start(&text("h2")), fleet.start(&text("h4")));
    probe.await_bite(10_000);
    let _ = fleet.squall(&["stop", &first]).ended(0);
    let stopped = Instant::now();
    assert!(fleet.pings("h1", "h2", 2.0), "the first is over");
    std::thread::sleep(Duration::from_secs(3));
    assert!(probe.hurts(stopped, Instant::now()), "the second is not");
    let at = Instant::now();
    let _ = fleet.squall(&["stop", &second]).ended(0);
    eprintln!("gone after {:?}", probe.await_end(at, 10_000));
    assert_eq!(before.difference(&Snapshot::take(&fleet, "h1")), Vec::<String>::new());
}

/// What a snapshot does not see, no trial here finds.
#[test]
fn whatever_changes_on_a_host_is_a_difference() {
    let fleet = Fleet::up(&Up { hosts: 1, coordinators: 0, bare: true, ..Up::default() });
    let before = Snapshot::first(&fleet, "h1");
    assert_eq!(before.difference(&Snapshot::take(&fleet, "h1")), Vec::<String>::new());
    let cases: [(&[&str], &str); 13] = [
        (&["nft", "add", "table", "inet", "foreign"], "new: nft: table inet foreign {"),
        (&["ip", "link", "set", "lo", "mtu", "1400"], "new: link: 1: lo: "),
        (&["ip", "addr", "add", "10.9.9.9/32", "dev", "lo"], "new: address:     inet 10.9.9.9/32 "),
        (&["ip", "rule", "add", "fwmark", "7", "priority", "99"], "new: rule: 99:"),
        (&["ip", "-6", "rule", "add", "fwmark", "7", "priority", "98"], "new: rule: 98:"),
        (&["ip", "route", "add", "10.9.8.0/24", "dev", "eth0"], "new: route: 10.9.8.0/24 "),
        (&["ip", "-6", "route", "add", "fd09::/64", "dev", "eth0"], "new: route: fd09::/64 "),
        (&["tc", "qdisc", "add", "dev", "eth0", "clsact"], "new: qdisc: qdisc clsact "),
        (&["sysctl", "-w", "net.ipv4.tcp_retries2=9"], "new: sysctl: net.ipv4.tcp_retries2 = 9"),
        (&["touch", "/etc/left"], "new: file: /etc/left 100"),
        (&["mkdir", "/run/left"], "new: file: /run/left 40"),
        (&["touch", "/var/left"], "new: file: /var/left 100"),
        (&["touch", "/dev/shm/left"], "new: file: /dev/shm/left 100"),
    ];
    for (argv, _) in cases {
        let _ = fleet.on("h1", argv).ended(0);
    }
    let found = before.difference(&Snapshot::take(&fleet, "h1"));
    for (_, line) in cases {
        assert!(found.iter().any(|f| f.starts_with(line)), "`{line}`: {found:#?}");
    }
}
