//! Stopping needs no quorum, and nothing starts after a stop before a resume that names it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;
use squall_cluster::Up;
use squall_core::ids::StopId;
use squall_tests::air::{Ear, throw};
use squall_tests::fleet::{Fleet, Running, Said, until};
use squall_wire::{ClusterAuthority, GossipKey, Identity, Role};
use uuid::Uuid;

const COORDINATORS: [&str; 3] = ["c1", "c2", "c3"];
const HOSTS: [&str; 5] = ["h1", "h2", "h3", "h4", "h5"];
const GOSSIP: u16 = 7446;
const RELAY: u16 = 7447;

fn fleet(hosts: u16, coordinators: u16) -> Fleet {
    Fleet::up(&Up { hosts, coordinators, ..Up::default() })
}

/// An experiment that lasts longer than any test.
fn long(host: &str, fault: &str, lease: &str) -> String {
    format!(
        "name: long-on-{host}\ntargets: {{ hosts: [{host}] }}\nfaults:\n  - {fault}\n\
         duration: 10m\nsafety: {{ lease: {lease} }}\n"
    )
}

/// A fault of a second, to show that the fleet works.
const SHORT: &str = "name: short\ntargets: { hosts: [h1] }\nfaults:\n  - cpu: { workers: 1, load: \
                     10 }\nduration: 1s\n";

fn receipts(said: &Said) -> Vec<Value> {
    said.json()["hosts"].as_array().expect("hosts").clone()
}

/// The last line for a person, which must be the truth.
fn last_line(said: &Said) -> &str {
    said.err.lines().last().unwrap_or_default()
}

fn stop_of(said: &Said) -> String {
    said.json()["stop"].as_str().expect("the stop's id").to_owned()
}

/// A stop-all that every host answered.
fn done(said: Said, hosts: usize) -> String {
    let said = said.ended(0);
    let answers = receipts(&said);
    assert_eq!(answers.len(), hosts, "{said:#?}");
    for host in &answers {
        assert_eq!(
            (&host["state"], &host["residue"], &host["latched"]),
            (&"lifted".into(), &0.into(), &"durable".into()),
            "{host}"
        );
    }
    stop_of(&said)
}

fn runs_short(fleet: &Fleet) {
    let file = fleet.file("short.yaml", SHORT).display().to_string();
    let _ = fleet.squall(&["run", &file]).ended(0);
}

/// A start that must not happen: refused by the stop of this id.
fn refused_by(fleet: &Fleet, stop: &str) {
    let file = fleet.file("short.yaml", SHORT).display().to_string();
    let said = fleet.squall(&["run", &file]).ended(3);
    assert!(said.err.contains(stop), "the refusal does not name {stop}: {said:#?}");
    assert!(said.err.contains(&format!("squall resume {stop}")), "no way on: {said:#?}");
}

fn stop_all(fleet: &Fleet) -> Said {
    fleet.squall(&["stop-all", "-o", "json"])
}

fn leader(fleet: &Fleet) -> String {
    fleet.json(&["status"])["cluster"]["leader"].as_str().expect("a leader").to_owned()
}

fn with_quorum(fleet: &Fleet) {
    until(30_000, "a quorum", || {
        let said = fleet.squall(&["status", "-o", "json"]);
        (said.code == 0 && said.json()["cluster"]["confirmed"] == true).then_some(())
    });
}

/// Resumes as a person is told to: not before the leader has seen every host stopped, which another
/// coordinator may have seen sooner.
fn released(fleet: &Fleet, stop: &str) {
    let (said, _) = until(20_000, "the leader has seen all hosts stopped", || {
        let said = fleet.squall(&["resume", stop]);
        (!said.err.contains("not seen stopped")).then_some(said)
    });
    let _ = said.ended(0);
}

/// One coordinator alone answers, and says that it does.
fn answers_are_marked(fleet: &Fleet) {
    let status = fleet.squall(&["status"]).ended(0);
    assert!(status.out.contains("\nunconfirmed, as of index "), "{status:#?}");
    assert_eq!(fleet.json(&["status"])["cluster"]["confirmed"], false);
    for list in ["nodes", "ls", "faults"] {
        let said = fleet.squall(&[list]).ended(0);
        assert!(said.err.starts_with("unconfirmed, as of index "), "{said:#?}");
        let rows = fleet.json(&[list]);
        let rows = rows.as_array().expect("a list");
        assert!(rows.iter().all(|row| row["confirmed"] == false), "{rows:#?}");
        assert!(!rows.is_empty() || list == "faults", "nothing is in {list}");
    }
}

