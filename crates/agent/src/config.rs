//! The agent's configuration file.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::Deserialize;
use squall_core::ids::{Coordinator, HostName};

/// Where gossip and beats are received where the file names no port (UDP).
pub const GOSSIP_PORT: u16 = 7446;
/// Where relayed stops are received where the file names no port (UDP).
pub const RELAY_PORT: u16 = 7447;

/// Where the configuration is, mostly; commands beside the agent look here for its places.
pub const AGENT_FILE: &str = "/etc/squall/agent.toml";
/// The host's policy file where no other is named.
pub const POLICY_FILE: &str = "/etc/squall/policy.toml";

/// `agent.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// The host's name; the certificate must carry the same.
    pub name: HostName,
    /// The address by which other hosts reach this one.
    pub address: IpAddr,
    /// Where the journal is. Must survive a reboot.
    #[serde(default = "default_state_dir")]
    pub state_dir: PathBuf,
    /// Where the socket for `squall inject` is.
    #[serde(default = "default_run_dir")]
    pub run_dir: PathBuf,
    /// Where the certificate, its key, the cluster's CA and the gossip key are.
    #[serde(default = "default_identity_dir")]
    pub identity_dir: PathBuf,
    /// The host's policy file; where none is named, [`POLICY_FILE`] if it is there, else the default
    /// policy holds.
    #[serde(default)]
    pub policy: Option<PathBuf>,
    /// UDP port of gossip and beats, the same on every host of a cohort or told to the others by
    /// the leader; 0 lets the kernel choose.
    #[serde(default = "default_gossip_port")]
    pub gossip_port: u16,
    /// UDP port of relayed stops; 0 lets the kernel choose.
    #[serde(default = "default_relay_port")]
    pub relay_port: u16,
    /// Labels; `group` names the cohort.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// A coordinator lives on this host too.
    #[serde(default)]
    pub coordinator: bool,
    /// Every coordinator.
    pub coordinators: Vec<Coordinator>,
}

/// Where state lives where no file says otherwise.
#[must_use]
pub fn default_state_dir() -> PathBuf {
    PathBuf::from("/var/lib/squall")
}

/// Where sockets live where no file says otherwise.
#[must_use]
pub fn default_run_dir() -> PathBuf {
    PathBuf::from("/run/squall")
}

fn default_identity_dir() -> PathBuf {
    PathBuf::from("/etc/squall/identity")
}

fn default_gossip_port() -> u16 {
    GOSSIP_PORT
}

fn default_relay_port() -> u16 {
    RELAY_PORT
}
