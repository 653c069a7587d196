//! What scripts build on: fields, exit codes, and what the first and the second Ctrl-C do.

mod schema;

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use squall_cluster::Up;
use squall_tests::air::serve;
use squall_tests::fleet::{Fleet, Running, Said, run, until};

fn examples() -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cluster/experiments");
    let paths = std::fs::read_dir(dir).expect("examples").flatten().map(|e| e.path());
    let mut found: Vec<(String, String)> = paths
        .map(|path| {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).expect("an example"))
        })
        .collect();
    found.sort();
    found
}

fn file(host: &str, fault: &str, rest: &str) -> String {
    format!("name: x\ntargets: {{ hosts: [{host}] }}\nfaults:\n  - {fault}\n{rest}\n")
}

const CPU: &str = "cpu: { workers: 1, load: 5 }";

/// A value has these fields, of these types: `s`tring, `n`umber, `b`ool, `a`rray, `o`bject; after a `?`
/// also null.
fn has(value: &Value, fields: &[(&str, &str)]) {
    for (field, types) in fields {
        let found = value.get(*field).unwrap_or_else(|| panic!("no field `{field}`: {value:#}"));
        let found = match found {
            Value::Null => '?',
            Value::Bool(_) => 'b',
            Value::Number(_) => 'n',
            Value::String(_) => 's',
            Value::Array(_) => 'a',
            Value::Object(_) => 'o',
        };
        assert!(types.contains(found), "`{field}` is of type {found}, not {types}: {value:#}");
    }
}

fn first<'a>(value: &'a Value, field: &str) -> &'a Value {
    let list = if field.is_empty() { value } else { &value[field] };
    list.get(0).unwrap_or_else(|| panic!("`{field}` is empty: {value:#}"))
}

const RUN: [(&str, &str); 18] = [
    ("id", "s"),
    ("name", "s"),
    ("type", "s"),
    ("state", "s"),
    ("verdict", "s?"),
    ("targets_affected", "n"),
    ("total_targets", "n"),
    ("blast_radius", "n?"),
    ("duration_ms", "n"),
    ("lease_ms", "n"),
    ("incidents", "a"),
    ("deviations", "a"),
    ("timeline", "a"),
    ("metrics", "a"),
    ("residue", "a"),
    ("reasons", "a"),
    ("faults", "a"),
    ("confirmed", "b"),
];

