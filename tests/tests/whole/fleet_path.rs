//! The README's section "Three machines", typed word for word on bare hosts. Only addresses, names and
//! the token are put in; `ssh` and `scp` reach the lab's hosts instead of real ones.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use squall_cluster::Up;
use squall_tests::air::on_network;
use squall_tests::fleet::{Fleet, Running, Said, run, until};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests lies in the root").to_owned()
}

/// The section's blocks of shell, in order: where each is typed (its first line), and the commands.
fn blocks() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(root().join("README.md")).expect("the README");
    let section = text.split("\n## ").find(|s| s.starts_with("Three machines\n"));
    let section = section.expect("a section `Three machines`");
    let blocks = section.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let block = |block: &str| {
        let (place, commands) = block.split_once('\n').expect("more than one line");
        (place.to_owned(), commands.replace("10.0.0.", "10.77.0."))
    };
    blocks.map(block).collect()
}

/// Your own machine: an empty directory of this one, in the lab's network, with an `ssh` and an `scp`
/// that reach the lab's hosts.
struct Own {
    dir: tempfile::TempDir,
    variables: BTreeMap<&'static str, String>,
}

/// `root@10.77.0.N` is hN.
const SSH: &str = "#!/bin/sh\nhost=h${1##*.}; shift\n\
                   exec squall lab exec --lab $LAB $host -- \"$@\"\n";
/// Like the real one it makes the last directory and no other.
const SCP: &str = "#!/bin/sh\n[ \"$1\" = -rp ] || exit 9\nto=${3#*:}; at=${3%%:*}\n\
                   tar -C $2 -cf - . | ssh $at sh -c \"mkdir $to && tar -C $to -xpf -\"\n";

impl Own {
    fn new(fleet: &Fleet) -> Own {
        let dir = tempfile::tempdir().expect("a directory");
        let bin = dir.path().join("bin");
        std::fs::create_dir(&bin).expect("a directory");
        let squall = squall_cluster::program().unwrap_or_else(|e| panic!("{e}"));
        std::os::unix::fs::symlink(squall, bin.join("squall")).expect("a link");
        for (name, text) in [("ssh", SSH), ("scp", SCP)] {
            let path = bin.join(name);
            std::fs::write(&path, text).expect("a script");
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("executable");
        }
        let path = std::env::var("PATH").unwrap_or_default();
        let labs = fleet.lab.dir().parent().expect("the directory of labs").display().to_string();
        let variables = BTreeMap::from([
            ("PATH", format!("{}:{path}", bin.display())),
            ("LAB", fleet.lab.name().to_owned()),
            ("SQUALL_LAB_ROOT", labs),
        ]);
        Own { dir, variables }
    }

    /// Runs a program there.
    fn runs(&self, fleet: &Fleet, program: &str, args: &[&str]) -> Said {
        let mut command = Command::new(program);
        command.args(args).current_dir(self.dir.path()).envs(&self.variables);
        command.env_remove("SQUALL_CLUSTER");
        on_network(fleet, "h5", move || run(command)).join().expect("a program")
    }

    /// Types commands into a shell there.
    fn types(&self, fleet: &Fleet, commands: &str) -> Said {
        self.runs(fleet, "sh", &["-euc", commands])
    }

    /// `squall ARGS` about the fleet, as JSON.
    fn squall(&self, fleet: &Fleet, args: &[&str]) -> Value {
        let all = [args, &["--cluster", "storm", "-o", "json"]].concat();
        self.runs(fleet, "squall", &all).ended(0).json()
    }
}

