//! Server processes: they end with this one, however it ends.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{self, ChildStdin, ChildStdout, Command, Stdio};

use rustix::process::{Signal, set_parent_process_death_signal};

use crate::{Failure, Outcome};

/// A process that is killed when this value is dropped.
pub struct Child {
    process: process::Child,
    /// Where it can be talked to, line by line.
    talk: Option<(ChildStdin, BufReader<ChildStdout>)>,
}

/// Turns this process into `program`, which dies with the one that started it.
pub fn become_tied(program: &str, arguments: &[&str]) -> Outcome<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    Err(Command::new(program).args(arguments).exec().into())
}

fn tied(program: &Path) -> Outcome<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("tied").arg(program);
    Ok(command)
}

impl Child {
    /// A server of this program's own; it answers each line with a line.
    pub fn serve(arguments: &[&str]) -> Outcome<Child> {
        let mut command = tied(&std::env::current_exe()?)?;
        command.arg("serve").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn()?;
        let input = process.stdin.take().expect("it was asked for");
        let output = process.stdout.take().expect("it was asked for");
        Ok(Child { process, talk: Some((input, BufReader::new(output))) })
    }

    /// Any program. What it says on stderr goes to `log`.
    pub fn start(program: &Path, arguments: &[&str], log: &Path) -> Outcome<Child> {
        let mut command = tied(program)?;
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(std::fs::File::create(log)?);
        Ok(Child { process: command.spawn()?, talk: None })
    }

    /// Says a line.
    pub fn say(&mut self, line: &str) -> Outcome<()> {
        let (input, _) = self.talk.as_mut().ok_or("nobody listens")?;
        writeln!(input, "{line}")?;
        Ok(input.flush()?)
    }

    /// Waits for a line.
    pub fn hear(&mut self) -> Outcome<String> {
        let (_, output) = self.talk.as_mut().ok_or("nobody talks")?;
        let mut line = String::new();
        if output.read_line(&mut line)? == 0 {
            return Err(Failure::from("a server has ended"));
        }
        Ok(line.trim_end().to_owned())
    }

    /// Resident memory, in KiB.
    pub fn rss_kib(&self) -> Outcome<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
