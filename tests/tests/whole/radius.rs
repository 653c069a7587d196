//! No experiment and no sum of experiments exceeds the blast radius; the host has the last word.

use std::fs::File;
use std::io::Write;

use squall_cluster::Up;
use squall_tests::fleet::{Fleet, Said, until};

const HOSTS: [&str; 5] = ["h1", "h2", "h3", "h4", "h5"];

fn fleet() -> Fleet {
    let labels = ["h1", "h2", "h3"].map(|h| format!("{h}=group=etcd")).into();
    Fleet::up(&Up { hosts: 5, coordinators: 1, labels, ..Up::default() })
}

/// A little load on some hosts, for minutes.
fn load(name: &str, targets: &str, safety: &str) -> String {
    format!(
        "name: {name}\ntargets: {{ {targets} }}\nfaults:\n  - cpu: {{ workers: 1, load: 5 }}\n\
         duration: 5m\nsafety: {{ {safety} }}\n"
    )
}

/// Submits, does not wait for the verdict.
fn submit(fleet: &Fleet, text: &str) -> Said {
    let file = fleet.file("experiment.yaml", text).display().to_string();
    fleet.squall(&["run", "--detach", &file])
}

fn refused(fleet: &Fleet, text: &str, words: &[&str]) {
    let said = submit(fleet, text).ended(3);
    for word in words {
        assert!(said.err.contains(word), "`{word}` is not said: {said:#?}");
    }
    assert!(said.err.contains("nothing was started on any host"), "{said:#?}");
}

fn clear(fleet: &Fleet) -> Said {
    let said = fleet.squall(&["faults", "clear"]).ended(0);
    for host in HOSTS {
        assert_eq!(fleet.traces(host), [""; 0], "{host}");
    }
    said
}

#[test]
fn what_exceeds_the_radius_is_refused_with_the_numbers() {
    let fleet = fleet();
    // One experiment by itself.
    let words =
        ["blast radius of the experiment: 2 of 5 hosts = 0.4, more than 0.3: at most 1 host"];
    refused(&fleet, &load("wide", "hosts: [h1, h2]", ""), &words);
    refused(
        &fleet,
        &load("all", "all: true", "max-blast-radius: 0.9"),
        &["of 5 hosts = 1, more than 0.9: at most 4 hosts"],
    );
    let group = load("group", "group: etcd, count: 2", "of: group, max-blast-radius: 0.5");
    refused(
        &fleet,
        &group,
        &["blast radius of the group etcd: 2 of 3 hosts = 0.667, more than 0.5: at most 1 host"],
    );

    // Two together: the second is refused, with who holds the rest.
    let first = fleet.start(&load("first", "hosts: [h1, h2]", "max-blast-radius: 0.4"));
    let words = [
        "blast radius of the fleet: 3 of 5 hosts = 0.6, more than 0.5: at most 2 hosts",
        "(first) holds h1, h2",
        &first[..8],
    ];
    refused(&fleet, &load("second", "hosts: [h3]", ""), &words);
    assert_eq!(fleet.traces("h3"), [""; 0]);
    // On hosts that are hit already it takes nothing more.
    let again = fleet.start(&load("again", "hosts: [h2]", ""));
    let plan = fleet.file("plan.yaml", &load("second", "hosts: [h3]", "")).display().to_string();
    let planned = fleet.squall(&["plan", &plan]).ended(3);
    assert!(planned.err.contains(words[0]) && planned.err.contains(words[1]), "{planned:#?}");
    // What is over gives its share back.
    let _ = fleet.squall(&["stop", &first]).ended(0);
    let _ = fleet.squall(&["stop", &again]).ended(0);
    let second = fleet.start(&load("second", "hosts: [h3]", ""));
    let said = clear(&fleet);
    assert!(said.err.contains(&format!("second ({}): ", &second[..8])), "{said:#?}");

    // Four at the very same time: two fit.
    let files = ["h1", "h2", "h3", "h4"].map(|host| {
        let text = load(&format!("at-once-{host}"), &format!("hosts: [{host}]"), "");
        fleet.file(&format!("{host}.yaml"), &text).display().to_string()
    });
    let runs = files.map(|file| fleet.begin(&["run", "--detach", &file]));
    let mut codes = runs.map(|run| run.end().code);
    codes.sort_unstable();
    assert_eq!(codes, [0, 0, 3, 3]);
    let _ = clear(&fleet);

    // Five experiments, however small.
    for n in 1..=5 {
        let _ = fleet.start(&load(&format!("small-{n}"), "hosts: [h1]", ""));
    }
    refused(
        &fleet,
        &load("small-6", "hosts: [h1]", ""),
        &["5 experiments run already, at most 5 may"],
    );
    assert_eq!(fleet.json(&["faults"]).as_array().map(Vec::len), Some(5));
    let _ = clear(&fleet);
}