#[test]
fn three_machines_as_the_readme_says() {
    let fleet = Fleet::up(&Up { hosts: 5, coordinators: 0, bare: true, ..Up::default() });
    let own = Own::new(&fleet);
    let mut blocks = blocks().into_iter();
    let mut next = |place: &str| {
        let (found, commands) = blocks.next().expect("one more block");
        assert!(found.starts_with(place), "`{found}` is not `{place}`");
        commands
    };
    let on = |host: &str, typed: &str| Running::begin(fleet.lab.exec(host, ["sh", "-euc", typed]));

    let _ = own.types(&fleet, &next("# on your own machine")).ended(0);
    let coordinator = next("# on each of the three");
    let coordinators = ["h1", "h2", "h3"].map(|host| on(host, &coordinator));
    let token = next("# on your own machine, for h1");
    let join = next("# on that host");
    assert!(join.contains("TOKEN"), "{join}");
    let mut agents = Vec::new();
    // The fourth is no coordinator's host: any other machine.
    for host in ["h1", "h2", "h3", "h4"] {
        let token = own.types(&fleet, &token.replace("h1", host)).ended(0).out;
        let token = token.trim();
        agents.push(on(host, &join.replace("h1", host).replace("TOKEN", token)));
        if host == "h1" {
            until(30_000, "h1 has joined", || {
                fleet.path("h1", "etc/squall/agent.toml").exists().then_some(())
            });
            // Good once.
            let files = ["--identity", "/run/i", "--config", "/run/c"];
            let again = [&["squall", "join", token, "--name", "h1"], &files[..]].concat();
            let said = fleet.on("h5", &again).ended(4);
            assert!(said.err.contains("token"), "{said:#?}");
            assert!(!fleet.path("h5", "run/i").exists(), "an identity is left");
            assert!(!fleet.path("h5", "run/c.toml.joined").exists(), "a configuration is left");
        }
    }
    let status = next("# on your own machine: three coordinators, three hosts");
    assert_eq!(blocks.next(), None, "a block that this test does not type");
    let (seen, _) = until(60_000, "all are there", || {
        let said = own.types(&fleet, &format!("{} -o json", status.trim()));
        let seen = (said.code == 0).then(|| said.json())?;
        let hosts = seen["hosts"].as_array()?;
        (hosts.len() == 4 && hosts.iter().all(|h| h["state"] == "armed")).then_some(seen)
    });
    assert_eq!(seen["coordinators"].as_array().map(Vec::len), Some(3), "{seen:#}");
    let table = own.types(&fleet, &status).ended(0).out;
    let shared: Vec<_> =
        seen["hosts"].as_array().into_iter().flatten().map(|h| &h["coordinator"]).collect();
    assert_eq!(shared, [true, true, true, false], "{seen:#}");
    for word in
        ["cluster storm", "10.77.0.1:7443", "10.77.0.3:7443", "h1", "h4", "armed, coordinator"]
    {
        assert!(table.contains(word), "`{word}`: {table}");
    }
    experiments(&fleet, &own);
    secrets(&fleet, &own);
    renewed(&fleet, &own, &token);
    moved(&fleet, &own, agents.pop().expect("h4's"));
    drop((agents, coordinators));
}

/// What such a fleet is for: a partition on a host where a coordinator lives too, a draw that spares
/// such hosts, and a stop.
fn experiments(fleet: &Fleet, own: &Own) {
    for (name, targets, host) in [("named", "hosts: [h1]", "h1"), ("drawn", "count: 1", "h4")] {
        let text = format!(
            "name: {name}\ntargets: {{ {targets} }}\nfaults:\n  - partition: {{ peers: [h2] }}\n\
             duration: 2s\n"
        );
        std::fs::write(own.dir.path().join("x.yaml"), text).expect("a file");
        let view = own.squall(fleet, &["run", "x.yaml"]);
        assert_eq!(
            (&view["verdict"], &view["residue"]),
            (&"held".into(), &Value::Array(Vec::new())),
            "{view:#}"
        );
        assert_eq!(view["faults"][0]["host"], host, "{view:#}");
        assert_eq!(fleet.traces(host), [""; 0]);
    }
    let said = own.squall(fleet, &["stop-all"]);
    assert_eq!(said["hosts"].as_array().map(Vec::len), Some(4), "{said:#}");
    let stop = said["stop"].as_str().expect("its id");
    let _ = own.types(fleet, &format!("squall resume {stop} --cluster storm")).ended(0);
}

/// Whoever joins again keeps what was written into the host's configuration.
fn renewed(fleet: &Fleet, own: &Own, token: &str) {
    let file = fleet.path("h4", "etc/squall/agent.toml");
    let text = std::fs::read_to_string(&file).expect("a configuration");
    let edited = format!("policy = \"/etc/squall/ours.toml\"\n{text}");
    std::fs::write(&file, &edited).expect("written");
    let token = own.types(fleet, &token.replace("h1", "h4")).ended(0).out;
    let join = format!("mv /etc/squall/identity /run/old; squall join {} --name h4", token.trim());
    let said = fleet.on("h4", &["sh", "-euc", &join]).ended(0);
    assert!(said.err.contains("agent.toml stays as it is"), "{said:#?}");
    assert_eq!(std::fs::read_to_string(&file).expect("a configuration"), edited);
    let beside = fleet.path("h4", "etc/squall/agent.toml.joined");
    assert_eq!(std::fs::read_to_string(beside).expect("what a new host would have"), text);
}