#[test]
fn scripts_find_what_the_design_promises_them() {
    let fleet = Fleet::up(&Up {
        hosts: 3,
        coordinators: 3,
        // One cohort: its members must see each other.
        labels: ["h1", "h2", "h3"].map(|h| format!("{h}=group=etcd")).into(),
        ..Up::default()
    });
    let id = fleet.start(&file("h1", "partition: { peers: [h2, h3] }", "duration: 10m"));
    let status = fleet.json(&["status"]);
    has(&status, &[("cluster", "o"), ("coordinators", "a"), ("hosts", "a"), ("experiments", "a")]);
    has(&status["cluster"], &[("id", "s"), ("leader", "s"), ("term", "n"), ("armed", "b")]);
    let coordinator =
        [("id", "s"), ("address", "s"), ("role", "s"), ("term", "n"), ("applied", "n")];
    has(first(&status, "coordinators"), &coordinator);
    let host = [
        ("name", "s"),
        ("id", "s"),
        ("address", "s"),
        ("labels", "o"),
        ("state", "s"),
        ("faults", "a"),
    ];
    has(first(&status, "hosts"), &host);
    assert_eq!(first(&status, "hosts")["labels"]["group"], "etcd");
    has(
        first(&status, "experiments"),
        &[("id", "s"), ("name", "s"), ("state", "s"), ("verdict", "?")],
    );
    has(
        first(&fleet.json(&["nodes"]), ""),
        &[("name", "s"), ("state", "s"), ("capabilities", "a")],
    );

    let faults = fleet.json(&["faults"]);
    let fault = [
        ("host", "s"),
        ("id", "s"),
        ("kind", "s"),
        ("params", "o"),
        ("experiment", "s"),
        ("name", "s"),
        ("phase", "s"),
        ("lease_ms", "n"),
        ("remaining_ms", "n"),
        ("achieved", "o"),
    ];
    has(first(&faults, ""), &fault);
    has(&first(&faults, "")["achieved"], &[("bit", "b"), ("requested", "s"), ("measured", "s")]);

    let (views, _) = until(30_000, "the partition shows", || {
        let views = fleet.json(&["views"]);
        (views["verdict"] == "partition").then_some(views)
    });
    let fields = [
        ("verdict", "s"),
        ("kind", "s"),
        ("sides", "a"),
        ("edges", "a"),
        ("authorities", "a"),
        ("cohorts", "a"),
    ];
    has(&views, &fields);
    has(first(&views, "edges"), &[("from", "s"), ("to", "s")]);
    assert!(first(&views, "sides").is_array(), "{views:#}");

    let shown = fleet.json(&["show", &id[..8]]);
    has(&shown, &RUN);
    assert_eq!((&shown["state"], &shown["verdict"]), (&"holding".into(), &Value::Null));
    has(first(&shown, "timeline"), &[("at", "s"), ("what", "s")]);

    let doctor = fleet.on("h1", &["squall", "doctor", "-o", "json"]).ended(0).json();
    let row =
        [("fault", "s"), ("backend", "s?"), ("fallbacks", "a"), ("held", "s"), ("reason", "s")];
    has(first(&doctor, "faults"), &row);
    for fault in doctor["faults"].as_array().expect("a list") {
        assert!(
            ["held", "needs-undo", "one-shot"].contains(&fault["held"].as_str().unwrap()),
            "{fault}"
        );
    }

    // The same as YAML; talk goes elsewhere, and no colour to a pipe.
    let yaml = fleet.squall(&["show", &id, "-o", "yaml"]).ended(0);
    let same: Value = serde_saphyr::from_str(&yaml.out).expect("YAML");
    assert_eq!(same["faults"][0]["host"], "h1");
    for args in [&["status"][..], &["nodes"], &["faults"], &["views"], &["ls"], &["show", &id]] {
        let said = fleet.squall(args).ended(0);
        assert!(
            said.err.is_empty() && !said.out.is_empty() && !said.out.contains('\x1b'),
            "{said:#?}"
        );
    }

    let stop = fleet.squall(&["stop-all", "-o", "json"]).ended(0).json();
    has(&stop, &[("stop", "s"), ("took_ms", "n"), ("committed", "b"), ("hosts", "a")]);
    let fields = [
        ("host", "s"),
        ("state", "s"),
        ("lifted", "n"),
        ("residue", "n"),
        ("latched", "s"),
        ("took_ms", "n"),
        ("lapses_in_ms", "n"),
    ];
    has(first(&stop, "hosts"), &fields);
    let resume = fleet.json(&["resume", stop["stop"].as_str().expect("an id")]);
    has(&resume, &[("resumed", "a"), ("armed", "b")]);

    // Every coordinator gone: 4, and nobody claims to have stopped anything.
    for coordinator in ["c1", "c2", "c3"] {
        assert_eq!(fleet.signal(coordinator, "coordinator", "KILL"), 1);
    }
    let path = fleet.file("x.yaml", &file("h1", CPU, "duration: 1s")).display().to_string();
    let runs = [&["status"][..], &["stop-all"], &["run", &path]].map(|args| fleet.begin(args));
    for (said, word) in runs.map(Running::end).into_iter().zip([
        "no coordinator answered",
        "NOT SEEN TO STOP",
        "may or may not take effect",
    ]) {
        let said = said.ended(4);
        assert!(said.err.contains(word) && said.err.contains("c2 (10.77.200.2:7443)"), "{said:#?}");
    }
}

