//! A lab as the tests of the whole use it: commands as a person types them, answers as JSON, processes
//! by their pids.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;
use squall_cluster::{Lab, Up, program};

/// A lab with a cluster in it; it goes down when this is dropped.
#[derive(Debug)]
pub struct Fleet {
    /// The lab itself.
    pub lab: Lab,
    files: tempfile::TempDir,
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

/// Runs a command to its end.
///
/// # Panics
/// It cannot be started.
#[must_use]
pub fn run(mut command: Command) -> Said {
    command.output().unwrap_or_else(|e| panic!("{command:?}: {e}")).into()
}

/// Asks again and again until something is there; returns it and how long it took.
///
/// # Panics
/// It is not there after `ms` milliseconds.
pub fn until<T>(ms: u64, what: &str, mut ask: impl FnMut() -> Option<T>) -> (T, Duration) {
    let began = Instant::now();
    loop {
        if let Some(found) = ask() {
            return (found, began.elapsed());
        }
        assert!(began.elapsed() < Duration::from_millis(ms), "not within {ms} ms: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
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
        Fleet { lab, files }
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
        let Some(init) = self.lab.host(host).map(|h| h.pid) else { return Vec::new() };
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
        for pid in &pids {
            let mut kill = Command::new("kill");
            kill.args([&format!("-{signal}"), &pid.to_string()]);
            let _ = run(kill).ended(0);
        }
        pids.len()
    }

    /// Whether one ping from a host to an address is answered within `seconds`.
    #[must_use]
    pub fn pings(&self, host: &str, address: &str, seconds: f32) -> bool {
        self.on(host, &["ping", "-n", "-c", "1", "-W", &seconds.to_string(), address]).code == 0
    }
}