#[test]
fn a_plan_sees_a_fleet_that_is_not_fit() {
    let fleet = fleet();
    let plan = fleet.file("plan.yaml", &load("planned", "hosts: [h5]", "")).display().to_string();
    assert_eq!(fleet.json(&["plan", &plan])["refusal"], serde_json::Value::Null);
    for host in ["h1", "h2"] {
        assert_eq!(fleet.signal(host, "agent", "STOP"), 1);
    }
    let refused = || Some(fleet.squall(&["plan", &plan])).filter(|said| said.code == 3);
    let (said, _) = until(10_000, "the plan sees it", refused);
    assert!(said.err.contains("3 of 5 hosts are healthy, fewer than 0.7"), "{said:#?}");
    for host in ["h1", "h2"] {
        assert_eq!(fleet.signal(host, "agent", "CONT"), 1);
    }
}

#[test]
fn a_plan_changes_nothing_and_a_drained_host_takes_nothing() {
    let fleet = fleet();
    let as_of = |fleet: &Fleet| fleet.json(&["status"])["cluster"]["as_of"].as_u64();
    let before = as_of(&fleet);
    let plan = fleet.file("plan.yaml", &load("planned", "percent: 20", "")).display().to_string();
    let mut drawn = std::collections::BTreeSet::new();
    for _ in 0..6 {
        let plan = fleet.json(&["plan", &plan]);
        drawn.insert(plan["targets"].to_string());
        assert_eq!(plan["refusal"], serde_json::Value::Null, "{plan:#}");
    }
    let table = fleet.squall(&["plan", &plan]).ended(0);
    assert!(table.out.contains("1 of 5 hosts = 0.2, at most 0.3"), "{table:#?}");
    assert!(
        table.out.contains("a run draws anew"),
        "an example is taken for a promise: {table:#?}"
    );
    assert_eq!(as_of(&fleet), before, "a plan wrote into the log");
    assert_eq!(fleet.json(&["ls"]).as_array().map(Vec::len), Some(0));
    for host in HOSTS {
        assert_eq!(fleet.traces(host), [""; 0], "{host}");
    }
    println!("drawn: {drawn:?}");

    // Out of service: no target by name, by chance or as part of all, and not counted.
    for host in ["h1", "h2"] {
        let _ = fleet.squall(&["agent", "drain", host]).ended(0);
        fleet.await_state(host, "drained");
    }
    refused(
        &fleet,
        &load("drained", "hosts: [h1]", ""),
        &["drained", "squall agent drain --undo h1"],
    );
    let words = ["3 of 3 hosts = 1, more than 0.3: at most 1 host"];
    refused(&fleet, &load("all", "all: true", ""), &words);
    for n in 0..4 {
        let id = fleet.start(&load(&format!("drawn-{n}"), "count: 1", ""));
        let targets =
            fleet.json(&["ls"]).as_array().expect("a list").last().expect("one")["targets"].clone();
        assert!(
            !targets.to_string().contains("h1") && !targets.to_string().contains("h2"),
            "{targets}"
        );
        let _ = fleet.squall(&["stop", &id]).ended(0);
    }
    let _ = fleet.squall(&["agent", "drain", "h9"]).ended(2);
    let _ = fleet.squall(&["agent", "drain", "h1", "--undo"]).ended(0);
    fleet.await_state("h1", "armed");
    let _ = fleet.start(&load("back", "hosts: [h1]", ""));
    // Whoever drains a host hears when it is whole.
    assert_ne!(fleet.traces("h1"), [""; 0]);
    let said = fleet.squall(&["agent", "drain", "h1", "-o", "json"]).ended(0);
    assert_eq!(fleet.traces("h1"), [""; 0], "{said:#?}");
    let whole = serde_json::json!({"host": "h1", "drained": true, "faults": [], "whole": true});
    assert_eq!(said.json(), whole);
    let _ = clear(&fleet);
    // Of one that nobody hears, nothing is said but that.
    assert_eq!(fleet.signal("h3", "agent", "KILL"), 1);
    fleet.await_state("h3", "unconnected");
    let said = fleet.squall(&["agent", "drain", "h3"]).ended(5);
    assert_eq!(said.out, "h3 is drained, and was not seen whole: squall nodes\n");
    a_host_that_is_gone_is_forgotten(&fleet);
}

