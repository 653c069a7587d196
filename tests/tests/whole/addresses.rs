//! A host has more addresses than the one that it is registered by.

use squall_cluster::Up;
use squall_tests::fleet::{Fleet, until};

/// Whether h2 is said to have this address too.
fn has(fleet: &Fleet, address: &str) -> bool {
    let also = fleet.host("h2")["also"].clone();
    also.as_array().is_some_and(|all| all.iter().any(|a| a == address))
}

#[test]
fn a_host_that_is_named_is_cut_off_at_all_its_addresses() {
    let fleet = Fleet::up(&Up { hosts: 3, coordinators: 1, ..Up::default() });
    let v6 = fleet.on("h1", &["getent", "hosts", "h2.v6"]).ended(0).out;
    let v6 = v6.split_whitespace().next().expect("an address").to_owned();
    assert!(has(&fleet, &v6), "known from the beginning: {:#}", fleet.host("h2"));
    // One more, while the agent runs.
    for (host, address) in [("h1", "10.78.0.1/24"), ("h2", "10.78.0.2/24")] {
        let _ = fleet.on(host, &["ip", "address", "add", address, "dev", "eth0"]).ended(0);
    }
    until(20_000, "h2's new address is known", || has(&fleet, "10.78.0.2").then_some(()));
    let ways = ["h2", "h2.v6", "10.78.0.2"];
    assert_eq!(ways.map(|way| fleet.pings("h1", way, 2.0)), [true; 3]);
    let id = fleet.start(
        "name: cut\ntargets: { hosts: [h1] }\nfaults: [partition: { peers: [h2] }]\n\
         duration: 60s\nsafety: { max-blast-radius: 0.5 }\n",
    );
    assert_eq!(ways.map(|way| fleet.pings("h1", way, 0.5)), [false; 3]);
    assert!(fleet.pings("h1", "h3", 2.0) && fleet.pings("h1", "h3.v6", 2.0));
    let _ = fleet.squall(&["stop", &id]).ended(0);
    assert_eq!(ways.map(|way| fleet.pings("h1", way, 2.0)), [true; 3]);
    let _ = fleet.on("h2", &["ip", "address", "del", "10.78.0.2/24", "dev", "eth0"]).ended(0);
    until(20_000, "it is no longer h2's", || (!has(&fleet, "10.78.0.2")).then_some(()));
}
