//! `squall demo`, as a person would type it on a machine with etcd and on one without.

use std::os::unix::process::CommandExt;
use std::process::Command;

use squall_cluster::program;
use squall_tests::fleet::{Said, run};

/// In a place of its own, beside whatever labs there are.
fn demo(search: Option<&str>) -> Said {
    let root = tempfile::tempdir().expect("a directory for the lab");
    let mut command = Command::new(program().expect("the program"));
    command.arg("demo").env("SQUALL_LAB_ROOT", root.path()).env_remove("SQUALL_CLUSTER");
    if let Some(path) = search {
        command.env("PATH", path);
    }
    let said = run(command).ended(0);
    println!("{}", said.err);
    assert_eq!(std::fs::read_dir(root.path()).expect("it is there").count(), 0);
    said
}

/// That it says these words, in this order.
fn tells(said: &Said, words: &[&str]) {
    let mut rest = said.err.as_str();
    for word in words {
        let Some((_, after)) = rest.split_once(word) else {
            panic!("`{word}` is not next: {said:#?}")
        };
        rest = after;
    }
}

const END: [&str; 4] = [
    "nothing starts before a resume that names the stop",
    "everything is taken down",
    "nothing is left of 9 network namespaces: 0 processes of the lab",
    "0 new devices, 0 new mounts",
];

#[test]
fn with_etcd_its_leader_is_cut_off_and_the_verdict_is_held() {
    let said = demo(None);
    tells(&said, &["etcd runs; ", "was elected by the majority", "settled: held"]);
    tells(&said, &END);
}

#[test]
fn without_etcd_the_leader_of_squalls_own_consensus_is_cut_off() {
    let said = demo(Some("/nowhere"));
    tells(&said, &["etcd is not installed", "squall runs; ", "was elected by the majority"]);
    tells(&said, &["settled: held"]);
    tells(&said, &END);
}

#[test]
fn other_labs_stay_and_what_a_killed_demo_left_does_not() {
    let root = tempfile::tempdir().expect("a directory for the labs");
    let squall = |args: &[&str]| {
        let mut command = Command::new(program().expect("the program"));
        command.args(args).env("SQUALL_LAB_ROOT", root.path()).env_remove("SQUALL_CLUSTER");
        command
    };
    // Of a number that no process has.
    let (left, mark) = ("demo-left", format!("h1=squall-demo={}", u32::MAX));
    let own = format!("demo-{}", u32::MAX);
    for (name, label) in [("demo", "h1=zone=a"), (&own, "h1=zone=a"), (left, &mark)] {
        let bare =
            ["lab", "up", name, "--bare", "--hosts", "1", "--coordinators", "0", "--label", label];
        let _ = run(squall(&bare)).ended(0);
    }
    let mut running = squall(&["demo"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut told = std::io::BufReader::new(running.stderr.take().expect("it was asked for"));
    let mut said = String::new();
    while !said.contains("$ squall status") {
        let read = std::io::BufRead::read_line(&mut told, &mut said).expect("it talks");
        assert!(read > 0, "{said}");
    }
    let pid = running.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill").success());
    std::io::Read::read_to_string(&mut told, &mut said).expect("it talks to its end");
    assert_eq!(running.wait().expect("it ends").code(), Some(7), "{said}");
    let labs = run(squall(&["lab", "ls", "-o", "json"])).ended(0).json();
    let names: Vec<_> = labs.as_array().expect("a list").iter().map(|lab| &lab["name"]).collect();
    assert_eq!(names, ["demo", own.as_str()], "{said}");
    for name in ["demo", &own] {
        let _ = run(squall(&["lab", "down", name])).ended(0);
    }
}

#[test]
fn a_signal_ends_it_and_leaves_nothing_behind() {
    let root = tempfile::tempdir().expect("a directory for the lab");
    let mut command = Command::new(program().expect("the program"));
    command.arg("demo").env("SQUALL_LAB_ROOT", root.path()).env_remove("SQUALL_CLUSTER");
    let mut running = command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .process_group(0)
        .spawn()
        .expect("it starts");
    let mut told = std::io::BufReader::new(running.stderr.take().expect("it was asked for"));
    let mut said = String::new();
    // As a terminal does it: to all that runs in the foreground, and once more to be sure.
    for moment in ["holding", "everything is taken down"] {
        while !said.contains(moment) {
            let read = std::io::BufRead::read_line(&mut told, &mut said).expect("it talks");
            assert!(read > 0, "{said}");
        }
        // The command that it announces is under way.
        std::thread::sleep(std::time::Duration::from_millis(50));
        let group = format!("-{}", running.id());
        let sent = Command::new("kill").args(["-INT", "--", &group]).status();
        assert!(sent.expect("kill is there").success());
    }
    std::io::Read::read_to_string(&mut told, &mut said).expect("it talks to its end");
    assert_eq!(running.wait().expect("it ends").code(), Some(7), "{said}");
    assert!(said.contains("ended by a signal"), "{said}");
    assert_eq!(std::fs::read_dir(root.path()).expect("it is there").count(), 0, "{said}");
}
