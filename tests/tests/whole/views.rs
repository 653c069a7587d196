//! What the fleet sees of itself: each shape of a cut shows as its kind and is gone after the heal;
//! groups are apart; a host whose control is cut lifts alone; control that is exempt gets through.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;
use squall_cluster::Up;
use squall_core::fault::Kind;
use squall_tests::fleet::{Fleet, until};
use squall_tests::torture::{Probe, SPAN};

/// Who is not heard, and by whom.
type Edges = BTreeSet<(String, String)>;

/// How long a picture may take to come to rest: beats, reports, and a busy machine.
const REST_MS: u64 = 30_000;
/// The lease of all experiments here, in milliseconds.
const LEASE_MS: u64 = 4_000;
/// What other work on the machine may cost, in milliseconds.
const SLACK_MS: u64 = 2_000;

fn up(ipv6_only: bool, labels: &[&str]) -> Fleet {
    let labels = labels.iter().map(|l| (*l).to_owned()).collect();
    let fleet = Fleet::up(&Up { hosts: 5, ipv6_only, labels, ..Up::default() });
    // A fleet that has just come up knows little, but sees no cut where there is none.
    let seen = watch(&fleet, |views| views["verdict"] == "agree");
    let allowed = BTreeSet::from(["agree", "unknown"].map(str::to_owned));
    assert!(seen.is_subset(&allowed), "{seen:?} before anything was cut");
    fleet
}