/// A host that joins another cluster forgets what the log of its first one said, and stays stopped.
fn moved(fleet: &Fleet, own: &Own, agent: Running) {
    let stop = own.squall(fleet, &["stop-all"])["stop"].clone();
    assert_eq!(fleet.signal("h4", "agent", "TERM"), 1);
    let _ = agent.end();
    let init = "squall init --cluster gale --name gale --coordinator g1=10.77.0.5:7443; \
                ssh root@10.77.0.5 mkdir -p /etc/squall; \
                scp -rp gale/coordinators/g1 root@10.77.0.5:/etc/squall/coordinator";
    let _ = own.types(fleet, init).ended(0);
    let on = |host: &str, typed: &str| Running::begin(fleet.lab.exec(host, ["sh", "-euc", typed]));
    let coordinator =
        on("h5", "exec squall coordinator --config /etc/squall/coordinator/coordinator.toml");
    let (token, _) = until(30_000, "a token", || {
        let said = own.types(fleet, "squall token h4 --cluster gale");
        (said.code == 0).then(|| said.out.trim().to_owned())
    });
    let join = format!(
        "mv /etc/squall/identity /etc/squall/agent.toml /run; squall join {token} --name h4; \
         exec squall agent --config /etc/squall/agent.toml"
    );
    let agent = on("h4", &join);
    let stands = |state: &str, stops: &[&Value]| {
        until(30_000, state, || {
            let said = own.types(fleet, "squall status --cluster gale -o json");
            let seen = (said.code == 0).then(|| said.json())?;
            let stopped: Vec<&Value> = seen["cluster"]["stops"].as_array()?.iter().collect();
            (seen["hosts"][0]["state"] == state && stopped == stops).then_some(())
        })
    };
    stands("latched", &[&stop]);
    let stop = stop.as_str().expect("its id");
    let _ = own.types(fleet, &format!("squall resume {stop} --cluster gale")).ended(0);
    stands("armed", &[]);
    assert_eq!(fleet.signal("h4", "agent", "TERM"), 1);
    let said = agent.end();
    assert!(said.err.contains("this host was in another cluster"), "{said:#?}");
    drop(coordinator);
}

/// Keys are their owner's alone, wherever they were made or copied to.
fn secrets(fleet: &Fleet, own: &Own) {
    let own = |path: &str| own.dir.path().join("storm").join(path);
    let places = [
        fleet.path("h1", "etc/squall/coordinator/identity"),
        fleet.path("h1", "etc/squall/identity"),
        own("authority"),
        own("operator"),
    ];
    for place in places {
        let mut keys = 0;
        for entry in std::fs::read_dir(&place).expect("files").flatten() {
            let path = entry.path();
            let mode = entry.metadata().expect("its mode").permissions().mode();
            if path.extension().is_some_and(|e| e == "pem" || e == "key") {
                assert_eq!(mode & 0o077, 0, "{}: {mode:o}", path.display());
                keys += 1;
            }
        }
        assert!(keys > 0, "no key in {}", place.display());
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_the_units() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        // Straight to stderr: a test that passes is not heard otherwise.
        let _ = writeln!(std::io::stderr(), "\nSKIPPED: the units, as no systemd-analyze is here");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let squall = squall_cluster::program().unwrap_or_else(|e| panic!("{e}"));
    for unit in ["squall-agent.service", "squall-coordinator.service"] {
        let text = std::fs::read_to_string(root().join("cluster/systemd").join(unit));
        let text = text.expect("a unit");
        let text = text.replace("/usr/local/bin/squall", &squall.display().to_string());
        let path = dir.path().join(unit);
        std::fs::write(&path, text).expect("written");
        let mut verify = Command::new("systemd-analyze");
        verify.arg("verify").arg(&path);
        let said = run(verify).ended(0);
        let ours: Vec<&str> = said.err.lines().filter(|l| l.contains(unit)).collect();
        assert_eq!(ours, [""; 0], "{unit}");
    }
}
