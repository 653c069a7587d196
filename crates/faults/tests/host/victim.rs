//! Processes that are there to be hurt, and what can be seen of them.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use squall_core::fault::Processes;

use crate::bench::{TestHost, example, until};

/// The example `victim`, ticking some hundred times a second.
pub struct Victim {
    child: Child,
    ticks: Arc<AtomicU64>,
    /// Where they come from.
    pipe: OwnedFd,
    pub tcp: u16,
    pub udp: u16,
}

impl Victim {
    /// Starts one with so many threads and these words on its command line.
    pub fn start(host: &TestHost, threads: usize, words: &str) -> Victim {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        let mut child = host.run(move || {
            Command::new(example("victim"))
                .arg(threads.to_string())
                .args(words)
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        });
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let ports: Vec<u16> = line.split_whitespace().map(|p| p.parse().unwrap()).collect();
        let pipe = out.get_ref().as_fd().try_clone_to_owned().unwrap();
        let ticks = Arc::new(AtomicU64::new(0));
        let count = ticks.clone();
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(len @ 1..) = out.read(&mut chunk) {
                count.fetch_add(len as u64, Ordering::Relaxed);
            }
        });
        let victim = Victim { child, ticks, pipe, tcp: ports[0], udp: ports[1] };
        victim.resumes(5_000);
        victim
    }

    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Waits until it ticks again; returns how long that took.
    pub fn resumes(&self, ms: u64) -> Duration {
        let before = self.ticks.load(Ordering::Relaxed);
        until(ms, || self.ticks.load(Ordering::Relaxed) > before + 1)
    }

    /// Whether it does nothing for 200 ms.
    pub fn stands(&self) -> bool {
        // What is under way in the pipe may still arrive.
        until(5_000, || rustix::io::ioctl_fionread(&self.pipe).unwrap() == 0);
        thread::sleep(Duration::from_millis(20));
        let before = self.ticks.load(Ordering::Relaxed);
        thread::sleep(Duration::from_millis(200));
        self.ticks.load(Ordering::Relaxed) == before
    }

    /// Whether it has ended; reaps it, as a parent does.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Its state as `ps` shows it.
    pub fn state(&self) -> char {
        state(self.pid()).expect("it is there")
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process's state as `ps` shows it.
pub fn state(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// The burners of the fault on h1 that has this tag.
pub fn burners(tag: &str) -> Vec<i32> {
    let is_one = |pid: &i32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = words.split(|b| *b == 0).collect();
        words.get(1) == Some(&&b"burn"[..]) && words.contains(&format!("{tag}@h1").as_bytes())
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|e| e.file_name().to_str()?.parse().ok());
    pids.filter(is_one).collect()
}

/// Memory that a process has taken, in bytes.
pub fn taken(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).unwrap_or("0");
    line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Processes that have this word on their command line.
pub fn with(word: &str) -> Processes {
    Processes { cmdline: Some(word.to_owned()), ..Processes::default() }
}
