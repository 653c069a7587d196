//! The long-running roles: read the configuration, set up logs and a runtime, run until told to end.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use squall_agent::config::{AGENT_FILE, POLICY_FILE, default_run_dir, default_state_dir};
use squall_core::policy::Policy;

use super::watch::Interrupts;
use super::{logs, threads};
use crate::cli::LocalDirs;
use crate::exit::{Exit, Failure, Outcome};
use crate::files;

/// What a role logs where `RUST_LOG` does not say. Raft tells of its inner state at every step, and warns of
/// each heartbeat to a coordinator that is away, many a second: that it is away is said once already.
const LOGS: &str = "info,openraft=warn,openraft::core::heartbeat=error";
/// Threads of a role.
const WORKERS: usize = 2;

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    files::toml(path, &files::read(path)?)
}

/// `squall coordinator`.
pub fn coordinator(config: &Path) -> Outcome {
    let config: squall_coordinator::Config = read(config)?;
    logs(LOGS);
    // Here it is about programs alone, and none is what every owner allows. Stops must have a coordinator.
    let policy = policy(config.policy.as_deref()).unwrap_or_else(|failure| {
        tracing::error!("no probe runs a program here: {failure}");
        Policy::default()
    });
    runtime()?.block_on(async {
        let mut interrupts = Interrupts::new()?;
        let prober = Box::new(squall_agent::Probes::new(policy));
        squall_coordinator::run(config, prober, async move { interrupts.next().await })
            .await
            .map_err(|e| {
                failed("coordinator", &e).with_hosts(
                    "the others go on where a quorum is left; else each lease runs out by itself",
                )
            })
    })?;
    Ok(Exit::Held)
}

/// `squall agent`.
pub fn agent(config: &Path) -> Outcome {
    let config: squall_agent::Config = read(config)?;
    let policy = policy(config.policy.as_deref())?;
    logs(LOGS);
    runtime()?.block_on(async {
        let mut interrupts = Interrupts::new()?;
        squall_agent::run(config, policy, async move { interrupts.next().await })
            .await
            .map_err(|e| failed("agent", &e).with_hosts("nothing on this host was touched"))
    })?;
    Ok(Exit::Held)
}

/// Where this host's agent keeps its things.
pub struct AgentDirs {
    /// Its journal.
    pub state: PathBuf,
    /// Its socket.
    pub run: PathBuf,
    /// The host's policy file, where one is named.
    pub policy: Option<PathBuf>,
    /// This host has joined a cluster.
    pub member: bool,
}

impl AgentDirs {
    /// As was typed, else as the agent's own configuration says, else as usual: whoever acts on a host
    /// beside its agent must find the agent's latch and its policy.
    ///
    /// # Errors
    /// The configuration is there and cannot be read, or is not valid.
    pub fn find(dirs: &LocalDirs) -> Result<AgentDirs, Failure> {
        let file = Path::new(AGENT_FILE);
        let config: Option<squall_agent::Config> =
            if may_be_there(file) { Some(read(file)?) } else { None };
        Ok(match config {
            Some(c) => AgentDirs::or(dirs, c.state_dir, c.run_dir, c.policy),
            None => AgentDirs::usual(dirs),
        })
    }

    /// The same for what is to be held: not elsewhere than this host's agent looks, which would neither
    /// know of it nor stop it.
    ///
    /// # Errors
    /// As [`AgentDirs::find`]; other places were typed.
    pub fn to_hold(dirs: &LocalDirs) -> Result<AgentDirs, Failure> {
        let typed = AgentDirs::find(dirs)?;
        let own = AgentDirs::find(&LocalDirs::default())?;
        if may_be_there(Path::new(AGENT_FILE)) && (typed.state != own.state || typed.run != own.run)
        {
            return Err(Failure::usage(
                "this host has an agent, which would neither know of the fault nor stop it",
                format!("leave --state-dir and --run-dir out: {AGENT_FILE} says them"),
            ));
        }
        Ok(typed)
    }

    /// As was typed, else as usual.
    pub fn usual(dirs: &LocalDirs) -> AgentDirs {
        AgentDirs::or(dirs, default_state_dir(), default_run_dir(), None)
    }

    fn or(dirs: &LocalDirs, state: PathBuf, run: PathBuf, policy: Option<PathBuf>) -> AgentDirs {
        AgentDirs {
            state: dirs.state().map_or(state, Path::to_owned),
            run: dirs.run().map_or(run, Path::to_owned),
            policy: dirs.policy.clone().or(policy),
            member: may_be_there(Path::new(AGENT_FILE)),
        }
    }
}

/// The host's policy: the file that is named, else the one in the usual place, else the default.
///
/// # Errors
/// The file is there and cannot be read, or is not valid: what the owner wanted is then not known.
pub fn policy(path: Option<&Path>) -> Result<Policy, Failure> {
    match path {
        Some(named) => read(named),
        None if may_be_there(Path::new(POLICY_FILE)) => read(Path::new(POLICY_FILE)),
        None => Ok(Policy::default()),
    }
}

/// Whether a file is there, or nobody can say, as where a link leads to what is not mounted yet: reading it
/// says why, and nothing is held by a default that its owner did not want.
fn may_be_there(path: &Path) -> bool {
    !matches!(path.symlink_metadata(), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

fn failed(role: &str, error: &dyn std::error::Error) -> Failure {
    Failure::local(format!("the {role} cannot run: {error}"), "mend that and start it again")
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_not_there_gives_way_to_a_default() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert!(!may_be_there(&at("policy.toml")));
        std::os::unix::fs::symlink(at("not/mounted/yet"), at("policy.toml")).unwrap();
        assert!(may_be_there(&at("policy.toml")), "a link that leads nowhere now");
        std::fs::write(at("file"), "").unwrap();
        assert!(may_be_there(&at("file/policy.toml")), "nobody can say");
    }
}