/// Asks again and again until the views say so; all verdicts and kinds up to then.
fn watch(fleet: &Fleet, mut enough: impl FnMut(&Value) -> bool) -> BTreeSet<String> {
    let mut seen = BTreeSet::new();
    let began = Instant::now();
    let mut last = Value::Null;
    while began.elapsed() < Duration::from_millis(REST_MS) {
        last = fleet.json(&["views"]);
        seen.insert(said(&last));
        if enough(&last) {
            return seen;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("not within {REST_MS} ms, after {seen:?}: {last:#}");
}

/// The kind of the partition, or the verdict.
fn said(views: &Value) -> String {
    let word = |name: &str| views[name].as_str().map(str::to_owned);
    word("kind").or_else(|| word("verdict")).unwrap_or_default()
}

fn edges(views: &Value) -> Edges {
    let of = |edge: &Value, end: &str| edge[end].as_str().unwrap_or_default().to_owned();
    let edges = views["edges"].as_array().into_iter().flatten();
    edges.map(|e| (of(e, "from"), of(e, "to"))).collect()
}

fn pairs(one: &[&str], other: &[&str], both_ways: bool) -> Edges {
    let mut found = BTreeSet::new();
    for (a, b) in one.iter().flat_map(|a| other.iter().map(move |b| (*a, *b))) {
        found.insert((a.to_owned(), b.to_owned()));
        if both_ways {
            found.insert((b.to_owned(), a.to_owned()));
        }
    }
    found
}

fn experiment(targets: &str, partition: &str, seconds: u64) -> String {
    format!(
        "name: shape\ntargets: {{ hosts: [{targets}] }}\nduration: {seconds}s\n\
         safety: {{ max-blast-radius: 0.5, lease: {LEASE_MS}ms }}\n\
         faults:\n  - partition: {{ {partition} }}\n"
    )
}

/// One cut, seen while it stands and seen to be gone.
fn shape(fleet: &Fleet, targets: &str, partition: &str, kind: &str, cut: &dyn Fn(&Edges) -> bool) {
    let id = fleet.start(&experiment(targets, partition, 60));
    let seen = watch(fleet, |views| said(views) == kind && cut(&edges(views)));
    let allowed: BTreeSet<String> = ["agree", "unknown", kind].map(str::to_owned).into();
    assert!(seen.is_subset(&allowed), "{partition}: {seen:?} on the way to {kind}");
    // It stands as long as the fault does.
    std::thread::sleep(Duration::from_secs(2));
    let views = fleet.json(&["views"]);
    assert!(said(&views) == kind && cut(&edges(&views)), "{partition}: {views:#}");
    let doubts = |views: &Value| views["gossip"].as_array().map_or(0, Vec::len);
    if kind == "complete" {
        // Gossip finds no way around, and begins to doubt.
        let _ = watch(fleet, |views| doubts(views) > 0);
    }
    let _ = fleet.squall(&["stop", &id]).ended(0);
    let healed = Instant::now();
    let seen = watch(fleet, |views| views["verdict"] == "agree" && doubts(views) == 0);
    eprintln!("{partition}: {kind}; agreed {:?} after the heal, by {seen:?}", healed.elapsed());
    assert!(!seen.contains("split-brain"), "{partition}: {seen:?}");
}

const OTHERS: [&str; 4] = ["h2", "h3", "h4", "h5"];

/// All shapes that a cut can have.
fn shapes(fleet: &Fleet) {
    let is = |wanted| move |cut: &Edges| *cut == wanted;
    let count = |wanted| move |cut: &Edges| cut.len() == wanted;
    shape(fleet, "h1", "shape: isolate", "complete", &is(pairs(&["h1"], &OTHERS, true)));
    let all = "h1, h2, h3, h4, h5";
    // Two and three: six pairs, both ways. Two, two and one that sees both: four pairs.
    shape(fleet, all, "shape: halves", "complete", &count(12));
    shape(fleet, all, "shape: bridge", "partial", &count(8));
    // Of four, each does not see the one across.
    shape(fleet, "h1, h2, h3, h4", "shape: ring", "partial", &count(4));
    let deaf = pairs(&OTHERS, &["h1"], false);
    shape(fleet, "h1", "shape: simplex", "simplex", &is(deaf));
    let mute = pairs(&["h1"], &OTHERS, false);
    shape(fleet, "h1", "shape: simplex, direction: out", "simplex", &is(mute));
}

#[test]
fn each_shape_shows_as_its_kind_and_agrees_after_the_heal() {
    shapes(&up(false, &[]));
}

#[test]
fn a_cut_within_one_group_leaves_the_other_alone() {
    let labels = ["h1=group=a", "h2=group=a", "h3=group=a", "h4=group=b", "h5=group=b"];
    let fleet = up(false, &labels);
    let id = fleet.start(&experiment("h1", "peers: { group: a }", 60));
    let of = |views: &Value, name: &str| {
        let found = views["cohorts"]
            .as_array()
            .and_then(|all| all.iter().find(|c| c["cohort"] == name).map(|c| (said(c), edges(c))));
        found.unwrap_or_else(|| panic!("no cohort {name}: {views:#}"))
    };
    let cut = pairs(&["h1"], &["h2", "h3"], true);
    let mut of_b = BTreeSet::new();
    let _ = watch(&fleet, |views| {
        of_b.insert(of(views, "b").0);
        of(views, "a") == ("complete".to_owned(), cut.clone())
    });
    // It may not have been heard of yet; a cut it never shows.
    let allowed = BTreeSet::from(["agree", "unknown"].map(str::to_owned));
    assert!(of_b.contains("agree") && of_b.is_subset(&allowed), "{of_b:?}");
    assert!(fleet.pings("h1", "h4", 2.0) && !fleet.pings("h1", "h2", 1.0));
    let _ = fleet.squall(&["stop", &id]).ended(0);
    let _ = watch(&fleet, |views| views["verdict"] == "agree");
}

/// Nobody can reach h1, and h1 nobody: it lifts by itself when its lease is over.
fn severed(fleet: &Fleet) {
    let probe = Probe::start(fleet, "h1", Kind::Partition, 0);
    std::thread::sleep(Duration::from_millis(500));
    let asked = Instant::now();
    let file = fleet
        .file("severed.yaml", &experiment("h1", "peers: [h2, h3, h4, h5], control: severed", 60));
    let mut run = fleet.lab.squall(["run", "-o", "json", &file.display().to_string()]);
    let run = run.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let run = run.spawn().expect("a run");
    probe.await_bite(10_000);
    let cut = Instant::now() - SPAN;
    assert!(!fleet.pings("h1", "c1", 1.0), "coordinators are cut off too");
    let took = probe.await_end(cut, LEASE_MS + 10_000);
    eprintln!("lifted alone {took:?} after the cut, {:?} after the order", asked.elapsed());
    assert!(took < Duration::from_millis(LEASE_MS + 500 + SLACK_MS), "{took:?}");
    let said = run.wait_with_output().expect("it ends");
    assert_eq!(said.status.code(), Some(6), "unknown, and clean");
    // Not because no coordinator was heard: that is how it was meant.
    let shown: Value = serde_json::from_slice(&said.stdout).expect("a view");
    assert_eq!(shown["faults"][0]["why"], "lease ran out", "{shown:#}");
    let seen = watch(fleet, |views| views["verdict"] == "agree");
    assert!(!seen.contains("split-brain"), "{seen:?}");
}

/// Everything around h1 is cut but Squall's own words, and nobody knows where anybody lives: the
/// agent stays, and so does its fault, to the end.
fn exempt(fleet: &Fleet, everybody: &str) {
    let id = fleet.start(&experiment("h1", &format!("peers: [{everybody:?}]"), 20));
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        for host in ["h1", "c1", "c2", "c3"] {
            for family in ["-4", "-6"] {
                let flush = ["ip", family, "neigh", "flush", "dev", "eth0"];
                let _ = fleet.on(host, &flush).ended(0);
            }
        }
        assert!(!fleet.pings("h1", "c1", 0.3), "what is no word of Squall's is cut");
        let status = fleet.json(&["status"]);
        let hosts = status["hosts"].as_array().cloned().unwrap_or_default();
        let h1 = hosts.iter().find(|h| h["name"] == "h1").expect("h1");
        let held = h1["faults"].as_array().is_some_and(|all| all.len() == 1);
        assert!(h1["state"] == "armed" && held, "{h1:#} {:#}", fleet.json(&["show", &id]));
        std::thread::sleep(Duration::from_millis(500));
    }
    let verdict = || {
        let row = fleet.json(&["show", &id]);
        row["verdict"].as_str().map(|v| (v.to_owned(), row["reasons"].to_string()))
    };
    let ((verdict, reasons), _) = until(REST_MS, "a verdict", verdict);
    assert_eq!(verdict, "held", "{reasons}");
}

#[test]
fn severed_control_lifts_by_the_lease_and_exempt_control_gets_through() {
    let fleet = up(false, &[]);
    exempt(&fleet, "10.77.0.0/16");
    severed(&fleet);
}

#[test]
fn without_ipv4_all_of_it_is_the_same() {
    let fleet = up(true, &[]);
    shapes(&fleet);
    exempt(&fleet, "fd77::/64");
    severed(&fleet);
}
