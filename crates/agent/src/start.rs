//! Putting an agent together.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use squall_core::hold::CONTROL_MARK;
use squall_core::host::Host;
use squall_core::ids::{AgentRun, HostName};
use squall_core::message::Hello;
use squall_core::policy::Policy;
use squall_core::registry::HostRecord;
use squall_faults::{clock, doctor};
use squall_journal::JournalError;
use squall_wire::{Endpoint, EndpointOptions, Identity, IdentityError, WireError};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::config::Config;
use crate::driver::{Driver, Inbox};
use crate::holders::Holders;
use crate::links::Link;
use crate::local::{Locals, listen};
use crate::neighbours::Neighbours;
use crate::probes::Probes;
use crate::writer::{self, Opened};

/// Events that may wait for the driver, from one kind of source.
const QUEUE: usize = 1024;

/// Why an agent does not run. Nothing on the host was touched.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The journal cannot be used.
    #[error("{0}")]
    Journal(#[from] JournalError),
    /// The certificate or a key cannot be used.
    #[error("{0}")]
    Identity(#[from] IdentityError),
    /// The certificate is another host's.
    #[error("the certificate in {dir} is of `{found}`, but the configuration's name is `{name}`")]
    WrongName {
        /// Where the certificate is.
        dir: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        name: HostName,
    },
    /// The network cannot be used.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// The policy file cannot be used.
    #[error("policy {path}: {why}")]
    Policy {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A directory, a socket or a thread.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's answer.
        error: io::Error,
    },
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> AgentError {
    let what = what.into();
    move |error| AgentError::Io { what, error }
}

struct Parts {
    host: Host,
    opened: Opened,
}

/// Runs the agent of `config` until `shutdown`; then lifts everything it holds and returns.
///
/// # Errors
/// Why it cannot start.
pub async fn run(
    config: Config,
    policy: Policy,
    shutdown: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    let identity = Identity::load(&config.identity_dir)?;
    let found = identity.peer().name.clone();
    if found != config.name.as_str() {
        return Err(AgentError::WrongName {
            dir: config.identity_dir.clone(),
            found,
            name: config.name.clone(),
        });
    }
    let run = AgentRun(Uuid::from_u128(rand::random()));
    let parts = recover(&config.state_dir, config.name.clone(), run, policy, false)?;
    let (relayed_in, relayed) = mpsc::channel(QUEUE);
    let neighbours = Neighbours::start(&config, &identity, relayed_in)
        .await
        .map_err(io_error("the gossip and relay sockets"))?;
    let capabilities = tokio::task::spawn_blocking(doctor::doctor).await.unwrap_or_default();
    let hello = Hello {
        run,
        host: HostRecord {
            name: config.name.clone(),
            address: config.address,
            labels: config.labels.clone(),
            gossip_port: neighbours.gossip_port(),
            relay_port: neighbours.relay_port(),
            coordinator: config.coordinator,
            drained: false,
        },
        version: env!("CARGO_PKG_VERSION").to_owned(),
        capabilities,
    };
    let any: SocketAddr = match config.address {
        std::net::IpAddr::V4(_) => (std::net::Ipv4Addr::UNSPECIFIED, 0).into(),
        std::net::IpAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let options = EndpointOptions { bind: any, mark: Some(CONTROL_MARK), ..EndpointOptions::default() };
    let endpoint = Endpoint::bind(identity, options)?;
    let (link_events, links_inbox) = mpsc::channel(QUEUE);
    let links = config
        .coordinators
        .iter()
        .map(|c| Link::spawn(endpoint.clone(), c.clone(), link_events.clone()))
        .collect();
    let mut driver = assemble(parts, &config.name, &config.run_dir)?;
    driver.hello = Some(hello);
    driver.links = links;
    driver.neighbours = Some(neighbours);
    driver.inbox.links = links_inbox;
    driver.inbox.relayed = relayed;
    tracing::info!(host = %config.name, run = %run, "agent started");
    driver.run(shutdown).await;
    endpoint.close();
    Ok(())
}

/// Runs an agent without a cluster, for `squall inject` and `squall lift` on a host where none
/// runs. It ends once nothing is alive and nobody is connected to its socket any more.
///
/// # Errors
/// Why it cannot start.
pub async fn lone(
    state_dir: &Path,
    run_dir: &Path,
    me: HostName,
    policy: Policy,
    shutdown: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    let run = AgentRun(Uuid::from_u128(rand::random()));
    let parts = recover(state_dir, me.clone(), run, policy, true)?;
    let mut driver = assemble(parts, &me, run_dir)?;
    driver.ends_when_idle = true;
    driver.run(shutdown).await;
    Ok(())
}

fn recover(
    state_dir: &Path,
    me: HostName,
    run: AgentRun,
    policy: Policy,
    standalone: bool,
) -> Result<Parts, AgentError> {
    std::fs::create_dir_all(state_dir)
        .map_err(io_error(format!("the state directory {}", state_dir.display())))?;
    let mut opened = writer::open(state_dir)?;
    let host = Host::new(me, run, policy, &opened.records, standalone, clock::now());
    if opened.is_long() {
        opened.rewrite(&host.records())?;
    }
    Ok(Parts { host, opened })
}

fn assemble(parts: Parts, me: &HostName, run_dir: &Path) -> Result<Driver, AgentError> {
    let (written_in, written) = mpsc::unbounded_channel();
    let (news_in, holders_inbox) = mpsc::unbounded_channel();
    let (locals_in, locals_inbox) = mpsc::channel(QUEUE);
    // What the links and the relay would say, where there are none: channels that stay silent.
    let (_, links_inbox) = mpsc::channel(1);
    let (_, relayed) = mpsc::channel(1);
    listen(run_dir, locals_in)
        .map_err(io_error(format!("the socket in {}", run_dir.display())))?;
    let program = std::env::current_exe().map_err(io_error("the path of this program"))?;
    let holders = Holders::start(program, news_in).map_err(io_error("the holders' thread"))?;
    Ok(Driver {
        host: parts.host,
        hello: None,
        holders,
        writer: parts.opened.spawn(written_in),
        links: Vec::new(),
        locals: Locals::new(me.clone()),
        neighbours: None,
        probes: Probes::default(),
        records: Default::default(),
        inbox: Inbox { links: links_inbox, holders: holders_inbox, written, locals: locals_inbox, relayed },
        ends_when_idle: false,
    })
}
