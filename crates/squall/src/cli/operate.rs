//! Commands that concern a whole cluster.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use squall_agent::config::AGENT_FILE;
use squall_core::spec::Millis;

/// `squall init`.
#[derive(Debug, Args)]
pub struct Init {
    /// The cluster's name: a-z, 0-9 and `-`
    #[arg(long)]
    pub name: String,
    /// A coordinator, as `c1=10.0.0.1:7443`; one for each
    #[arg(long = "coordinator", value_name = "NAME=ADDRESS", required = true)]
    pub coordinators: Vec<String>,
    /// The operator's name in the log: who asked for what
    #[arg(long, default_value = "operator")]
    pub operator: String,
}

/// `squall token`.
#[derive(Debug, Args)]
pub struct Token {
    /// The host that may join with it
    pub host: String,
    /// How long it is good
    #[arg(long, default_value = "1h", value_name = "DURATION")]
    pub ttl: Millis,
}

/// `squall join`.
#[derive(Debug, Args)]
pub struct Join {
    /// The token, as `squall token` printed it; `-` reads it from standard input, where no other user of
    /// this host sees it
    #[arg(env = "SQUALL_TOKEN", hide_env_values = true)]
    pub token: String,
    /// This host's name; the token is good for one
    #[arg(long)]
    pub name: String,
    /// Where the certificate, its key and the gossip key are put
    #[arg(long, default_value = "/etc/squall/identity", value_name = "DIR")]
    pub identity: PathBuf,
    /// Where the agent's configuration is written
    #[arg(long, default_value = AGENT_FILE, value_name = "FILE")]
    pub config: PathBuf,
    /// The address by which other hosts reach this one; the one that it speaks to the coordinators
    /// from where nothing is said
    #[arg(long, value_name = "IP")]
    pub address: Option<std::net::IpAddr>,
    /// A label, as `group=etcd`; may be repeated
    #[arg(long = "label", value_parser = label, value_name = "KEY=VALUE")]
    pub labels: Vec<(String, String)>,
}

/// `squall run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The experiment, YAML or JSON; `-` is standard input
    pub file: PathBuf,
    /// Print the id and return once the faults are held
    #[arg(long)]
    pub detach: bool,
}

/// `squall resume`.
#[derive(Debug, Args)]
pub struct Resume {
    /// The stops to release, as `squall status` or `squall stop-all` showed them, or how their ids begin
    #[arg(value_name = "STOP")]
    pub stops: Vec<String>,
    /// Go on although this host has not answered
    #[arg(long, value_name = "HOST")]
    pub despite: Vec<String>,
}

/// `squall faults`.
#[derive(Debug, Args)]
pub struct Faults {
    #[command(subcommand)]
    pub action: Option<FaultsAction>,
}

/// What is done to what is held.
#[derive(Debug, Subcommand)]
pub enum FaultsAction {
    /// End every running experiment, without stopping the fleet
    Clear,
}

/// `key=value`.
pub fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(_) if text.contains(',') => {
            Err(format!("`{text}` has a comma: repeat --label for each label"))
        }
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        Some(_) | None => Err(format!("`{text}` is not KEY=VALUE, as in group=etcd")),
    }
}

/// `name=address:port`.
pub fn named_address(text: &str) -> Result<(String, SocketAddr), String> {
    let wrong = || format!("`{text}` is not NAME=ADDRESS:PORT, as in c1=10.0.0.1:7443");
    let (name, address) = text.split_once('=').ok_or_else(wrong)?;
    let address = address.parse().map_err(|_| wrong())?;
    if name.is_empty() { Err(wrong()) } else { Ok((name.to_owned(), address)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_one() {
        assert_eq!(label("group=etcd"), Ok(("group".into(), "etcd".into())));
        for several in ["group=etcd,zone=a", "group,zone=a"] {
            let refused = label(several).expect_err("more than one");
            assert!(refused.contains("repeat --label"), "{refused}");
        }
        assert!(label("group").is_err());
    }

    #[test]
    fn a_coordinator_is_a_name_and_an_address() {
        let right = named_address("c1=[fd00::1]:7443").expect("an IPv6 address");
        assert_eq!(right.0, "c1");
        assert!(right.1.is_ipv6());
        for wrong in ["c1", "c1=10.0.0.1", "=10.0.0.1:1", "c1=x:1"] {
            assert!(named_address(wrong).is_err(), "{wrong}");
        }
    }
}
