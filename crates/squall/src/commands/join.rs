//! Hosts that come in: `squall token` on the operator's machine, `squall join` on the host.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, stdin};
use std::net::{IpAddr, UdpSocket};
use std::path::Path;

use serde::Serialize;
use squall_core::ids::{Coordinator, HostName};
use squall_core::message::Request;
use squall_core::registry::MAX_TOKEN_MS;
use squall_wire::identity::InvalidToken;
use squall_wire::{GossipKey, Identity, IdentityError, JoinToken};

use super::init::list;
use super::{command_id, runtime};
use crate::cli::{Format, Join, Token};
use crate::client::Client;
use crate::exit::{Exit, Failure, Outcome};
use crate::files;
use crate::output::talk;

/// What `squall token` prints.
#[derive(Serialize)]
struct Issued {
    host: String,
    token: String,
    ttl_ms: u64,
}

/// `squall token`.
pub async fn token(client: &Client, token: &Token, format: Format) -> Outcome {
    let host =
        token.host.parse().map_err(|e| Failure::usage(format!("{e}"), "choose another name"))?;
    let coordinators = client.dir.file.coordinators.clone();
    let made = JoinToken::create(client.dir.operator()?.authority(), coordinators);
    let ttl_ms = token.ttl.0;
    if ttl_ms > MAX_TOKEN_MS {
        let what = format!("--ttl {}: a token is good for 30 days at most", token.ttl);
        return Err(Failure::usage(what, "make it when the host is about to join"));
    }
    let request = Request::CreateToken { command: command_id(), host, hash: made.hash(), ttl_ms };
    client.write(&request).await?;
    let issued = Issued { host: token.host.clone(), token: made.to_string(), ttl_ms };
    talk(format!(
        "good once, for {}, until {} from now; treat it like a password",
        token.host, token.ttl
    ));
    talk(format!("on {}: echo TOKEN | squall join - --name {}", token.host, token.host));
    super::show(format, &issued, |i| format!("{}\n", i.token))
}

/// The token on `input`: in its first line, of which so much is read.
fn read_token(input: impl Read) -> Result<String, Failure> {
    const MAX: u64 = 16 * 1024;
    let mut line = String::new();
    BufReader::new(input.take(MAX)).read_line(&mut line).map_err(|e| {
        Failure::usage(format!("standard input: {e}"), "echo TOKEN | squall join - --name HOST")
    })?;
    Ok(line)
}

/// `squall join`.
pub fn join(join: &Join) -> Outcome {
    let typed = match join.token.as_str() {
        "-" => read_token(stdin())?,
        token => token.to_owned(),
    };
    let token: JoinToken = typed.trim().parse().map_err(|e: InvalidToken| {
        Failure::usage(e.to_string(), "squall token HOST makes one; copy it whole")
    })?;
    let name: Result<HostName, _> = join.name.parse();
    name.map_err(|e| {
        Failure::usage(format!("--name: {e}"), "write the name that the token is for")
    })?;
    let mut labels = BTreeMap::new();
    for (key, value) in &join.labels {
        if labels.insert(key.clone(), value.clone()).is_some() {
            let what = format!("--label {key}={value}: it has another value already");
            return Err(Failure::usage(what, "give each label once"));
        }
    }
    if join.identity.join(squall_wire::identity::IDENTITY_FILE).exists() {
        let what = format!("{} holds an identity already", join.identity.display());
        return Err(Failure::usage(
            what,
            "this host has joined; name another --identity, or remove it",
        ));
    }
    let address = match join.address {
        Some(address) => address,
        None => own_address(&token)?,
    };
    // Before the token is used up.
    let home = AgentHome { name: &join.name, address, identity: &join.identity, labels: &labels };
    let text = home.agent_toml(&token.coordinators);
    if join.config.exists() {
        stays_right(&join.config, &text)?;
    }
    let new_dir = !join.identity.exists();
    squall_wire::identity::prepare(&join.identity)
        .map_err(|e| Failure::local(e.to_string(), "name an --identity that can be written"))?;
    let config = join.config.with_extension("toml.joined");
    files::write(&config, &text)?;
    let mark = Some(squall_core::hold::CONTROL_MARK);
    let (identity, gossip) = runtime()?
        .block_on(async { squall_wire::transport::join(&token, &join.name, mark).await })
        .map_err(|e| {
            let _ = std::fs::remove_file(&config);
            if new_dir {
                let _ = std::fs::remove_dir(&join.identity);
            }
            Failure::new(
                Exit::Unreachable,
                format!("not joined: {e}"),
                "check that a coordinator runs and that the token is new and for this name",
            )
        })?;
    save(&identity, &gossip, &join.identity)?;
    talk(format!("{} joined {}", join.name, identity.peer().cluster));
    // What a person wrote there (labels, the policy's place, where the latch is) must outlast a renewal.
    if join.config.exists() {
        talk(format!(
            "{} stays as it is, with its address and labels; {} is what a new host would have",
            join.config.display(),
            config.display()
        ));
    } else {
        std::fs::rename(&config, &join.config).map_err(|e| {
            let what = format!("{}: {e}", join.config.display());
            Failure::local(what, format!("move {} there", config.display()))
        })?;
        talk(format!("others reach it at {address}"));
    }
    talk(format!("start it: squall agent --config {}", join.config.display()));
    Ok(Exit::Held)
}