#[test]
fn each_exit_code_means_what_it_says() {
    let fleet = Fleet::up(&Up { hosts: 3, coordinators: 1, ..Up::default() });
    let path = |name: &str, text: &str| fleet.file(name, text).display().to_string();
    let held = |id: &str| {
        until(20_000, "it is held", || {
            (fleet.json(&["show", id])["state"] == "holding").then_some(())
        });
    };
    let newest = || {
        let list = fleet.json(&["ls"]);
        list.as_array().and_then(|l| l.last()?["id"].as_str().map(str::to_owned)).expect("one")
    };
    let begun = |before: usize| {
        until(20_000, "it is submitted", || {
            (fleet.json(&["ls"]).as_array()?.len() > before).then_some(())
        });
        let id = newest();
        held(&id);
        id
    };

    // 0, and everything on stdout is one JSON value.
    let ok = path("ok.yaml", &file("h1", CPU, "duration: 1s"));
    let said = fleet.squall(&["run", "-o", "json", &ok]).ended(0);
    has(&said.json(), &RUN);
    assert_eq!(
        (&said.json()["verdict"], &said.json()["targets_affected"]),
        (&"held".into(), &1.into())
    );
    // 2 and 3.
    let bad = path("bad.yaml", "name: [");
    let wide = path("wide.yaml", &file("h1, h2", CPU, "duration: 1s"));
    let nobody = path("nobody.yaml", &file("h9", CPU, "duration: 1s"));
    for command in ["run", "plan"] {
        for (file, code) in [(&wide, 3), (&nobody, 2), (&bad, 2)] {
            let said = fleet.squall(&[command, file, "-o", "json"]).ended(code);
            assert!(said.json()["refusal"].is_string(), "{command}: {said:#?}");
        }
    }

    // 1: the hypothesis breaks while h1 is cut off, and is rolled back long before its time.
    serve(&fleet, "h2", 8080);
    let probe = "duration: 60s\nbaseline: 1s\nrecovery: 1s\nsteady-state:\n  - { name: web, from: h1, \
        http: { url: \"http://h2:8080/\" }, every: 100ms, timeout: 300ms, expect: { error-rate: \"< 10%\" } }";
    let broken = path("broken.yaml", &file("h1", "partition: { peers: [h2] }", probe));
    let said = fleet.squall(&["run", "-o", "json", &broken]).ended(1);
    let view = said.json();
    assert_eq!((&view["verdict"], &view["residue"]), (&"broken".into(), &Value::Array(Vec::new())));
    has(
        first(&view, "deviations"),
        &[("probe", "s"), ("stage", "s"), ("finding", "s"), ("what", "s")],
    );
    has(first(&view, "metrics"), &[("probe", "s"), ("stages", "o")]);
    assert!(fleet.pings("h1", "h2", 2.0));

    // 7: the first Ctrl-C stops it and waits for the receipts.
    let long = path("long.yaml", &file("h1", "partition: { peers: [h2] }", "duration: 10m"));
    let count = fleet.json(&["ls"]).as_array().map_or(0, Vec::len);
    let running = fleet.begin(&["run", "-o", "json", &long]);
    let _ = begun(count);
    running.signal("INT");
    let said = running.end().ended(7);
    assert_eq!(
        (&said.json()["verdict"], &said.json()["state"]),
        (&"stopped".into(), &"settled".into())
    );
    assert_eq!(fleet.traces("h1"), [""; 0]);

    // Another one, before it is known whether the stop was ordered, is none.
    let count = fleet.json(&["ls"]).as_array().map_or(0, Vec::len);
    let running = fleet.begin(&["run", "-o", "json", &long]);
    let _ = begun(count);
    assert_eq!(fleet.signal("c1", "coordinator", "STOP"), 1);
    running.signal("INT");
    std::thread::sleep(Duration::from_millis(500));
    running.signal("INT");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(fleet.signal("c1", "coordinator", "CONT"), 1);
    let said = running.end().ended(7);
    assert_eq!(said.json()["verdict"], "stopped", "{said:#?}");

    // The second leaves it, and says how to end it: 5, since something is there.
    let running = fleet.begin(&["run", &long]);
    let id = begun(count + 1);
    fleet.signal("h1", "agent", "STOP");
    running.signal("INT");
    // Two that come together may be one.
    until(20_000, "the first has stopped it", || {
        let shown = fleet.json(&["show", &id]);
        shown["ended_early"].as_str()?.starts_with("stopped by ").then_some(())
    });
    running.signal("INT");
    let said = running.end().ended(5);
    assert!(said.err.contains(&format!("squall stop {id}")), "{said:#?}");
    fleet.signal("h1", "agent", "CONT");
    let _ = fleet.squall(&["watch", &id]);
    assert_eq!(fleet.traces("h1"), [""; 0]);

    // A killed `run` leaves it to its deadline.
    let count = fleet.json(&["ls"]).as_array().map_or(0, Vec::len);
    let short = path("short.yaml", &file("h1", CPU, "duration: 10s"));
    let running = fleet.begin(&["run", &short]);
    let id = begun(count);
    running.signal("KILL");
    assert_eq!(running.end().code, 128 + 9);
    assert_eq!(fleet.json(&["show", &id])["state"], "holding");
    let _ = fleet.squall(&["watch", &id]).ended(0);

    // 6: an agent dies in the middle and comes back at once: clean, and nobody knows.
    let count = fleet.json(&["ls"]).as_array().map_or(0, Vec::len);
    let running = fleet.begin(&["run", "-o", "json", &long]);
    let _ = begun(count);
    assert_eq!(fleet.signal("h1", "agent", "KILL"), 1);
    fleet.revive("h1", "agent");
    let said = running.end().ended(6);
    assert_eq!(
        (&said.json()["verdict"], &said.json()["residue"]),
        (&"unknown".into(), &Value::Array(Vec::new()))
    );
    assert_eq!(fleet.traces("h1"), [""; 0], "it came back");

    // 5: it dies and stays away: nobody saw the fault go.
    fleet.await_state("h1", "armed");
    let text = file("h1", CPU, "duration: 10m\nsafety: { lease: 1s }");
    let count = fleet.json(&["ls"]).as_array().map_or(0, Vec::len);
    let running = fleet.begin(&["run", "-o", "json", &path("gone.yaml", &text)]);
    let _ = begun(count);
    assert_eq!(fleet.signal("h1", "agent", "KILL"), 1);
    let said = running.end().ended(5);
    assert!(said.err.contains("NOT CLEAN: h1 (lapsed by time, not seen)"), "{said:#?}");
    assert!(said.err.contains("squall lift"), "{said:#?}");

    // Nobody begins anything there that no stop would reach; lifting needs no agent.
    let inject = ["squall", "inject", "cpu", "--load", "5", "--for", "1s"];
    let said = fleet.on("h1", &inject).ended(1);
    assert!(said.err.contains("its agent does not run"), "{said:#?}");
    let _ = fleet.on("h1", &["squall", "lift"]).ended(0);
}

