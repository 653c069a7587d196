//! A coordinator that has lost its disk knows nothing, and says so.

use squall_cluster::Up;
use squall_tests::fleet::{Fleet, until};

#[test]
fn a_coordinator_without_its_disk_calls_no_stop_done() {
    let fleet = Fleet::up(&Up { hosts: 3, coordinators: 3, ..Up::default() });
    let _ = fleet.start(
        "name: cut\ntargets: { hosts: [h2] }\nfaults:\n  - partition: { peers: [h1, h3] }\n\
         duration: 10m\nsafety: { lease: 30s }\n",
    );
    for role in ["agent", "hold"] {
        assert_eq!(fleet.signal("h2", role, "STOP"), 1, "{role} of h2");
    }
    for name in ["c1", "c2", "c3"] {
        assert_eq!(fleet.signal(name, "coordinator", "KILL"), 1);
    }
    until(10_000, "c3 is dead", || fleet.pids("c3", "coordinator").is_empty().then_some(()));
    let _ = fleet.on("c3", &["rm", "-r", "/var/lib/squall-coordinator"]).ended(0);
    let connected = || {
        let log = fleet.log("c3", "coordinator");
        ["h1", "h3"].map(|host| log.matches(&format!("agent connected host={host} ")).count())
    };
    let before = connected();
    fleet.revive("c3", "coordinator");
    until(20_000, "h1 and h3 are back at c3", || {
        let now = connected();
        (now[0] > before[0] && now[1] > before[1]).then_some(())
    });
    assert!(!fleet.pings("h1", "h2", 0.5), "h2 is cut off still");
    let said = fleet.squall(&["stop-all", "-o", "json"]).ended(5);
    let json = said.json();
    assert_eq!((&json["done"], &json["whole"]), (&false.into(), &false.into()), "{said:#?}");
    assert_eq!(json["hosts"].as_array().map(Vec::len), Some(2), "{said:#?}");
    assert!(said.err.contains("there may be others"), "{said:#?}");
}
