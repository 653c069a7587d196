//! Where the demo plays: this program as its own command line, and the lab's hosts.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::commands::runtime;
use crate::commands::watch::Interrupts;
use crate::exit::{Exit, Failure};
use crate::output::{data, talk};

/// An exit code above it is a signal's.
const KILLED: i32 = 128;
/// How often what takes everything down is begun again where a signal ended it.
const RETRIES: u32 = 3;

/// The path of this program.
pub fn program() -> String {
    std::env::current_exe().unwrap_or_default().display().to_string()
}

/// This program, typing commands.
pub struct Stage {
    program: PathBuf,
    lab: String,
    scene: std::cell::Cell<u32>,
    cluster: std::cell::RefCell<Option<PathBuf>>,
    spaces: std::cell::RefCell<Vec<Space>>,
    /// A signal came: nothing more is shown.
    ending: Arc<AtomicBool>,
    /// What is taken down now is taken down whole: a terminal's signals are not for it.
    closing: bool,
}

/// What a command printed and ended with.
pub struct Said {
    /// Its standard output.
    pub text: String,
    /// Its exit code; 128 and more for a signal.
    pub code: i32,
}

impl Stage {
    /// The program is this one.
    ///
    /// # Errors
    /// Its path is not to be had.
    pub fn new(lab: &str) -> Result<Stage, Failure> {
        let program = std::env::current_exe()
            .map_err(|e| Failure::local(format!("this program's path: {e}"), "is /proc there?"))?;
        Ok(Stage {
            program,
            lab: lab.to_owned(),
            scene: std::cell::Cell::new(0),
            cluster: std::cell::RefCell::default(),
            spaces: std::cell::RefCell::default(),
            ending: heed_signals()?,
            closing: false,
        })
    }

    /// What comes from here on is done whatever signals came.
    pub fn close(&mut self) {
        (self.ending, self.closing) = (Arc::default(), true);
    }

    fn hear(&self, args: &[&str], errors: Stdio) -> Result<Said, Failure> {
        let ended = || self.ending.load(Ordering::Relaxed);
        let left = || Failure::new(Exit::Stopped, "ended by a signal", "squall demo");
        if ended() {
            return Err(left());
        }
        let mut command = self.command(args);
        command.stderr(errors);
        let mut output = command.output().map_err(|e| failed(args, &e))?;
        // A signal may meet a child that has just begun and has not left the terminal's group yet.
        for _ in 0..RETRIES {
            if !(self.closing && code(output.status) > KILLED) {
                break;
            }
            output = command.output().map_err(|e| failed(args, &e))?;
        }
        if ended() {
            return Err(left());
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        Ok(Said { text, code: code(output.status) })
    }

    /// A line that says what comes.
    pub fn heading(&self, text: &str) {
        self.scene.set(self.scene.get() + 1);
        talk(format!("\n== {}. {text}", self.scene.get()));
    }

    /// Notes the network namespaces of the lab: of its hosts, by their first processes, and of its
    /// switch, which started them.
    pub fn set_hosts(&self, pids: &[String]) {
        let parents: BTreeSet<String> = pids.iter().filter_map(|pid| parent_of(pid)).collect();
        let all = pids.iter().chain(&parents);
        *self.spaces.borrow_mut() = all.filter_map(|pid| Space::of(pid)).collect();
    }

    /// The lab's name.
    pub fn lab(&self) -> &str {
        &self.lab
    }

    /// The network namespaces that [`Stage::set_hosts`] noted, open until they are dropped.
    pub fn take_spaces(&self) -> Vec<Space> {
        self.spaces.take()
    }

    /// From now on commands are for this cluster.
    pub fn set_cluster(&self, dir: &str) {
        *self.cluster.borrow_mut() = Some(PathBuf::from(dir));
    }

    /// Where files of the demo may lie: they go with the lab.
    ///
    /// # Errors
    /// There is no lab yet.
    pub fn dir(&self) -> Result<PathBuf, Failure> {
        let dir = self.cluster.borrow().clone();
        dir.ok_or_else(|| Failure::local("there is no lab yet", "squall lab up"))
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).stdin(Stdio::null());
        if self.closing {
            command.process_group(0);
        }
        if let Some(dir) = &*self.cluster.borrow() {
            command.env("SQUALL_CLUSTER", dir);
        }
        command
    }

    /// Types a command for all to see, shows what it says, and returns it.
    ///
    /// # Errors
    /// It could not be started.
    pub fn show(&self, args: &[&str]) -> Result<Said, Failure> {
        talk(format!("\n$ squall {}", args.join(" ")));
        let said = self.ask(args)?;
        data(&said.text)?;
        Ok(said)
    }

    /// The same; any end but a good one is a failure.
    ///
    /// # Errors
    /// It could not be started, or ended otherwise.
    pub fn run(&self, args: &[&str]) -> Result<Said, Failure> {
        let said = self.show(args)?;
        if said.code == 0 {
            return Ok(said);
        }
        let what = format!("squall {} ended with {}", args.join(" "), said.code);
        Err(Failure::new(Exit::Broken, what, "what it said stands above"))
    }