#[test]
fn without_a_quorum_every_host_stops_and_nothing_starts_before_its_resume() {
    let fleet = fleet(5, 3);
    // Nothing but the stop may end them so soon.
    let cut = fleet.start(&long("h1", "partition: { peers: [h2, h3] }", "30s"));
    let burn = fleet.start(&long("h2", "cpu: { workers: 1, load: 20 }", "30s"));
    assert_eq!(fleet.traces("h1").len(), 3, "a holder, two tables: {:?}", fleet.traces("h1"));
    // Whoever leads dies, and one more.
    let lead = leader(&fleet);
    let alone = *COORDINATORS.iter().rev().find(|c| **c != lead).expect("a follower");
    let dead: Vec<&str> = COORDINATORS.into_iter().filter(|c| *c != alone).collect();
    for coordinator in &dead {
        assert_eq!(fleet.signal(coordinator, "coordinator", "KILL"), 1);
    }

    // Whoever submits one may leave.
    let short = fleet.file("short.yaml", SHORT).display().to_string();
    let submitting = fleet.begin(&["run", &short]);
    std::thread::sleep(Duration::from_secs(1));
    submitting.signal("INT");
    let said = submitting.end().ended(4);
    assert!(said.err.contains("left before a coordinator had answered"), "{said:#?}");

    let said = stop_all(&fleet);
    assert_eq!(said.json()["committed"], false, "{said:#?}");
    assert!(last_line(&said).contains("The log has no quorum"), "{said:#?}");
    let lifted: Vec<(String, i64)> = receipts(&said)
        .iter()
        .map(|h| (h["host"].as_str().unwrap().to_owned(), h["lifted"].as_i64().unwrap()))
        .collect();
    let wanted = [("h1", 1), ("h2", 1), ("h3", 0), ("h4", 0), ("h5", 0)];
    assert_eq!(lifted, wanted.map(|(h, n)| (h.to_owned(), n)), "{said:#?}");
    let stop = done(said, 5);
    for host in HOSTS {
        assert_eq!(fleet.traces(host), [""; 0], "{host}");
    }

    answers_are_marked(&fleet);
    // Whoever follows one is told.
    let watching = fleet.begin(&["watch", &cut]);
    std::thread::sleep(Duration::from_secs(9));
    watching.signal("INT");
    let said = watching.end();
    assert!(said.err.contains("no quorum confirms anything"), "{said:#?}");
    // No quorum: nobody says yes, and the host itself says no.
    let file = fleet.file("short.yaml", SHORT).display().to_string();
    let said = fleet.squall(&["run", &file]);
    assert!([3, 4].contains(&said.code), "{said:#?}");
    assert_eq!(fleet.traces("h1"), [""; 0]);
    // Stopping needs no quorum; releasing does.
    let _ = fleet.squall(&["resume", &stop]).ended(4);
    let _ = fleet.on("h1", &["squall", "inject", "cpu", "--load", "5", "--for", "5s"]).ended(3);
    // What was latched durably is latched after a death.
    assert_eq!(fleet.signal("h4", "agent", "KILL"), 1);
    fleet.revive("h4", "agent");

    // The only coordinator that took the stop dies; two that never heard of it make a quorum.
    assert_eq!(fleet.signal(alone, "coordinator", "KILL"), 1);
    for coordinator in &dead {
        fleet.revive(coordinator, "coordinator");
    }
    with_quorum(&fleet);
    for host in HOSTS {
        fleet.await_state(host, "latched");
    }
    refused_by(&fleet, &stop);
    let said = fleet.on("h4", &["squall", "inject", "cpu", "--load", "5", "--for", "5s"]).ended(3);
    assert!(said.err.contains(&stop), "{said:#?}");

    // A resume of something else releases nothing; nor does one that names nothing.
    let _ = fleet.squall(&["resume", &Uuid::from_u128(rand::random()).to_string()]).ended(2);
    let said = fleet.squall(&["resume"]).ended(2);
    assert!(said.err.contains(&format!("squall resume {stop}")), "{said:#?}");
    refused_by(&fleet, &stop);
    released(&fleet, &stop);
    runs_short(&fleet);

    // What had been running ended by the stop, and says so.
    for id in [cut, burn] {
        let shown = fleet.json(&["show", &id]);
        assert_eq!((&shown["state"], &shown["verdict"]), (&"settled".into(), &"stopped".into()));
        assert_eq!(shown["residue"], Value::Array(Vec::new()), "{shown:#}");
    }
    fleet.revive(alone, "coordinator");
    until(30_000, "the third has caught up and knows no stop", || {
        let status = fleet.json(&["status"]);
        let all = status["coordinators"].as_array()?.clone();
        let applied = |name: &str| all.iter().find(|c| c["id"] == name)?["applied"].as_u64();
        let same = applied(alone)? == applied(dead[0])?;
        (same && status["cluster"]["armed"] == true).then_some(())
    });
    runs_short(&fleet);
}