#[test]
fn every_example_is_valid_and_does_what_it_says() {
    let squall = squall_cluster::program().unwrap_or_else(|e| panic!("{e}"));
    let schema = std::process::Command::new(&squall).arg("schema").output().expect("it runs");
    let schema = Said::from(schema).ended(0).json();
    let examples = examples();
    assert!(examples.len() >= 7, "{examples:?}");
    for (name, text) in &examples {
        let value: Value = serde_saphyr::from_str(text).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(schema::problem(&schema, &value), None, "{name}");
        let mut wrong = value.clone();
        wrong["durration"] = "1s".into();
        assert!(schema::problem(&schema, &wrong).is_some(), "{name}: an unknown key passes");
        let mut wrong = value.clone();
        wrong["duration"] = 5.into();
        assert!(
            schema::problem(&schema, &wrong).is_some(),
            "{name}: a length without a unit passes"
        );
        let mut wrong = value;
        wrong.as_object_mut().expect("a map").remove("faults");
        assert!(schema::problem(&schema, &wrong).is_some(), "{name}: no faults pass");
    }

    let labels = ["h3", "h4", "h5"].map(|h| format!("{h}=group=etcd")).into();
    let fleet = Fleet::up(&Up { hosts: 5, coordinators: 3, labels, ..Up::default() });
    serve(&fleet, "h2", 2379);
    let sleepers: Vec<Running> =
        (0..3).map(|_| Running::begin(fleet.lab.exec("h1", ["sleep", "600"]))).collect();
    let asleep = || fleet.on("h1", &["pgrep", "-c", "-x", "sleep"]).out.trim().parse().unwrap_or(0);
    until(10_000, "three processes sleep", || (asleep() == 3).then_some(()));
    let lengths = regex::Regex::new("(?m)^duration: .*$").expect("a pattern");
    // With a quarter of their time; those that do not disturb each other at the same time.
    let begin = |name: &str| {
        let (_, text) = examples.iter().find(|(n, _)| n == name).expect("an example");
        let text = lengths.replace(text, "duration: 3s");
        let path = fleet.file(name, &text).display().to_string();
        fleet.begin(&["run", "-o", "json", &path])
    };
    let held = |name: &str, running: Running| {
        let said = running.end();
        assert_eq!(said.code, 0, "{name}: {said:#?}");
        let view = said.json();
        assert_eq!(
            (&view["verdict"], &view["residue"]),
            (&"held".into(), &Value::Array(Vec::new())),
            "{name}"
        );
    };
    let mut known = vec!["cut-a-member.yaml", "partition.yaml", "loss.yaml"];
    let longest = begin("cut-a-member.yaml");
    for name in ["kill.yaml", "pause.yaml", "cpu.yaml", "memory.yaml"] {
        held(name, begin(name));
        known.push(name);
    }
    assert_eq!(asleep(), 2, "one of three was killed");
    held("cut-a-member.yaml", longest);
    held("partition.yaml", begin("partition.yaml"));
    held("loss.yaml", begin("loss.yaml"));
    known.sort_unstable();
    let all: Vec<&str> = examples.iter().map(|(n, _)| n.as_str()).collect();
    assert_eq!(known, all, "an example is not run");
    for host in ["h1", "h2", "h3", "h4", "h5"] {
        assert_eq!(fleet.traces(host), [""; 0], "{host}");
    }
    drop(sleepers);
}

