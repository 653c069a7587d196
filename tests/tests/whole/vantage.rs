//! Probes that coordinators run: they feel what the coordinators feel, and a new leader has seen what the
//! last one saw.

use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use squall_cluster::Up;
use squall_tests::air::serve;
use squall_tests::fleet::{Fleet, until};

fn file(host: &str, peers: &str, rest: &str) -> String {
    let probe = |name: &str, from: &str| {
        format!(
            "  - {{ name: {name}, from: {from}, http: {{ url: \"http://h2:8080/\" }}, every: 100ms, \
             timeout: 1s, expect: {{ error-rate: \"< 20%\" }} }}\n"
        )
    };
    format!(
        "name: x\ntargets: {{ hosts: [{host}] }}\nfaults:\n  - partition: {{ peers: [{peers}] }}\n{rest}\n\
         baseline: 3s\nrecovery: 3s\nsafety: {{ lease: 20s }}\nsteady-state:\n{}{}",
        probe("near", "h3"),
        probe("far", "coordinator")
    )
}

#[test]
fn what_coordinators_see_is_theirs_and_outlives_their_leader() {
    let fleet = Fleet::up(&Up { hosts: 4, coordinators: 3, ..Up::default() });
    serve(&fleet, "h2", 8080);
    let status = fleet.json(&["status"]);
    let address = |row: &Value| {
        let listens = row["address"].as_str()?.parse::<std::net::SocketAddr>().ok()?;
        Some(listens.ip().to_string())
    };
    let rows = status["coordinators"].as_array().expect("a list");
    let addresses: Vec<String> = rows.iter().filter_map(address).collect();
    assert_eq!(addresses.len(), 3, "{status:#}");

    // h2 is cut from what the coordinators send but their own words: from h3 all is well.
    let cut = fleet.file("far.yaml", &file("h2", &addresses.join(", "), "duration: 60s"));
    let cut = cut.display().to_string();
    let view = fleet.squall(&["run", "-o", "json", &cut]).ended(1).json();
    let deviations = view["deviations"].as_array().expect("a list");
    let named: Vec<_> = deviations.iter().map(|d| (&d["probe"], &d["stage"])).collect();
    assert_eq!(named, [(&"far".into(), &"during".into())], "{view:#}");
    let from: Vec<&Value> = (0..2).map(|n| &view["metrics"][n]["from"]).collect();
    assert_eq!(from, ["h3", "coordinator"]);

    let id = fleet.start(&file("h1", "h4", "duration: 12s"));
    sleep(Duration::from_secs(2));
    let leader = fleet.json(&["status"])["cluster"]["leader"].as_str().expect("one").to_owned();
    assert_eq!(fleet.signal(&leader, "coordinator", "KILL"), 1);
    let (shown, _) = until(60_000, "the verdict", || {
        let shown = fleet.squall(&["show", &id, "-o", "json"]);
        let shown = (shown.code == 0).then(|| shown.json())?;
        (shown["state"] == "settled").then_some(shown)
    });
    assert_eq!(shown["verdict"], "held", "{shown:#}");
    let stages = shown["metrics"][1]["stages"].as_object().expect("stages");
    assert_eq!(stages.len(), 3, "{shown:#}");

    // A coordinator comes up whatever stands in a file that is about programs of probes alone.
    let policy = fleet.path(&leader, "/etc/squall/policy.toml");
    std::fs::create_dir_all(policy.parent().expect("a directory")).expect("made");
    std::fs::write(&policy, "allow = 7\n").expect("written");
    fleet.revive(&leader, "coordinator");
    until(30_000, "it takes part", || {
        let status = fleet.json(&["status"]);
        let all = status["coordinators"].as_array()?;
        all.iter().all(|c| c["role"] == "leader" || c["role"] == "follower").then_some(())
    });
    let log = fleet.log(&leader, "coordinator");
    assert!(log.contains("no probe runs a program here") && log.contains("policy.toml"), "{log}");
}