/// Foreign rules on a host: all coordinators' packets vanish, both ways, marked or not.
fn cut_from_coordinators(fleet: &Fleet, host: &str) {
    let rules = "add table ip foreign; \
        add chain ip foreign in { type filter hook input priority 0; }; \
        add chain ip foreign out { type filter hook output priority 0; }; \
        add rule ip foreign in ip saddr 10.77.200.0/24 drop; \
        add rule ip foreign out ip daddr 10.77.200.0/24 drop";
    let _ = fleet.on(host, &["nft", rules]).ended(0);
}

#[test]
fn what_may_be_held_on_a_host_that_nobody_hears_is_listed() {
    let fleet = fleet(3, 1);
    let id = fleet.start(&long("h3", "cpu: { workers: 1, load: 20 }", "20s"));
    cut_from_coordinators(&fleet, "h3");
    until(12_000, "h3 is unheard", || {
        let said = fleet.squall(&["faults", "-o", "json"]);
        let one = said.json().as_array()?.first()?.clone();
        assert_eq!(said.code, if one["phase"] == "unheard" { 6 } else { 0 }, "{said:#?}");
        assert_eq!((&one["host"], &one["experiment"]), (&"h3".into(), &id.as_str().into()));
        (one["phase"] == "unheard").then_some(())
    });
    assert_eq!(fleet.pids("h3", "hold").len(), 1, "it is held all the while");
    let said = fleet.squall(&["faults", "-o", "json"]).ended(6);
    assert!(said.err.contains("not heard by the coordinator that answered: h3"), "{said:#?}");
    assert_eq!(said.json()[0]["remaining_ms"], Value::Null, "{said:#?}");
    let _ = fleet.squall(&["faults"]).ended(6);
    let heard = |host: &str| fleet.host(host)["heard"].clone();
    assert_eq!([heard("h3"), heard("h1")], [Value::Bool(false), Value::Bool(true)]);
}

#[test]
fn a_host_that_no_coordinator_reaches_is_stopped_by_its_neighbours() {
    let fleet = fleet(4, 3);
    // A lease so long that it cannot be what lifts.
    let _ = fleet.start(&long("h3", "cpu: { workers: 1, load: 20 }", "15s"));
    assert_eq!(fleet.pids("h3", "hold").len(), 1);
    cut_from_coordinators(&fleet, "h3");
    let stopping = fleet.begin(&["stop-all", "-o", "json"]);
    let (_, took) =
        until(6_000, "h3 has lifted", || fleet.pids("h3", "hold").is_empty().then_some(()));
    println!("lifted by relay {} ms after the command", took.as_millis());
    // A disk and a log: nothing of what is promised.
    until(10_000, "h3 says why, and that its latch is durable", || {
        let log = fleet.log("h3", "agent");
        (log.contains("stop, by relay") && log.contains("latched=Durable")).then_some(())
    });
    let said = fleet.on("h3", &["squall", "inject", "cpu", "--load", "5", "--for", "9s"]).ended(3);
    assert_eq!(fleet.traces("h3"), [""; 0]);
    let lift = fleet.on("h3", &["squall", "lift", "-o", "json"]).ended(0);
    assert!(lift.json().as_array().is_some_and(|left| left.iter().all(|f| f["phase"] != "stuck")));

    // Nobody here saw h3's receipt, and nobody says so.
    let said_all = stopping.end().ended(5);
    let stop = stop_of(&said_all);
    assert!(said.err.contains(&stop), "{said:#?}");
    let h3 = receipts(&said_all).into_iter().find(|h| h["host"] == "h3").expect("h3");
    assert_eq!((&h3["state"], &h3["latched"]), (&"lapsed".into(), &Value::Null), "{h3}");
    assert!(last_line(&said_all).contains("h3: lapsed by time, not seen"), "{said_all:#?}");
    assert_eq!(said_all.json()["done"], false);

    // Not resumed while it is not seen; seen again it answers, and then it is.
    let refusal = fleet.squall(&["resume", &stop]).ended(3);
    assert!(refusal.err.contains("h3") && refusal.err.contains("--despite"), "{refusal:#?}");
    let _ = fleet.on("h3", &["nft", "delete table ip foreign"]).ended(0);
    fleet.await_state("h3", "latched");
    let second = done(stop_all(&fleet), 4);
    // Whoever leads may be the last to whom h3 comes back.
    until(10_000, "h3 is back at the leader, and both stops are released", || {
        let said = fleet.squall(&["resume", &stop, &second]);
        assert!(said.code == 0 || said.err.contains("not seen stopped: h3"), "{said:#?}");
        (said.code == 0).then_some(())
    });
    fleet.await_state("h3", "armed");
    runs_short(&fleet);
}

