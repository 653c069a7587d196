//! What a host can hold is found out without touching it.

use std::time::{Duration, Instant};

use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
use squall_core::fault::Kind;
use squall_core::hold::Holding;
use squall_faults::doctor::doctor;
use squall_faults::residue::Snapshot;
use squall_faults::sys::nft::{Family, Hook, Nft, Rule, Table};

use crate::bench::{Pair, TestHost, task};

#[test]
fn every_fault_is_supported_here_and_nothing_is_touched() {
    let pair = Pair::new();
    let before = pair.h1.snapshot();
    let began = Instant::now();
    let rows = pair.h1.run(doctor);
    let took = began.elapsed();
    assert!(took < Duration::from_millis(1_500), "{took:?}");
    assert_eq!(rows.iter().map(|r| r.fault).collect::<Vec<_>>(), Kind::ALL);
    for row in &rows {
        assert!(row.backend.is_some() && row.reason.is_empty(), "{row:?}");
        let one_shot = row.held == Holding::OneShot;
        assert_eq!(one_shot, row.fault == Kind::Kill, "{row:?}");
    }
    assert_eq!(pair.h1.snapshot(), before);
    // Of the thread that looked: it is the parent of all that was tried out.
    let children = pair.h1.run(|| std::fs::read_to_string("/proc/thread-self/children").unwrap());
    assert_eq!(children, "", "its dummies are reaped");
}

#[test]
fn what_is_missing_is_said() {
    let host = TestHost::new();
    let rows = host.run(|| {
        let mut sets = capabilities(None).unwrap();
        sets.effective.remove(CapabilitySet::NET_ADMIN);
        set_capabilities(None, sets).unwrap();
        // Nor may it keep the agent from looking at what it can see.
        Snapshot::take().unwrap();
        doctor()
    });
    for row in rows {
        let network = matches!(row.fault, Kind::Partition | Kind::Loss);
        assert_eq!(row.backend.is_none(), network, "{row:?}");
        assert_eq!(row.reason.contains("Operation not permitted"), network, "{row:?}");
    }
}

#[test]
fn a_check_refuses_what_a_commit_would_and_changes_nothing() {
    let host = TestHost::new();
    let said = host.run(|| {
        let table = Table::new(Family::Inet, "t");
        let chain = |hook: &Hook, rule: Rule| {
            vec![table.create(), table.base_chain("c", hook, -350), table.rule("c", &rule)]
        };
        let mut nft = Nft::open().unwrap();
        let good = nft.check(chain(&Hook::Prerouting, Rule::new().drop()));
        let listed = nft.tables().unwrap();
        // Forwarding to a device belongs to the family netdev.
        let bad = nft.check(chain(&Hook::Prerouting, Rule::new().lose()));
        (good.is_ok(), listed, bad.is_err())
    });
    assert_eq!(said, (true, vec![], true));
}

#[test]
fn a_snapshot_is_quick_and_sees_only_what_changed() {
    let pair = Pair::new();
    let (before, took) = pair.h1.run(|| {
        let began = Instant::now();
        let before = Snapshot::take().unwrap();
        (before, began.elapsed())
    });
    println!("a snapshot takes {took:?}");
    assert!(took < Duration::from_secs(2), "{took:?}");
    pair.h1.sh("ip addr add 10.9.7.1/24 dev v1");
    pair.h1.sh("tc qdisc add dev v1 root tbf rate 1mbit burst 10kb latency 50ms");
    pair.h1.sh("ip rule add fwmark 7 table 100 priority 99");
    pair.h1.sh("nft add table inet somebody");
    let after = pair.h1.run(|| Snapshot::take().unwrap());
    let host = squall_core::fault::Fault::Cpu(squall_core::fault::Cpu::new(Some(1), 1));
    let id = task(host, 30, 1_000, 1_000).id;
    assert_eq!(after.carrying(&id), [""; 0]);
    let changes = before.changes(&after, &id);
    for line in [
        "new: address 10.9.7.1/24 on v1",
        "new: qdisc tbf",
        "new: rule family 2 priority 99 mark 7",
        "new: route 10.9.7.0/24 on v1",
        "new: nft table inet somebody",
    ] {
        assert!(changes.iter().any(|f| f.starts_with(line)), "{line}: {changes:#?}");
    }
}