/// Whether what is at `path` leads an agent to the same host, identity and coordinators as `text` would.
fn stays_right(path: &Path, text: &str) -> Result<(), Failure> {
    let known: squall_agent::Config = files::toml(path, &files::read(path)?)?;
    let new: squall_agent::Config = files::toml(path, text)?;
    let other = if known.name != new.name {
        "name"
    } else if known.identity_dir != new.identity_dir {
        "identity-dir"
    } else if known.coordinators != new.coordinators {
        "coordinators"
    } else {
        return Ok(());
    };
    let what = format!("{}: it has another {other} than this host would join with", path.display());
    Err(Failure::usage(what, "move it away, change it, or name another --config"))
}

/// The address from which this host speaks to the coordinators. Nothing is sent.
fn own_address(token: &JoinToken) -> Result<IpAddr, Failure> {
    let of = |to: &Coordinator| {
        let to = to.address;
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(any).ok()?;
        socket.connect(to).ok()?;
        socket.local_addr().ok().map(|a| a.ip())
    };
    token.coordinators.iter().find_map(of).ok_or_else(|| {
        Failure::local(
            "this host has no route to any coordinator",
            "name its address: --address IP",
        )
    })
}

/// Puts an agent's identity where its configuration says.
///
/// # Errors
/// The system's.
pub fn save(identity: &Identity, gossip: &GossipKey, dir: &Path) -> Result<(), Failure> {
    let failed = |e: IdentityError| {
        Failure::local(
            e.to_string(),
            "the token is used up: make a new one, and a directory to write to",
        )
    };
    gossip.save(dir).map_err(failed)?;
    identity.save(dir).map_err(failed)
}

/// What an agent's configuration says of its own host.
pub struct AgentHome<'a> {
    pub name: &'a str,
    pub address: IpAddr,
    /// Where its identity is.
    pub identity: &'a Path,
    pub labels: &'a BTreeMap<String, String>,
}

impl AgentHome<'_> {
    /// The agent's configuration. A host at a coordinator's address says that it is one's.
    pub fn agent_toml(&self, members: &[Coordinator]) -> String {
        let AgentHome { name, address, identity, labels } = *self;
        let dir = std::path::absolute(identity).unwrap_or_else(|_| identity.to_owned());
        let quoted = |text: &str| toml::Value::from(text).to_string();
        let line = |(k, v): (&String, &String)| format!("{} = {}\n", quoted(k), quoted(v));
        let labels: String = labels.iter().map(line).collect();
        let labels = if labels.is_empty() { labels } else { format!("\n[labels]\n{labels}") };
        let shared = members.iter().any(|m| m.address.ip() == address);
        let shared = if shared { "coordinator = true\n" } else { "" };
        format!(
            "name = \"{name}\"\naddress = \"{address}\"\nidentity-dir = {}\n{shared}{}{labels}",
            quoted(&dir.display().to_string()),
            list(members)
        )
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use squall_core::ids::NodeId;
    use squall_wire::Fingerprint;

    use super::*;

    fn coordinator(address: SocketAddr) -> Coordinator {
        Coordinator { id: NodeId(1), name: "c1".parse().unwrap(), address }
    }

    #[test]
    fn a_configuration_stays_where_it_leads_to_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("agent.toml");
        let text = |name: &str, identity: &str, port: u16| {
            format!(
                "name = \"{name}\"\naddress = \"10.0.0.9\"\nidentity-dir = \"{identity}\"\n\
                 [[coordinators]]\nid = 1\nname = \"c1\"\naddress = \"10.0.0.1:{port}\"\n"
            )
        };
        std::fs::write(&file, format!("policy = \"/p\"\n{}", text("h1", "/i", 7))).unwrap();
        assert_eq!(stays_right(&file, &text("h1", "/i", 7)), Ok(()));
        for (new, other) in [
            (text("h2", "/i", 7), "another name"),
            (text("h1", "/j", 7), "another identity-dir"),
            (text("h1", "/i", 8), "another coordinators"),
        ] {
            let refused = stays_right(&file, &new).expect_err(other);
            assert!(refused.exit == Exit::Usage && refused.what.contains(other), "{refused}");
        }
    }

    #[test]
    fn a_token_is_not_used_where_its_identity_has_no_place() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("file"), "").unwrap();
        let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let token = JoinToken::create(
            Fingerprint([7; 32]),
            vec![coordinator(silent.local_addr().unwrap())],
        );
        let failed = join(&Join {
            token: token.to_string(),
            name: "h1".into(),
            identity: dir.path().join("file/identity"),
            config: dir.path().join("agent.toml"),
            address: None,
            labels: vec![],
        })
        .expect_err("no directory");
        assert!(failed.exit == Exit::Broken && failed.what.contains("file/identity"), "{failed}");
        silent.set_nonblocking(true).unwrap();
        assert!(silent.recv(&mut [0; 1]).is_err(), "nobody was asked");
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1, "nothing was written");
    }

    #[test]
    fn what_join_writes_an_agent_can_read() {
        let labels = BTreeMap::from([
            ("group".into(), "etcd".into()),
            ("rôle".into(), "e\u{301} \"x\"\\".into()),
        ]);
        let home = |address: &str| AgentHome {
            name: "h1",
            address: address.parse().unwrap(),
            identity: Path::new("/etc/squall/identity"),
            labels: &labels,
        };
        let members = vec![coordinator("10.0.0.1:7443".parse().unwrap())];
        let text = home("10.0.0.9").agent_toml(&members);
        let config: squall_agent::Config =
            files::toml(Path::new("agent.toml"), &text).expect("valid");
        assert_eq!(config.labels, labels);
        assert_eq!(config.coordinators, members);
        assert!(!config.coordinator);
        let text = home("10.0.0.1").agent_toml(&members);
        let config: squall_agent::Config =
            files::toml(Path::new("agent.toml"), &text).expect("valid");
        assert!(config.coordinator, "it lives where a coordinator does");
    }
}