fn states(fleet: &Fleet) -> Vec<String> {
    let status = fleet.json(&["status"]);
    let hosts = status["hosts"].as_array().expect("hosts");
    hosts.iter().map(|h| h["state"].as_str().unwrap_or_default().to_owned()).collect()
}

fn to(fleet: &Fleet, host: &str, port: u16) -> SocketAddr {
    SocketAddr::new(fleet.lab.host(host).expect("a host").address, port)
}

#[test]
fn forged_and_replayed_datagrams_change_nothing() {
    let fleet = fleet(3, 3);
    until(30_000, "the hosts know each other", || {
        (fleet.json(&["views"])["verdict"] == "agree").then_some(())
    });
    // Real stop records and real gossip, overheard.
    let (relay, gossip) = (Ear::open(&fleet, "h2", RELAY), Ear::open(&fleet, "h2", GOSSIP));
    let stop = done(stop_all(&fleet), 3);
    std::thread::sleep(Duration::from_secs(2));
    let (records, beats) = (relay.close(), gossip.close());
    assert!(!records.is_empty(), "no stop was relayed to h2");
    assert!(beats.len() > 4, "{} beats were heard", beats.len());
    let _ = fleet.squall(&["resume", &stop]).ended(0);
    for host in ["h1", "h2", "h3"] {
        fleet.await_state(host, "armed");
    }

    // Replayed: a stop that a resume has named stops nobody twice.
    let gap = Duration::from_millis(5);
    for from in ["h1", "h3", "c1"] {
        throw(&fleet, from, to(&fleet, "h2", RELAY), records.clone(), gap).join().unwrap();
        throw(&fleet, from, to(&fleet, "h2", GOSSIP), beats.clone(), gap).join().unwrap();
    }
    // Forged: noise, damaged ones, and records of those who may not stop: another cluster's
    // coordinator, this cluster's agents and operators.
    let noise: Vec<Vec<u8>> =
        (1..=200).map(|n| (0..n * 7).map(|_| rand::random::<u8>()).collect()).collect();
    let damaged = records.iter().chain(&beats).map(|one| {
        let mut one = one.clone();
        let place = rand::random_range(0..one.len());
        one[place] ^= 1 << rand::random_range(0..8);
        one
    });
    let damaged: Vec<Vec<u8>> = damaged.collect();
    let new = StopId(Uuid::from_u128(rand::random()));
    let stranger = ClusterAuthority::create("t").expect("another authority");
    let stranger = stranger.issue(Role::Coordinator, "c1", 1).expect("a certificate");
    let agent = Identity::load(&fleet.path("h1", "/etc/squall/identity")).expect("an agent");
    let operator = fleet.lab.cluster().expect("a cluster").join("operator");
    let operator = Identity::load(&operator).expect("an operator");
    let forged: Vec<Vec<u8>> = [&stranger, &agent, &operator].map(|id| id.sign_stop(new)).into();
    for port in [RELAY, GOSSIP] {
        for lot in [&noise, &damaged, &forged] {
            throw(&fleet, "h3", to(&fleet, "h2", port), lot.clone(), gap).join().unwrap();
        }
    }
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(states(&fleet), ["armed"; 3]);
    assert_eq!(fleet.json(&["status"])["cluster"]["stops"], Value::Array(Vec::new()));
    assert!(!fleet.log("h2", "agent").contains("panicked"));
    for words in ["relayed stops were refused", "gossip datagrams were refused"] {
        assert!(fleet.log("h2", "agent").contains(words), "nobody counted the forgeries: {words}");
    }
    runs_short(&fleet);

    replayed_beats_hide_no_partition(&fleet, &beats);

    // The same hands, with a record that a coordinator did sign: this one stops everything.
    let coordinator = Identity::load(&fleet.path("c1", "/etc/squall/coordinator/identity"));
    let real = coordinator.expect("a coordinator").sign_stop(new);
    throw(&fleet, "h3", to(&fleet, "h2", RELAY), vec![real], gap).join().unwrap();
    for host in ["h1", "h2", "h3"] {
        fleet.await_state(host, "latched");
    }
    refused_by(&fleet, &new.to_string());
    let key = GossipKey::load(&fleet.path("h1", "/etc/squall/identity"));
    assert!(key.is_ok(), "the forgers had everything that a host has");
}