    /// Asks without showing. What the command talks is still seen.
    ///
    /// # Errors
    /// It could not be started.
    pub fn ask(&self, args: &[&str]) -> Result<Said, Failure> {
        self.hear(args, Stdio::inherit())
    }

    /// Asks for JSON.
    ///
    /// # Errors
    /// It could not be started, or printed something else.
    pub fn json(&self, args: &[&str]) -> Result<serde_json::Value, Failure> {
        let all: Vec<&str> = args.iter().copied().chain(["-o", "json"]).collect();
        let said = self.ask(&all)?;
        serde_json::from_str(&said.text).map_err(|e| {
            let what = format!("squall {} printed no JSON ({}): {e}", args.join(" "), said.code);
            Failure::local(what, "what it said stands above")
        })
    }

    /// The addresses of these hosts, in this order.
    ///
    /// # Errors
    /// The cluster does not say.
    pub fn addresses(&self, hosts: &[&str]) -> Result<Vec<IpAddr>, Failure> {
        let status = self.json(&["status"])?;
        let all = status["hosts"].as_array().cloned().unwrap_or_default();
        let address = |name: &&str| {
            let host = all.iter().find(|h| h["name"] == *name)?;
            host["address"].as_str()?.parse().ok()
        };
        let found: Option<Vec<IpAddr>> = hosts.iter().map(address).collect();
        found.ok_or_else(|| Failure::local("a host has no address", "squall status"))
    }

    /// Runs a program on a host, quietly; what it prints comes back.
    ///
    /// # Errors
    /// It could not be started.
    pub fn on_host(&self, host: &str, argv: &[&str]) -> Result<Said, Failure> {
        self.hear(&self.exec(host, argv), Stdio::null())
    }

    /// Starts a program on a host that stays until the host goes or the value is dropped.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start(&self, host: &str, argv: &[&str]) -> Result<Running, Failure> {
        let args = self.exec(host, argv);
        let child = self
            .command(&args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| failed(&args, &e))?;
        Ok(Running(child))
    }

    fn exec<'a>(&'a self, host: &'a str, argv: &[&'a str]) -> Vec<&'a str> {
        let mut args = vec!["lab", "exec", "--lab", &self.lab, host, "--"];
        args.extend(argv);
        args
    }
}

/// From now on a signal ends no process: it is noted, and what is under way ends first.
fn heed_signals() -> Result<Arc<AtomicBool>, Failure> {
    let came = Arc::new(AtomicBool::new(false));
    let (runtime, note) = (runtime()?, came.clone());
    let mut interrupts = runtime.block_on(async { Interrupts::new() })?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            loop {
                interrupts.next().await;
                note.store(true, Ordering::Relaxed);
                talk("ending: after this step everything is taken down");
            }
        });
    });
    Ok(came)
}

/// A program on a host. Dropping it ends it.
pub struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have gone with its host.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn failed(args: &[&str], error: &std::io::Error) -> Failure {
    Failure::local(format!("squall {}: {error}", args.join(" ")), "check this host's limits")
}

fn code(status: std::process::ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|s| 128 + s)).unwrap_or(-1)
}

/// A network namespace. It is kept open: the number of one that is gone is given to the next one that
/// anybody makes.
pub struct Space {
    name: String,
    _open: File,
}

impl Space {
    /// The one of a process; nothing where it has ended.
    fn of(pid: &str) -> Option<Space> {
        let open = File::open(format!("/proc/{pid}/ns/net")).ok()?;
        let name = format!("net:[{}]", open.metadata().ok()?.ino());
        Some(Space { name, _open: open })
    }
}

/// Who started a process.
fn parent_of(pid: &str) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1).map(str::to_owned)
}

/// Every process that lives in one of these network namespaces, as `PID (NAME)`, and its namespace.
pub fn living_in(spaces: &[Space]) -> Vec<(String, String)> {
    let inside = |pid: String| {
        let space = std::fs::read_link(format!("/proc/{pid}/ns/net")).ok()?;
        let space = space.to_string_lossy().into_owned();
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let lives = spaces.iter().any(|s| s.name == space);
        lives.then(|| (format!("{pid} ({})", name.trim()), space))
    };
    pids().into_iter().filter_map(inside).collect()
}

fn pids() -> Vec<String> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.map(|e| e.file_name().to_string_lossy().into_owned());
    names.filter(|n| n.bytes().all(|b| b.is_ascii_digit())).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn a_process_is_found_in_its_network_and_in_no_later_one() {
        let start = || {
            let mut unshare = Command::new("unshare");
            Running(unshare.args(["--net", "sleep", "60"]).spawn().expect("unshare"))
        };
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        let space = |pid: u32| loop {
            let space = Space::of(&pid.to_string()).expect("unshare needs root");
            if Path::new(&space.name) != own {
                return space;
            }
        };
        let first = start();
        let spaces = [space(first.0.id())];
        assert_eq!(living_in(&spaces).len(), 1);
        drop(first);
        assert_eq!(living_in(&spaces), []);
        // Were the first one not kept open, one of these would get its number.
        for _ in 0..20 {
            let later = start();
            drop(space(later.0.id()));
            assert_eq!(living_in(&spaces), []);
            drop(later);
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
