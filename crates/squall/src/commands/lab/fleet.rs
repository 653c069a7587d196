//! What a lab's hosts are furnished with: the files that a real fleet has.

use std::net::SocketAddr;
use std::path::Path;

use squall_agent::config::AGENT_FILE;
use squall_cluster::build::Start;
use squall_cluster::record::CLUSTER_DIR;
use squall_cluster::{Host, Part, Plan};
use squall_coordinator::DEFAULT_PORT;
use squall_core::ids::{Coordinator, NodeId};
use squall_wire::{ClusterAuthority, GossipKey, IdentityError, Role};

use crate::client::cluster_dir::{ClusterDir, ClusterFile, OPERATOR_DIR};
use crate::commands::join::AgentHome;
use crate::commands::{init, join};
use crate::exit::Failure;
use crate::files;

/// Where an agent's identity is.
const AGENT_IDENTITY: &str = "/etc/squall/identity";

/// A cluster of its own for a lab, as `squall init` and `squall join` would make it.
pub struct Fleet {
    authority: ClusterAuthority,
    gossip: GossipKey,
    members: Vec<Coordinator>,
    agents_on_coordinators: bool,
    /// How many agents there will be.
    pub agents: usize,
}

fn identity(error: IdentityError) -> Failure {
    Failure::local(error.to_string(), "is there room where the lab's files are?")
}

impl Fleet {
    pub fn new(plan: &Plan, agents_on_coordinators: bool) -> Result<Fleet, Failure> {
        let member = |host: &Host| match host.part {
            Part::Host => None,
            Part::Coordinator(number) => Some(Coordinator {
                id: NodeId(number.into()),
                name: host.name.clone(),
                address: SocketAddr::new(host.address(), DEFAULT_PORT),
            }),
        };
        let members: Vec<Coordinator> = plan.hosts.iter().filter_map(member).collect();
        let all = plan.hosts.len();
        Ok(Fleet {
            authority: ClusterAuthority::create(plan.name.as_str())
                .map_err(|e| Failure::usage(e.to_string(), "choose another name for the lab"))?,
            gossip: GossipKey::create(),
            agents: if agents_on_coordinators { all } else { all - members.len() },
            agents_on_coordinators,
            members,
        })
    }

    /// The files of one host, written there, and what is started on it.
    pub fn furnish(&self, host: &Host) -> Result<Vec<Start>, Failure> {
        let mut starts = Vec::new();
        let here = self.members.iter().find(|m| m.name == host.name);
        if let Some(member) = here {
            let home = Path::new(init::HOME);
            init::coordinator_home(&self.authority, &self.gossip, member, &self.members, home)?;
            starts.push(start("coordinator", &home.join("coordinator.toml")));
        }
        if here.is_none() || self.agents_on_coordinators {
            starts.push(self.agent(host)?);
        }
        Ok(starts)
    }

    fn agent(&self, host: &Host) -> Result<Start, Failure> {
        let name = host.name.as_str();
        let home = AgentHome {
            name,
            address: host.address(),
            identity: Path::new(AGENT_IDENTITY),
            labels: &host.labels,
        };
        let issued = self.authority.issue(Role::Agent, name, init::DAYS).map_err(identity)?;
        join::save(&issued, &self.gossip, home.identity)?;
        let config = Path::new(AGENT_FILE);
        files::write(config, &home.agent_toml(&self.members))?;
        Ok(start("agent", config))
    }

    /// The directory that `--cluster` takes.
    pub fn save(&self, lab: &Path) -> Result<ClusterDir, Failure> {
        let path = lab.join(CLUSTER_DIR);
        let name = self.authority.cluster().to_owned();
        let operator = self.authority.issue(Role::Operator, "operator", init::DAYS);
        operator.and_then(|o| o.save(&path.join(OPERATOR_DIR))).map_err(identity)?;
        self.authority.save(&path.join("authority")).map_err(identity)?;
        let lab = Some(name.clone());
        let file = ClusterFile { name, lab, coordinators: self.members.clone() };
        let dir = ClusterDir { path, file };
        dir.save()?;
        Ok(dir)
    }
}

fn start(role: &str, config: &Path) -> Start {
    let args = [role.to_owned(), "--config".to_owned(), config.display().to_string()];
    Start { log: role.to_owned(), args: args.into() }
}
