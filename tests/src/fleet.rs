//! A lab as the tests of the whole use it: commands as a person types them, answers as JSON, processes
//! by their pids.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;
use squall_cluster::{Lab, Up, program};

/// A lab with a cluster in it; it goes down when this is dropped.
#[derive(Debug)]
pub struct Fleet {
    /// The lab itself.
    pub lab: Lab,
    files: tempfile::TempDir,
    /// The processes that were killed, by number and start.
    killed: Mutex<Vec<(i32, String)>>,
}

/// What a command printed and ended with.
#[derive(Clone, Debug)]
pub struct Said {
    /// Its exit code; 128 and more for a signal.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Said {
        use std::os::unix::process::ExitStatusExt;
        let status = output.status;
        Said {
            code: status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Said {
    /// Standard output as JSON.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }

    /// Itself, where it ended so.
    ///
    /// # Panics
    /// It ended otherwise.
    #[must_use]
    pub fn ended(self, code: i32) -> Said {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }
}

/// A command that runs beside the test; killed where the test forgets it.
#[derive(Debug)]
pub struct Running(Option<Child>);

impl Running {
    /// Begins a command.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn begin(mut command: Command) -> Running {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Running(Some(command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"))))
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// It cannot be signalled.
    pub fn signal(&self, signal: &str) {
        let child = self.0.as_ref().expect("it runs");
        let mut kill = Command::new("kill");
        kill.args([&format!("-{signal}"), &child.id().to_string()]);
        let _ = run(kill).ended(0);
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// What it says cannot be read.
    #[must_use]
    pub fn end(mut self) -> Said {
        let child = self.0.take().expect("it runs");
        child.wait_with_output().expect("its output").into()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It is ours and not reaped; where it has ended both fail.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs a command to its end.
///
/// # Panics
/// It cannot be started.
#[must_use]
pub fn run(mut command: Command) -> Said {
    command.output().unwrap_or_else(|e| panic!("{command:?}: {e}")).into()
}

/// Where the lab puts the configuration of a role.
#[must_use]
pub fn config(role: &str) -> &'static str {
    match role {
        "coordinator" => "/etc/squall/coordinator/coordinator.toml",
        _ => "/etc/squall/agent.toml",
    }
}

/// Asks again and again until something is there; returns it and how long it took.
///
/// # Panics
/// It is not there after `ms` milliseconds.
pub fn until<T>(ms: u64, what: &str, mut ask: impl FnMut() -> Option<T>) -> (T, Duration) {
    let began = Instant::now();
    loop {
        let asked = began.elapsed();
        if let Some(found) = ask() {
            return (found, began.elapsed());
        }
        assert!(asked < Duration::from_millis(ms), "not within {ms} ms: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// When a process that has not ended was started, in the kernel's count.
fn started(pid: i32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    // A zombie that its parent leaves has let go of everything, once its other threads have ended.
    let is_over = fields.first() == Some(&"Z") && fields.get(17) == Some(&"1");
    fields.get(19).filter(|_| !is_over).map(|start| (*start).to_owned())
}

impl Fleet {
    /// A lab, all agents connected, a leader standing (or bare hosts, where `up` says so).
    ///
    /// # Panics
    /// The lab cannot be made.
    #[must_use]
    pub fn up(up: &Up) -> Fleet {
        let squall = program().unwrap_or_else(|e| panic!("{e}"));
        let lab = Lab::up(&squall, up).unwrap_or_else(|e| panic!("{e}"));
        let files = tempfile::tempdir().expect("a directory for files");
        Fleet { lab, files, killed: Mutex::default() }
    }

    /// `squall ARGS` about this cluster, run to its end.
    #[must_use]
    pub fn squall(&self, args: &[&str]) -> Said {
        run(self.lab.squall(args))
    }

    /// The same with `-o json`, which must end well.
    #[must_use]
    pub fn json(&self, args: &[&str]) -> Value {
        let all: Vec<&str> = args.iter().copied().chain(["-o", "json"]).collect();
        self.squall(&all).ended(0).json()
    }

    /// A program on a host, run to its end.
    #[must_use]
    pub fn on(&self, host: &str, argv: &[&str]) -> Said {
        run(self.lab.exec(host, argv))
    }

    /// A file, for `squall run` and others.
    ///
    /// # Panics
    /// It cannot be written.
    #[must_use]
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.files.path().join(name);
        std::fs::write(&path, text).expect("a file in a directory of our own");
        path
    }

    /// Starts an experiment whose file this is; returns its id once its faults are held.
    #[must_use]
    pub fn start(&self, text: &str) -> String {
        let file = self.file("experiment.yaml", text);
        let row = self.json(&["run", "--detach", &file.display().to_string()]);
        row["id"].as_str().expect("an id").to_owned()
    }

    /// Processes of a role on a host, by their numbers on this machine: `squall agent`, `squall
    /// coordinator`, `squall hold`, told apart by their command lines.
    #[must_use]
    pub fn pids(&self, host: &str, role: &str) -> Vec<i32> {
        let Some(init) = self.lab.host(host).and_then(|h| h.pid) else { return Vec::new() };
        let space = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let Some(of_host) = space(&init.to_string()) else { return Vec::new() };
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(pid) = name.parse::<i32>() else { continue };
            let line = std::fs::read(format!("/proc/{name}/cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = line.split(|b| *b == 0).collect();
            if words.get(1) == Some(&role.as_bytes()) && space(&name).as_ref() == Some(&of_host) {
                found.push(pid);
            }
        }
        found
    }

    /// Sends a signal to every process of a role on a host; returns how many there were.
    ///
    /// # Panics
    /// A process cannot be signalled.
    pub fn signal(&self, host: &str, role: &str, signal: &str) -> usize {
        let pids = self.pids(host, role);
        if !pids.is_empty() {
            // All at once: the death of one may end the others.
            let mut kill = Command::new("kill");
            kill.arg(format!("-{signal}")).args(pids.iter().map(i32::to_string));
            if signal == "KILL" {
                let known = pids.iter().filter_map(|pid| Some((*pid, started(*pid)?)));
                self.killed.lock().unwrap_or_else(PoisonError::into_inner).extend(known);
            }
            let _ = run(kill).ended(0);
        }
        pids.len()
    }

    /// The directory in `/proc` of a host's pid 1.
    ///
    /// # Panics
    /// There is no such host, or it is down.
    #[must_use]
    pub fn init(&self, host: &str) -> PathBuf {
        let pid = self.lab.host(host).and_then(|h| h.pid);
        PathBuf::from(format!("/proc/{}", pid.unwrap_or_else(|| panic!("{host} is down"))))
    }

    /// A host's file, seen from outside; `path` begins at its root.
    ///
    /// # Panics
    /// There is no such host, or it is down.
    #[must_use]
    pub fn path(&self, host: &str, path: &str) -> PathBuf {
        self.init(host).join("root").join(path.trim_start_matches('/'))
    }

    /// Waits until what was killed is gone: a process that dies keeps its locks until its last thread has
    /// ended.
    ///
    /// # Panics
    /// It is still there.
    pub fn await_deaths(&self) {
        let killed =
            std::mem::take(&mut *self.killed.lock().unwrap_or_else(PoisonError::into_inner));
        until(10_000, "the dead are gone", || {
            let is_gone = |(pid, start): &(i32, String)| started(*pid).as_ref() != Some(start);
            killed.iter().all(is_gone).then_some(())
        });
    }

    /// Starts a role on a host once more, as the lab did: `agent` or `coordinator`.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn revive(&self, host: &str, role: &str) {
        self.await_deaths();
        let log = File::options().create(true).append(true).open(self.log_path(host, role));
        let log = log.expect("its log");
        let words = ["setsid", "-f", "squall", role, "--config", config(role)];
        let mut command = self.lab.exec(host, words);
        command.stdin(Stdio::null()).stderr(log.try_clone().expect("a descriptor")).stdout(log);
        let status = command.status().expect("it starts");
        assert!(status.success(), "{command:?}: {status}");
    }

    /// `squall ARGS` about this cluster, beside the test.
    #[must_use]
    pub fn begin(&self, args: &[&str]) -> Running {
        Running::begin(self.lab.squall(args))
    }

    /// What Squall has on a host now, one line each: holders, burners, and every table of the packet
    /// filter, of which a lab's host has none by itself; one that a test made is called `foreign`.
    #[must_use]
    pub fn traces(&self, host: &str) -> Vec<String> {
        let mut found: Vec<String> = Vec::new();
        for role in ["hold", "burn"] {
            found.extend(self.pids(host, role).iter().map(|pid| format!("squall {role} ({pid})")));
        }
        let rules = self.on(host, &["nft", "list", "tables"]).ended(0).out;
        found.extend(rules.lines().filter(|l| !l.ends_with(" foreign")).map(str::to_owned));
        found
    }

    /// The last lines of a role's log on a host.
    #[must_use]
    pub fn log(&self, host: &str, role: &str) -> String {
        std::fs::read_to_string(self.log_path(host, role)).unwrap_or_default()
    }

    fn log_path(&self, host: &str, role: &str) -> PathBuf {
        self.lab.dir().join("hosts").join(host).join(format!("{role}.log"))
    }

    /// The status of one host.
    ///
    /// # Panics
    /// There is none of that name.
    #[must_use]
    pub fn host(&self, name: &str) -> Value {
        let status = self.json(&["status"]);
        let hosts = status["hosts"].as_array().cloned().unwrap_or_default();
        let host = hosts.into_iter().find(|h| h["name"] == name);
        host.unwrap_or_else(|| panic!("no {name} in {status:#}"))
    }

    /// Waits until a host says that it is in this state.
    ///
    /// # Panics
    /// It does not within half a minute.
    pub fn await_state(&self, name: &str, state: &str) {
        until(30_000, &format!("{name} is {state}"), || {
            (self.host(name)["state"] == state).then_some(())
        });
    }

    /// Whether one ping from a host to an address is answered within `seconds`.
    #[must_use]
    pub fn pings(&self, host: &str, address: &str, seconds: f32) -> bool {
        self.on(host, &["ping", "-n", "-c", "1", "-W", &seconds.to_string(), address]).code == 0
    }
}
