//! The benchmark's short form: every host acknowledges every stop, and the JSON is what others build
//! on. Its times are not judged here: the machine is shared.

use std::process::Command;

use serde_json::Value;
use squall_tests::fleet::run;

const AGENTS: u64 = 50;
const ROUNDS: u64 = 3;

#[test]
fn every_host_acknowledges_every_stop_and_the_json_says_so() {
    let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
    bench.args(["stop", "--short"]);
    let said = run(bench).ended(0);
    let json = said.json();
    assert_eq!((&json["name"], &json["rounds"]), (&"stop".into(), &ROUNDS.into()), "{json:#}");
    assert_eq!(json["agents"], AGENTS);
    let results = json["results"].as_array().expect("a list");
    let subjects: Vec<&str> = results.iter().filter_map(|r| r["subject"].as_str()).collect();
    assert_eq!(subjects, ["udp echo", "tokio-rustls", "wire alone", "squall", "squall, no quorum"]);
    for row in results {
        assert_eq!(row["acks"], AGENTS * ROUNDS, "{row:#}");
        let number = |key: &str| row[key].as_f64().unwrap_or_else(|| panic!("{key}: {row:#}"));
        assert!(number("median_ms") > 0.0 && number("ratio") > 0.0, "{row:#}");
    }
    assert_eq!(results[0]["ratio"], 1.0);
    assert_eq!(results[3]["committed"], ROUNDS, "a quorum of one puts each stop into the log");
    assert_eq!(results[4]["committed"], 0, "without a quorum none is in the log");
    assert!(json["rss_kib_per_agent"].as_f64().is_some_and(|kib| kib > 0.0), "{json:#}");
    // The goals are about a thousand agents; a table for people comes on the other channel.
    assert_eq!(json["goals"], Value::Array(Vec::new()));
    assert!(said.err.contains("median ms"), "{}", said.err);
}

#[test]
fn what_is_not_a_size_is_refused() {
    for wrong in
        [&["stop", "--agents", "0"][..], &["stop", "--rounds"], &["stop", "--long"], &["go"]]
    {
        let mut bench = Command::new(env!("CARGO_BIN_EXE_bench"));
        bench.args(wrong);
        let said = run(bench).ended(2);
        assert!(said.out.is_empty() && said.err.contains("scripts/bench stop"), "{said:#?}");
    }
}
