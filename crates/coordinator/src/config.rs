//! A coordinator's configuration file.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;
use squall_core::ids::{Coordinator, HostName, NodeId};

/// The UDP port of coordinators.
pub const DEFAULT_PORT: u16 = 7443;
/// Coordinators of one raft group, at most. More cost latency and win nothing.
pub const MAX_COORDINATORS: usize = 7;

/// One coordinator, as its TOML file says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// This coordinator's name, as in its certificate and in `coordinators`.
    pub name: HostName,
    /// This coordinator's number in raft, from 1; never given to another one later.
    pub id: NodeId,
    /// Where it listens (UDP).
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Where log, snapshots and stops are kept. One coordinator a directory.
    pub state_dir: PathBuf,
    /// Where `squall init` put its certificate.
    pub identity_dir: PathBuf,
    /// All coordinators, this one among them: the same list on each of them.
    pub coordinators: Vec<Coordinator>,
    /// Whether hosts may enrol here with a token. Takes effect where the cluster's authority is in
    /// the identity directory too.
    #[serde(default = "yes")]
    pub enrol: bool,
    /// The policy file of its host, which lists the programs that a probe may run here; left out,
    /// `/etc/squall/policy.toml` where it is there. Where it cannot be read, none may.
    #[serde(default)]
    pub policy: Option<PathBuf>,
    /// Whether its packets wear the mark that exempts them from network faults: needed where faults
    /// are held on the same host. Without CAP_NET_ADMIN a warning says that they do not.
    #[serde(default = "yes")]
    pub mark: bool,
}

fn default_listen() -> SocketAddr {
    SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, DEFAULT_PORT))
}

fn yes() -> bool {
    true
}

/// A configuration that cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidConfig {
    /// This coordinator is missing in the list.
    #[error("`coordinators` does not list id {} with the name `{name}`: list all of them, this one too", id.0)]
    NotListed {
        /// Its id.
        id: NodeId,
        /// Its name.
        name: HostName,
    },
    /// Two entries are the same.
    #[error("`coordinators` lists {0} twice")]
    Twice(String),
    /// Too many entries.
    #[error("{0} coordinators are listed: three or five are best, {MAX_COORDINATORS} the most")]
    TooMany(usize),
    /// An id of 0.
    #[error("coordinator ids begin at 1")]
    Zero,
}

impl Config {
    /// Checks what the file's grammar cannot.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), InvalidConfig> {
        if self.coordinators.len() > MAX_COORDINATORS {
            return Err(InvalidConfig::TooMany(self.coordinators.len()));
        }
        if self.coordinators.iter().any(|m| m.id.0 == 0) {
            return Err(InvalidConfig::Zero);
        }
        for (n, member) in self.coordinators.iter().enumerate() {
            for other in &self.coordinators[..n] {
                if other.id == member.id {
                    return Err(InvalidConfig::Twice(format!("id {}", member.id.0)));
                }
                if other.name == member.name {
                    return Err(InvalidConfig::Twice(format!("the name `{}`", member.name)));
                }
                if other.address == member.address {
                    return Err(InvalidConfig::Twice(format!("the address {}", member.address)));
                }
            }
        }
        if !self.coordinators.iter().any(|m| m.id == self.id && m.name == self.name) {
            return Err(InvalidConfig::NotListed { id: self.id, name: self.name.clone() });
        }
        Ok(())
    }

    /// The entry of a coordinator.
    #[must_use]
    pub fn member(&self, id: NodeId) -> Option<&Coordinator> {
        self.coordinators.iter().find(|m| m.id == id)
    }

    /// The others.
    pub fn others(&self) -> impl Iterator<Item = &Coordinator> {
        self.coordinators.iter().filter(|m| m.id != self.id)
    }

    /// Whether it falls to this one to write the first membership: the lowest id does, so that two
    /// never write different ones.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.coordinators.iter().all(|m| self.id <= m.id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(list: &[(u64, &str, u16)]) -> Config {
        Config {
            name: "c1".parse().unwrap(),
            id: NodeId(1),
            listen: default_listen(),
            state_dir: "/s".into(),
            identity_dir: "/i".into(),
            coordinators: list
                .iter()
                .map(|(id, name, port)| Coordinator {
                    id: NodeId(*id),
                    name: name.parse().unwrap(),
                    address: ([127, 0, 0, 1], *port).into(),
                })
                .collect(),
            enrol: true,
            policy: None,
            mark: false,
        }
    }

    #[test]
    fn a_list_names_each_coordinator_once_and_this_one_too() {
        assert_eq!(config(&[(1, "c1", 1), (2, "c2", 2)]).validate(), Ok(()));
        let wrong = [
            vec![(2, "c2", 2)],
            vec![(1, "other", 1)],
            vec![(1, "c1", 1), (1, "c2", 2)],
            vec![(1, "c1", 1), (2, "c1", 2)],
            vec![(1, "c1", 1), (2, "c2", 1)],
            vec![(0, "c0", 0), (1, "c1", 1)],
        ];
        for list in wrong {
            assert!(config(&list).validate().is_err(), "{list:?}");
        }
    }
}
