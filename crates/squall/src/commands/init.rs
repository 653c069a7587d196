//! `squall init`: everything about a new cluster, in one directory.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use squall_coordinator::MAX_COORDINATORS;
use squall_core::ids::{Coordinator, HostName, NodeId};
use squall_wire::{ClusterAuthority, GossipKey, IdentityError, Role};

use crate::cli::{Init, Shared, named_address};
use crate::client::cluster_dir::{CLUSTER_FILE, ClusterDir, ClusterFile, OPERATOR_DIR};
use crate::exit::{Exit, Failure, Outcome};
use crate::files;
use crate::output::talk;

/// How long the certificates last that `init` issues.
pub const DAYS: u32 = 730;

/// Where a coordinator's directory is copied to on its host: apart from the agent's, which may live
/// there too.
pub const HOME: &str = "/etc/squall/coordinator";

fn identity(error: IdentityError) -> Failure {
    Failure::local(error.to_string(), "check the directory and its permissions")
}

/// `squall init`: everything about a new cluster, in one directory.
pub fn init(init: &Init, shared: &Shared) -> Outcome {
    let Some(dir) = shared.cluster() else {
        return Err(Failure::usage(
            "--cluster is missing",
            "name the directory to make: squall init --cluster DIR …",
        ));
    };
    if dir.join(CLUSTER_FILE).exists() {
        let what = format!("{} is a cluster's directory already", dir.display());
        return Err(Failure::usage(
            what,
            "name another one; a new authority would lock all hosts out",
        ));
    }
    let coordinators = members(&init.coordinators)?;
    let authority = ClusterAuthority::create(&init.name)
        .map_err(|e| Failure::usage(e.to_string(), "choose another --name"))?;
    let operator = authority
        .issue(Role::Operator, &init.operator, DAYS)
        .map_err(|e| Failure::usage(e.to_string(), "choose another --operator"))?;
    let gossip = GossipKey::create();
    for member in &coordinators {
        let home = dir.join("coordinators").join(member.name.as_str());
        coordinator_home(&authority, &gossip, member, &coordinators, &home)?;
    }
    operator.save(&dir.join(OPERATOR_DIR)).map_err(identity)?;
    authority.save(&dir.join("authority")).map_err(identity)?;
    let file = ClusterFile { name: init.name.clone(), lab: None, coordinators };
    let dir = ClusterDir { path: dir, file };
    dir.save()?;
    talk(format!("cluster {} in {}", dir.file.name, dir.path.display()));
    for member in &dir.file.coordinators {
        let home = dir.path.join("coordinators").join(member.name.as_str());
        talk(format!(
            "  on {name}: copy {home} to {HOME}, then squall coordinator --config \
             {HOME}/coordinator.toml",
            name = member.name,
            home = home.display()
        ));
    }
    talk(format!("  then, for each host: squall token HOST --cluster {}", dir.path.display()));
    Ok(Exit::Held)
}

/// What a coordinator's host has in [`HOME`]: identity, keys and configuration.
///
/// # Errors
/// The system's.
pub fn coordinator_home(
    authority: &ClusterAuthority,
    gossip: &GossipKey,
    member: &Coordinator,
    all: &[Coordinator],
    home: &Path,
) -> Result<(), Failure> {
    let dir = home.join("identity");
    let issued =
        authority.issue(Role::Coordinator, member.name.as_str(), DAYS).map_err(identity)?;
    issued.save(&dir).map_err(identity)?;
    gossip.save(&dir).map_err(identity)?;
    authority.save(&dir).map_err(identity)?;
    files::write(&home.join("coordinator.toml"), &coordinator_toml(member, all))
}

fn members(texts: &[String]) -> Result<Vec<Coordinator>, Failure> {
    let mut members: Vec<Coordinator> = Vec::new();
    for text in texts {
        let (name, address) =
            named_address(text).map_err(|e| Failure::usage(e, "squall init --help"))?;
        let name: HostName = name
            .parse()
            .map_err(|e| Failure::usage(format!("{text}: {e}"), "choose another name"))?;
        if address.port() == 0 || address.ip().is_unspecified() {
            return Err(Failure::usage(
                format!("{text}: nobody can reach it there"),
                "write the address and port at which agents and operators reach it",
            ));
        }
        if members.iter().any(|m| m.name == name || m.address == address) {
            return Err(Failure::usage(
                format!("{text}: the same name or address twice"),
                "give each a name and an address of its own",
            ));
        }
        let place = format!("c{}", members.len() + 1);
        let numbered = name.as_str().strip_prefix('c').is_some_and(|n| n.parse::<u64>().is_ok());
        if numbered && name.as_str() != place {
            return Err(Failure::usage(
                format!("{text}: views and terms will call this coordinator {place}"),
                "c1, c2, … in this order; or other names",
            ));
        }
        members.push(Coordinator { id: NodeId(members.len() as u64 + 1), name, address });
    }
    if members.len() > MAX_COORDINATORS {
        let what = format!("{} coordinators are too many", members.len());
        let next = format!("three or five are best, {MAX_COORDINATORS} the most");
        return Err(Failure::usage(what, next));
    }
    Ok(members)
}

/// The list of coordinators, as every role's file has it.
pub fn list(coordinators: &[Coordinator]) -> String {
    let table = BTreeMap::from([("coordinators", coordinators)]);
    let text = toml::to_string(&table).expect("names, numbers and addresses are TOML");
    format!("\n{text}")
}

/// A coordinator's configuration, for [`HOME`] on its host.
fn coordinator_toml(member: &Coordinator, all: &[Coordinator]) -> String {
    let any: std::net::IpAddr = match member.address {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let listen = SocketAddr::new(any, member.address.port());
    format!(
        "name = \"{}\"\nid = {}\nlisten = \"{listen}\"\nstate-dir = \"/var/lib/squall-coordinator\"\n\
         identity-dir = \"{HOME}/identity\"\n{}",
        member.name,
        member.id.0,
        list(all)
    )
}