/// h1 and h3 are drained, and h3's agent is dead.
fn a_host_that_is_gone_is_forgotten(fleet: &Fleet) {
    let forget = |host| fleet.squall(&["agent", "forget", host]);
    for (host, why) in [("h1", "its agent is connected"), ("h4", "its agent is connected")] {
        let said = forget(host).ended(3);
        assert!(said.err.contains(why), "{said:#?}");
    }
    let _ = forget("h9").ended(2);
    assert_eq!(forget("h3").ended(0).out, "h3 is forgotten\n");
    // No stop waits for it any more, and no resume.
    let said = fleet.squall(&["stop-all", "-o", "json"]).ended(0).json();
    assert_eq!(said["hosts"].as_array().map(Vec::len), Some(4), "{said:#}");
    let stop = said["stop"].as_str().expect("an id").to_owned();
    let _ = fleet.squall(&["resume", &stop]).ended(0);
    // It is not gone after all, and learns of the stop before it takes anything.
    fleet.revive("h3", "agent");
    until(20_000, "it is registered again", || {
        let status = fleet.json(&["status"]);
        status["hosts"].as_array()?.iter().any(|h| h["name"] == "h3").then_some(())
    });
    fleet.await_state("h3", "armed");
    let _ = fleet.start(&load("again", "hosts: [h3]", ""));
    clear(fleet);
}

const POLICY: &str = "/etc/squall/policy.toml";

/// Gives a host a policy, as its owner would: a file, and the agent started anew.
fn with_policy(fleet: &Fleet, host: &str, policy: &str) {
    std::fs::write(fleet.path(host, POLICY), policy).expect("written");
    assert_eq!(fleet.signal(host, "agent", "TERM"), 1);
    squall_tests::fleet::until(20_000, "the agent has ended", || {
        fleet.pids(host, "agent").is_empty().then_some(())
    });
    fleet.revive(host, "agent");
    fleet.await_state(host, "armed");
}