fn replayed_beats_hide_no_partition(fleet: &Fleet, beats: &[Vec<u8>]) {
    // h2 hears nothing of h1 any more, but for old beats from a third hand.
    let id = fleet.start(&long("h1", "partition: { peers: [h2, h3] }", "5s"));
    let looking = Arc::new(AtomicBool::new(true));
    let (again, looks) = (beats.to_vec(), looking.clone());
    let again =
        again.into_iter().cycle().take_while(move |_| looks.load(Ordering::Relaxed)).take(20_000);
    let thrown = throw(fleet, "h3", to(fleet, "h2", GOSSIP), again, Duration::from_millis(5));
    until(20_000, "the partition shows although old beats are replayed", || {
        let views = fleet.json(&["views"]);
        let edges = views["edges"].as_array()?.clone();
        let cut = edges.iter().any(|e| e["from"] == "h1" && e["to"] == "h2");
        (views["verdict"] == "partition" && cut).then_some(())
    });
    assert!(!thrown.is_finished(), "the replay was over before anybody looked");
    looking.store(false, Ordering::Relaxed);
    thrown.join().expect("the thrower ends");
    let _ = fleet.squall(&["stop", &id]).ended(0);
}

#[test]
fn a_stop_meets_a_fault_wherever_it_is() {
    let fleet = fleet(3, 1);
    let text = long("h1", "partition: { peers: [h2] }", "5s");
    let file = fleet.file("long.yaml", &text).display().to_string();
    for round in 0..8u64 {
        let running = fleet.begin(&["run", &file]);
        if round % 2 == 0 {
            // Frozen in the middle of applying: it can neither go on nor be asked to lift.
            until(20_000, "a holder", || {
                let pids = fleet.pids("h1", "hold");
                (!pids.is_empty()).then(|| fleet.signal("h1", "hold", "STOP"))
            });
        } else {
            std::thread::sleep(Duration::from_millis(20 * round));
        }
        let stop = done(stop_all(&fleet), 3);
        assert_eq!(fleet.traces("h1"), [""; 0], "round {round}: right after the receipt");
        let said = running.end();
        // Stopped, or refused as it came after the stop: never held, never broken.
        let expected: &[i32] = if round % 2 == 0 { &[7] } else { &[3, 7] };
        assert!(expected.contains(&said.code), "round {round}: {said:#?}");
        assert_eq!(fleet.traces("h1"), [""; 0], "round {round}: nothing comes later");
        let _ = fleet.squall(&["resume", &stop]).ended(0);
        fleet.await_state("h1", "armed");
        println!("round {round}: run ended with {}", said.code);
    }
}

