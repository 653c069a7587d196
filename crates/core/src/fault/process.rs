//! Faults of processes: which they are, and what becomes of them.

use serde::{Deserialize, Serialize};

/// Signals that leave a process stopped for ever where it does not handle them: SIGSTOP, SIGTSTP,
/// SIGTTIN, SIGTTOU.
const STOPPING: std::ops::RangeInclusive<u8> = 19..=22;

/// Which processes. Every condition that is given must hold; at least one is given. Squall itself (the same
/// program, or its name and the agent's user), pid 1 and what the host's policy protects never match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Processes {
    /// The command's name, as `ps -o comm` shows it.
    pub name: Option<String>,
    /// A text that the command line contains.
    pub cmdline: Option<String>,
    /// The process id.
    pub pid: Option<u32>,
    /// A TCP port that it listens on, or a UDP port that it is bound to.
    pub port: Option<u16>,
    /// A cgroup path, or a systemd unit (`nginx.service`), that it lives in or below.
    pub cgroup: Option<String>,
    /// Names that never match.
    pub exclude: Vec<String>,
}

/// How many of what matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Amount {
    /// All of them.
    #[default]
    All,
    /// At most so many.
    Count(u32),
    /// So many percent, 1 to 100, rounded up to at least one.
    Percent(u8),
}

impl Amount {
    /// The number that this amounts to out of `total`.
    #[must_use]
    pub fn of(self, total: usize) -> usize {
        match self {
            Amount::All => total,
            Amount::Count(n) => total.min(n as usize),
            Amount::Percent(p) => (total * usize::from(p)).div_ceil(100).min(total),
        }
    }
}

/// Processes that get a signal.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Kill {
    /// Whom.
    pub processes: Processes,
    /// How many of them a round.
    pub amount: Amount,
    /// The signal's number, 1 to 64; those that stop a process are refused (that is `pause`, which
    /// can be lifted).
    pub signal: u8,
    /// Again each so many milliseconds until the fault's end; `None` is one round.
    pub interval_ms: Option<u32>,
}

/// Processes that stand still.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pause {
    /// Whom; all that match.
    pub processes: Processes,
}

/// Bytes of a command's name, at most: `TASK_COMM_LEN` less its zero.
const MAX_COMM: usize = 15;

impl Processes {
    /// Whether no condition is given at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.name.is_none()
            && self.cmdline.is_none()
            && self.pid.is_none()
            && self.port.is_none()
            && self.cgroup.is_none()
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.is_empty() {
            return Err("say which processes: name, cmdline, pid, port or cgroup".into());
        }
        if self.pid == Some(1) || self.pid == Some(0) {
            return Err("pid 0 and pid 1 are protected: choose another process".into());
        }
        if self.port == Some(0) {
            return Err("port 0 is nobody's: write 1 to 65535".into());
        }
        if let Some(name) = &self.name {
            if name.len() > MAX_COMM {
                return Err(format!(
                    "name: the kernel keeps {MAX_COMM} bytes of a command's name, so `{name}` matches nothing: shorten it, or use cmdline"
                ));
            }
            if self.exclude.contains(name) {
                return Err(format!("`{name}` is named and excluded: leave one out"));
            }
        }
        if self.cgroup.as_ref().is_some_and(|c| c.trim_matches('/').is_empty()) {
            return Err("cgroup / holds every process: name one below it".into());
        }
        for text in [&self.name, &self.cmdline, &self.cgroup].into_iter().flatten() {
            if text.is_empty() {
                return Err("an empty text would match every process: leave it out".into());
            }
        }
        Ok(())
    }
}

impl Kill {
    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=64).contains(&self.signal) {
            return Err(format!("signal must be 1 to 64, not {}", self.signal));
        }
        if STOPPING.contains(&self.signal) {
            let what =
                "SIGSTOP, SIGTSTP, SIGTTIN and SIGTTOU cannot be lifted: use the fault `pause`";
            return Err(what.into());
        }
        match self.amount {
            Amount::Count(0) => return Err("count must be at least 1".into()),
            Amount::Percent(p) if !(1..=100).contains(&p) => {
                return Err(format!("percent must be 1 to 100, not {p}"));
            }
            Amount::All | Amount::Count(_) | Amount::Percent(_) => {}
        }
        if self.interval_ms.is_some_and(|ms| ms < 10) {
            return Err("interval must be at least 10ms".into());
        }
        Ok(())
    }
}
