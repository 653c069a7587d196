//! The lab of a run, and what is done to its coordinators: killed, frozen, cut off; and made whole.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use squall_cluster::Up;
use squall_core::ids::HostName;

use super::crowd::{Account, Orders, READY};
use super::history::now_us;
use super::ways::Member;
use crate::fleet::{Fleet, Said, config, until};

/// How long the lab has for anything that it surely does: the machine may be busy.
const PATIENCE_MS: u64 = 60_000;

/// What is done to a coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blow {
    /// `kill -9`; later it is started again from its disk.
    Kill,
    /// SIGSTOP; later SIGCONT: it wakes up and does not know.
    Freeze,
    /// Foreign rules between it and the other coordinators; clients and agents still reach it.
    Isolate,
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Blow::Kill => "kill",
            Blow::Freeze => "freeze",
            Blow::Isolate => "isolate",
        })
    }
}

/// A lab with its coordinators.
pub struct Stage {
    /// The lab.
    pub fleet: Fleet,
    /// The coordinators, by their numbers from 1.
    pub members: Vec<Member>,
    /// This test's own program, for the clients.
    program: PathBuf,
    /// Those that were started again here: `lab exec` ends with them.
    restarted: BTreeMap<String, Child>,
}

impl Stage {
    /// Makes a lab with five hosts and three coordinators.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn up(program: PathBuf) -> Stage {
        let fleet = Fleet::up(&Up { hosts: 5, coordinators: 3, ..Up::default() });
        let status = fleet.json(&["status"]);
        let member = |row: &serde_json::Value| Member {
            name: row["id"].as_str().expect("a name").to_owned(),
            address: row["address"].as_str().and_then(|a| a.parse().ok()).expect("an address"),
        };
        let mut members: Vec<Member> =
            status["coordinators"].as_array().expect("a list").iter().map(member).collect();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        Stage { fleet, members, program, restarted: BTreeMap::new() }
    }

    /// Waits until one coordinator leads with a quorum, and returns its name.
    ///
    /// # Panics
    /// None does.
    #[must_use]
    pub fn leader(&self) -> String {
        let leads = || {
            let said = self.fleet.squall(&["status", "-o", "json"]);
            let status = (said.code == 0).then(|| said.json())?;
            let confirmed = status["cluster"]["confirmed"] == true;
            status["cluster"]["leader"].as_str().filter(|_| confirmed).map(str::to_owned)
        };
        until(PATIENCE_MS, "a leader", leads).0
    }

    /// Waits until every coordinator is reached and takes part.
    ///
    /// # Panics
    /// One does not come back.
    pub fn wait_for_all(&self) {
        let all = || {
            let said = self.fleet.squall(&["status", "-o", "json"]);
            let status = (said.code == 0).then(|| said.json())?;
            let list = status["coordinators"].as_array()?.clone();
            let part =
                |row: &serde_json::Value| row["role"] == "leader" || row["role"] == "follower";
            list.iter().all(part).then_some(())
        };
        let _ = until(PATIENCE_MS, "all coordinators", all);
    }

    /// Does it; returns when it was done, by [`now_us`].
    ///
    /// # Panics
    /// There is no such coordinator, or it cannot be done.
    pub fn strike(&mut self, blow: Blow, name: &str) -> u64 {
        match blow {
            Blow::Kill => self.signal(name, "KILL"),
            Blow::Freeze => self.signal(name, "STOP"),
            Blow::Isolate => {
                let others: Vec<String> = self
                    .members
                    .iter()
                    .filter(|m| m.name != name)
                    .map(|m| m.address.ip().to_string())
                    .collect();
                let others = others.join(", ");
                let rules = format!(
                    "table inet isolated {{\n\
                     chain i {{ type filter hook input priority -300; ip saddr {{ {others} }} drop; }}\n\
                     chain o {{ type filter hook output priority -300; ip daddr {{ {others} }} drop; }}\n}}\n"
                );
                self.nft(name, &rules);
            }
        }
        now_us()
    }

    /// Undoes it.
    ///
    /// # Panics
    /// It cannot be undone.
    pub fn mend(&mut self, blow: Blow, name: &str) {
        match blow {
            Blow::Kill => self.restart(name),
            Blow::Freeze => self.signal(name, "CONT"),
            Blow::Isolate => self.nft(name, "delete table inet isolated\n"),
        }
    }

    fn signal(&self, name: &str, signal: &str) {
        // One that was just started may not be there yet.
        until(PATIENCE_MS, &format!("a coordinator on {name}"), || {
            (self.fleet.signal(name, "coordinator", signal) == 1).then_some(())
        });
    }

    fn nft(&self, name: &str, rules: &str) {
        let mut nft = self.fleet.lab.exec(name, ["nft", "-f", "-"]);
        nft.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = nft.spawn().expect("lab exec starts");
        let mut input = child.stdin.take().expect("it was asked for");
        input.write_all(rules.as_bytes()).expect("nft reads its rules");
        drop(input);
        let _ = Said::from(child.wait_with_output().expect("nft ends")).ended(0);
    }

    /// Starts a coordinator on what its disk holds, as its unit would.
    fn restart(&mut self, name: &str) {
        self.reap(name);
        self.fleet.await_deaths();
        let path = self.fleet.lab.dir().join("hosts").join(name).join("coordinator.log");
        let log = OpenOptions::new().create(true).append(true).open(&path).expect("its log");
        let words = ["squall", "coordinator", "--config", config("coordinator")];
        let mut start = self.fleet.lab.exec(name, words);
        start.stdin(Stdio::null()).stdout(log.try_clone().expect("its log")).stderr(log);
        self.restarted.insert(name.to_owned(), start.spawn().expect("lab exec starts"));
    }

    fn reap(&mut self, name: &str) {
        if let Some(mut child) = self.restarted.remove(name) {
            child.wait().expect("a child of ours");
        }
    }

    /// Lines of a coordinator's log that say this.
    #[must_use]
    pub fn logged(&self, name: &str, what: &str) -> usize {
        let path = self.fleet.lab.dir().join("hosts").join(name).join("coordinator.log");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().filter(|line| line.contains(what)).count()
    }

    /// Starts the clients and waits until they are at work, or have made their burst.
    ///
    /// # Panics
    /// They cannot be started, or say something else.
    #[must_use]
    pub fn clients(&self, burst: Option<usize>) -> Clients {
        let host = |name: &str| name.parse::<HostName>().expect("a host's name");
        let cluster = self.fleet.lab.cluster().expect("a lab with a cluster");
        let orders = Orders {
            lab: self.fleet.lab.dir(),
            identity: cluster.join("operator"),
            members: self.members.clone(),
            hosts: ["h2", "h3", "h4", "h5"].map(host).into(),
            burst,
        };
        let orders = serde_json::to_string(&orders).expect("plain data");
        let mut command = Command::new(&self.program);
        command.args(["clients", &orders]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("this test's own program");
        let input = child.stdin.take();
        let mut clients = Clients {
            output: BufReader::new(child.stdout.take().expect("asked for")),
            child,
            input,
        };
        assert_eq!(clients.line().trim(), READY);
        clients
    }
}

impl Drop for Stage {
    /// The lab takes its processes with it; what is left are the commands that waited for them.
    fn drop(&mut self) {
        let names: Vec<String> = self.members.iter().map(|m| m.name.clone()).collect();
        for name in names {
            if self.restarted.contains_key(&name) {
                self.fleet.signal(&name, "coordinator", "KILL");
                self.reap(&name);
            }
        }
    }
}

/// Clients at work. They end with this.
pub struct Clients {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Clients {
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the clients' output");
        line
    }

    /// Ends them; every coordinator must be up by then.
    ///
    /// # Panics
    /// They failed.
    #[must_use]
    pub fn end(mut self) -> Account {
        drop(self.input.take());
        let line = self.line();
        let status = self.child.wait().expect("a child of ours");
        assert!(status.success(), "the clients: {status}");
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        // Nothing where it has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
