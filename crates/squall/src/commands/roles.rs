//! The long-running roles: read the configuration, set up logs and a runtime, run until told to end.

use std::path::Path;

use serde::de::DeserializeOwned;
use squall_agent::config::POLICY_FILE;
use squall_core::policy::Policy;

use super::watch::Interrupts;
use super::{logs, runtime_error};
use crate::exit::{Exit, Failure, Outcome};
use crate::files;

/// Threads of a role.
const WORKERS: usize = 2;

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Failure> {
    files::toml(path, &files::read(path)?)
}

/// `squall coordinator`.
pub fn coordinator(config: &Path) -> Outcome {
    let config: squall_coordinator::Config = read(config)?;
    logs("info");
    runtime()?.block_on(async {
        let mut interrupts = Interrupts::new()?;
        squall_coordinator::run(config, async move { interrupts.next().await }).await.map_err(|e| {
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
    logs("info");
    runtime()?.block_on(async {
        let mut interrupts = Interrupts::new()?;
        squall_agent::run(config, policy, async move { interrupts.next().await })
            .await
            .map_err(|e| failed("agent", &e).with_hosts("nothing on this host was touched"))
    })?;
    Ok(Exit::Held)
}

/// The host's policy: the file that is named, else the one in the usual place, else the default.
///
/// # Errors
/// The file is there and cannot be read, or is not valid: what the owner wanted is then not known.
pub fn policy(path: Option<&Path>) -> Result<Policy, Failure> {
    match path {
        Some(named) => read(named),
        None if Path::new(POLICY_FILE).exists() => read(Path::new(POLICY_FILE)),
        None => Ok(Policy::default()),
    }
}

fn failed(role: &str, error: &dyn std::error::Error) -> Failure {
    Failure::local(format!("the {role} cannot run: {error}"), "mend that and start it again")
}

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .enable_all()
        .build()
        .map_err(runtime_error)
}