#[test]
fn each_stop_is_released_by_its_own_name() {
    let fleet = fleet(3, 3);
    let _ = fleet.start(&long("h2", "cpu: { workers: 1, load: 20 }", "5s"));
    // Two at once, from two operators' hands.
    let (one, two) =
        (fleet.begin(&["stop-all", "-o", "json"]), fleet.begin(&["stop-all", "-o", "json"]));
    let (one, two) = (done(one.end(), 3), done(two.end(), 3));
    assert_ne!(one, two);
    let said = fleet.squall(&["resume", &one, "-o", "json"]).ended(0);
    assert_eq!(said.json()["armed"], false, "{said:#?}");
    refused_by(&fleet, &two);
    let _ = fleet.squall(&["resume", &two]).ended(0);
    runs_short(&fleet);
    // To release it again changes nothing.
    let said = fleet.squall(&["resume", &one, "-o", "json"]).ended(0);
    assert_eq!(said.json()["armed"], true, "{said:#?}");

    // A host that is dead while the fleet stops is named, and is in the way of a resume.
    assert_eq!(fleet.signal("h3", "agent", "KILL"), 1);
    fleet.await_state("h3", "unconnected");
    let said = stop_all(&fleet).ended(5);
    assert!(last_line(&said).contains("h3"), "{said:#?}");
    let h3 = receipts(&said).into_iter().find(|h| h["host"] == "h3").expect("h3");
    assert!(h3["lifted"].is_null() && h3["latched"].is_null(), "{h3}");
    let first = stop_of(&said);
    let table = fleet.squall(&["stop-all"]).ended(5);
    let second = table.out.lines().find_map(|l| l.strip_prefix("release: squall resume "));
    let second = second.unwrap_or_else(|| panic!("no way on: {table:#?}")).to_owned();
    assert!(table.out.lines().last().is_some_and(|l| l.starts_with("NOT DONE")), "{table:#?}");
    assert_ne!(first, second, "a repeated stop-all is a stop of its own");
    // Whoever does not wait for h3 hears how it stands; the stop stands.
    let leaving = fleet.begin(&["stop-all", "-o", "json"]);
    std::thread::sleep(Duration::from_secs(3));
    leaving.signal("INT");
    let said = leaving.end().ended(5);
    assert!(said.err.contains("waiting for h3: ") && last_line(&said).contains("h3"), "{said:#?}");
    let third = stop_of(&said);
    let refusal = fleet.squall(&["resume", &first, &second]).ended(3);
    assert!(refusal.err.contains("not seen stopped: h3"), "{refusal:#?}");
    let _ = fleet.squall(&["resume", &first, "--despite", "h2"]).ended(3);
    let rest = ["resume", &second, &third[..8], "--despite", "h3"];
    let said = fleet.squall(&["resume", &first, "--despite", "h3"]).ended(0);
    assert!(said.out.contains(&third), "the one that was left stands too: {said:#?}");
    let _ = fleet.squall(&rest).ended(0);
    fleet.revive("h3", "agent");
    fleet.await_state("h3", "armed");
    runs_short(&fleet);
}

#[test]
fn what_a_person_holds_on_a_host_in_the_dark_is_not_called_lapsed() {
    let fleet = fleet(3, 1);
    let inject = ["squall", "inject", "cpu", "--workers", "1", "--load", "5", "--for", "2m"];
    let mut inject: Vec<&str> = inject.into();
    inject.extend(["-o", "json"]);
    let person = Running::begin(fleet.lab.exec("h3", &inject));
    until(20_000, "h3 reports it", || {
        let held = fleet.json(&["faults"]);
        let held = held.as_array()?.first()?.clone();
        (held["phase"] == "held" && held["experiment"].is_null()).then_some(())
    });
    // That is not the cluster's to clear, and it says whose it is.
    let said = fleet.squall(&["faults", "clear"]).ended(5);
    assert!(said.err.contains("h3: held by a person's squall inject"), "{said:#?}");
    assert_eq!(fleet.pids("h3", "hold").len(), 1, "{said:#?}");
    // No coordinator, no neighbour reaches h3: no stop can, and no lease of the cluster's ends it.
    let rules = "add table ip foreign; \
        add chain ip foreign in { type filter hook input priority 0; }; \
        add rule ip foreign in ip saddr 10.77.0.0/16 drop";
    let _ = fleet.on("h3", &["nft", rules]).ended(0);
    for round in ["while it is thought to be connected", "when it is known not to be"] {
        let said = stop_all(&fleet).ended(5);
        let h3 = receipts(&said).into_iter().find(|h| h["host"] == "h3").expect("h3");
        assert_eq!(h3["state"], "lapsing", "{round}: {said:#?}");
        assert!(h3["lapses_in_ms"].as_u64() > Some(30_000), "{round}: {said:#?}");
        assert!(last_line(&said).contains("h3"), "{round}: {said:#?}");
        assert_eq!(fleet.pids("h3", "hold").len(), 1, "{round}: it is there still");
        fleet.await_state("h3", "unconnected");
    }
    // Heard again, h3 learns of the stops, and the person hears why it is over.
    let _ = fleet.on("h3", &["nft", "delete table ip foreign"]).ended(0);
    let said = person.end().ended(7);
    assert_eq!(said.json()["ended_by"], "stop", "{said:#?}");
    assert_eq!(fleet.traces("h3"), [""; 0]);
}