#[test]
fn one_host_alone_needs_no_cluster() {
    let fleet = Fleet::up(&Up { hosts: 2, coordinators: 0, bare: true, ..Up::default() });
    let cut = ["squall", "inject", "partition", "--peers", "10.77.0.2", "-o", "json", "--for"];
    let begin = |length: &str| Running::begin(fleet.lab.exec("h1", [&cut[..], &[length]].concat()));
    let bites = || {
        until(20_000, "it bites", || (!fleet.pings("h1", "10.77.0.2", 0.2)).then_some(()));
        assert_eq!(fleet.traces("h1").len(), 3, "{:?}", fleet.traces("h1"));
    };
    let lifted = |why: &str| {
        let ((), took) = until(5_000, why, || fleet.pings("h1", "10.77.0.2", 0.2).then_some(()));
        assert_eq!(fleet.traces("h1"), [""; 0], "{why}");
        println!("{why}: lifted within {} ms", took.as_millis());
    };
    assert!(fleet.pings("h1", "10.77.0.2", 2.0));

    // To its time.
    let running = begin("2s");
    bites();
    let said = running.end().ended(0);
    let view = said.json();
    has(
        &view,
        &[
            ("host", "s"),
            ("id", "s"),
            ("kind", "s"),
            ("phase", "s"),
            ("achieved", "o"),
            ("ended_by", "s"),
            ("lift_ms", "n"),
            ("residue", "a"),
        ],
    );
    assert_eq!(
        (&view["phase"], &view["ended_by"]),
        (&"clean".into(), &"deadline".into()),
        "{view:#}"
    );
    lifted("its time");
    // To Ctrl-C, and to a polite end.
    for signal in ["INT", "TERM"] {
        let running = begin("60s");
        bites();
        running.signal(signal);
        let said = running.end().ended(7);
        assert_eq!(said.json()["phase"], "clean", "{said:#?}");
        lifted(signal);
    }
    // To kill -9 of everything; then the journal says what was there, once.
    let running = begin("60s");
    bites();
    let _ = fleet.on("h1", &["pkill", "-9", "squall"]);
    lifted("kill -9");
    drop(running);
    let said = fleet.on("h1", &["squall", "lift", "-o", "json"]).ended(0);
    let lost = first(&said.json(), "").clone();
    assert_eq!(
        (&lost["phase"], &lost["residue"]),
        (&"lost".into(), &Value::Array(Vec::new())),
        "{lost:#}"
    );
    let said = fleet.on("h1", &["squall", "lift"]).ended(0);
    assert_eq!(said.out, "clean: nothing was held\n", "{said:#?}");

    // Two at once share the host; a lift from beside ends both.
    let (one, two) = (
        begin("60s"),
        Running::begin(
            fleet.lab.exec("h1", ["squall", "inject", "cpu", "--load", "5", "--for", "60s"]),
        ),
    );
    until(20_000, "both are there", || (fleet.pids("h1", "hold").len() == 2).then_some(()));
    let _ = fleet.on("h1", &["squall", "lift"]).ended(0);
    assert_eq!(fleet.traces("h1"), [""; 0]);
    for said in [one.end(), two.end()] {
        assert_eq!(said.code, 7, "{said:#?}");
    }
    // What finds nothing to hurt has hurt nothing.
    let said =
        fleet.on("h1", &["squall", "inject", "pause", "--name", "no-such", "--for", "2s"]).ended(1);
    assert!((said.out.clone() + &said.err).contains("no-such"), "{said:#?}");
    let _ = fleet.on("h1", &["squall", "doctor"]).ended(0);
    lifted("the end");
}