#[test]
fn the_host_has_the_last_word() {
    let fleet = fleet();
    with_policy(&fleet, "h1", "allow = [\"cpu\"]\nmax-cpu-percent = 10\nmax-duration = \"1m\"\n");
    let file = |name: &str, fault: &str, duration: &str| {
        let text = format!(
            "name: {name}\ntargets: {{ hosts: [h1] }}\nfaults:\n  - {fault}\nduration: {duration}\n"
        );
        fleet.file("policy.yaml", &text).display().to_string()
    };
    let cases = [
        (
            "partition: { peers: [h2] }",
            "20s",
            "policy: partition is not allowed on this host (allowed: cpu)",
        ),
        (
            "cpu: { load: 50 }",
            "20s",
            "policy: a load of 50 percent is more than the 10 that this host allows",
        ),
        ("cpu: { load: 5 }", "2m", "policy: 2m is longer than the 1m that this host allows"),
    ];
    for (fault, duration, reason) in cases {
        let said = fleet.squall(&["run", "-o", "json", &file("refused", fault, duration)]).ended(3);
        let view = said.json();
        assert_eq!(view["verdict"], "refused", "{view:#}");
        assert!(view["reasons"].to_string().contains(reason), "`{reason}`: {view:#}");
        assert!(view["reasons"].to_string().contains("h1"), "no host is named: {view:#}");
        assert!(said.err.contains(reason), "a person is not told: {said:#?}");
        assert_eq!(fleet.traces("h1"), [""; 0]);
    }
    // Whoever asks with others is refused before anything begins on them, and a plan says so.
    let both = fleet.file(
        "both.yaml",
        "name: both\ntargets: { hosts: [h1, h2] }\nfaults:\n  - cpu: { load: 50 }\nduration: 20s\nsafety: { max-blast-radius: 0.5 }\n",
    );
    let both = both.display().to_string();
    let said = fleet.squall(&["plan", &both]).ended(3);
    let reason = "h1 refuses: policy: a load of 50 percent is more than the 10";
    assert!(said.err.contains(reason), "{said:#?}");
    let view = fleet.squall(&["run", "-o", "json", &both]).ended(3).json();
    assert_eq!(view["verdict"], "refused", "{view:#}");
    assert!(!view["timeline"].to_string().contains("injecting"), "{view:#}");
    assert_eq!(fleet.traces("h2"), [""; 0]);
    // It binds whoever is on the host, too; and what it allows still works.
    let said =
        fleet.on("h1", &["squall", "inject", "partition", "--peers", "10.77.0.2", "--for", "9s"]);
    assert!(said.ended(3).err.contains("policy: partition is not allowed on this host"));
    let _ = fleet.squall(&["run", &file("allowed", "cpu: { load: 5 }", "1s")]).ended(0);
    // Also where no agent runs, and a person is all there is.
    assert_eq!(fleet.signal("h1", "agent", "TERM"), 1);
    squall_tests::fleet::until(20_000, "the agent has ended", || {
        fleet.pids("h1", "agent").is_empty().then_some(())
    });
    let said =
        fleet.on("h1", &["squall", "inject", "partition", "--peers", "10.77.0.2", "--for", "9s"]);
    assert!(said.ended(3).err.contains("policy: partition is not allowed on this host"));
    // A policy that cannot be read is no policy: nothing is held; but what is held can be lifted.
    let mut policy = File::options().append(true).open(fleet.path("h1", POLICY)).expect("open");
    writeln!(policy, "alow = []").expect("written");
    let said = fleet.on("h1", &["squall", "inject", "cpu", "--load", "5", "--for", "1s"]).ended(2);
    assert!(said.err.contains("/etc/squall/policy.toml:4:1"), "{said:#?}");
    let said = fleet.on("h1", &["squall", "agent", "--config", "/etc/squall/agent.toml"]).ended(2);
    assert!(said.err.contains("/etc/squall/policy.toml:4:1"), "{said:#?}");
    let _ = fleet.on("h1", &["squall", "lift"]).ended(0);
}

#[test]
fn with_fewer_than_seven_of_ten_hosts_healthy_nothing_starts() {
    let fleet = fleet();
    for host in ["h4", "h5"] {
        assert_eq!(fleet.signal(host, "agent", "KILL"), 1);
        fleet.await_state(host, "unconnected");
    }
    let file = fleet.file("sick.yaml", &load("sick", "hosts: [h1]", "")).display().to_string();
    let said = fleet.squall(&["run", &file]).ended(3);
    assert!(said.out.contains("3 of 5 hosts are healthy, fewer than 0.7"), "{said:#?}");
    assert_eq!(fleet.traces("h1"), [""; 0]);
    fleet.revive("h4", "agent");
    fleet.await_state("h4", "armed");
    // Enough of them; but who is gone takes no share of what may be hurt.
    let two = load("two", "hosts: [h1, h2]", "max-blast-radius: 0.4");
    let two = fleet.file("two.yaml", &two).display().to_string();
    for command in ["plan", "run"] {
        let said = fleet.squall(&[command, &two]).ended(3);
        let words = "counting hosts that are healthy or hurt already: blast radius of the experiment: 2 of 4 hosts";
        assert!(format!("{}{}", said.out, said.err).contains(words), "{said:#?}");
    }
    assert_eq!(fleet.traces("h1"), [""; 0]);
    let _ = fleet.start(&load("well", "hosts: [h1]", ""));
    let _ = clear(&fleet);
}