#[test]
fn a_running_agent_hurts_nobody_who_asks_it() {
    let fleet = Fleet::up(&Up { hosts: 2, coordinators: 0, bare: true, ..Up::default() });
    let on = |words: &[&str]| Running::begin(fleet.lab.exec("h1", words));
    let agent = on(&["squall", "inject", "cpu", "--load", "5", "--for", "60s"]);
    until(20_000, "an agent runs", || (fleet.pids("h1", "hold").len() == 1).then_some(()));
    let victim = on(&["sleep", "7392"]);
    until(20_000, "its victim", || {
        (fleet.on("h1", &["pgrep", "-x", "sleep"]).code == 0).then_some(())
    });
    let asks = "squall inject kill --cmdline 'sleep 7392' --for 1s; echo the shell lives";
    let said = fleet.on("h1", &["sh", "-c", asks]).ended(0);
    assert!(said.out.ends_with("the shell lives\n"), "{said:#?}");
    assert!(said.err.contains("done: "), "nothing of it is held: {said:#?}");
    assert!(victim.end().code > 128, "it was killed");
    drop(agent);
}

#[test]
fn the_program_explains_itself() {
    let squall = squall_cluster::program().unwrap_or_else(|e| panic!("{e}"));
    let say = |args: &[&str]| {
        let mut command = std::process::Command::new(&squall);
        command.args(args).env_remove("SQUALL_CLUSTER");
        run(command)
    };
    let help = say(&["--help"]).ended(0).out;
    for code in 0..=7 {
        assert!(help.contains(&format!("{code} ")), "exit code {code} is not in the help");
    }
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|l| !l.starts_with("Commands:"))
        .skip(1)
        .map_while(|l| l.split_whitespace().next())
        .filter(|word| *word != "help")
        .collect();
    assert!(commands.len() >= 25, "{commands:?}");
    for command in &commands {
        let said = say(&[command, "--help"]);
        assert!(said.code == 0 && said.out.contains("Usage"), "{command}: {said:#?}");
    }
    assert!(say(&["--version"]).ended(0).out.starts_with("squall "));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = say(&["completions", shell]).ended(0);
        assert!(said.out.contains("stop-all") && said.err.is_empty(), "{shell}");
    }
    let path: PathBuf =
        tempfile::NamedTempFile::new().expect("a file").into_temp_path().to_path_buf();
    std::fs::write(&path, say(&["completions", "bash"]).out).expect("written");
    let mut bash = std::process::Command::new("bash");
    bash.arg("-n").arg(&path);
    let _ = run(bash).ended(0);
    std::fs::remove_file(&path).expect("removed");

    let words = say(&["explain", "-o", "json"]).ended(0).json();
    let words: Vec<String> = words
        .as_array()
        .expect("a list")
        .iter()
        .map(|w| w["word"].as_str().expect("a word").to_owned())
        .collect();
    for word in [
        "partition",
        "loss",
        "kill",
        "pause",
        "cpu",
        "memory",
        "lease",
        "latch",
        "resume",
        "experiment",
        "config",
        "radius",
        "residue",
    ] {
        assert!(words.iter().any(|w| w.contains(word)), "`{word}` is not explained: {words:?}");
    }
    for word in &words {
        assert!(say(&["explain", word]).ended(0).out.len() > word.len() + 20, "{word}");
    }
    let meanings = ["held", "broken", "usage", "refused", "no coordinator", "not clean"];
    for (code, meaning) in meanings.into_iter().chain(["verdict unknown", "stopped"]).enumerate() {
        let said = say(&["explain", &code.to_string()]).ended(0);
        assert!(said.out.contains(&format!("{code} {meaning}")), "{said:#?}");
    }
    let said = say(&["explain", "nosuch"]).ended(2);
    assert!(said.err.contains("squall explain lists"), "{said:#?}");
    let said = say(&["status"]).ended(2);
    assert!(said.err.contains("SQUALL_CLUSTER") || said.err.contains("--cluster"), "{said:#?}");
}
