//! Putting an agent together.

use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use squall_core::hold::{CONTROL_MARK, Capability};
use squall_core::host::Host;
use squall_core::ids::{AgentRun, ClusterId, HostName};
use squall_core::message::Hello;
use squall_core::policy::Policy;
use squall_core::registry::HostRecord;
use squall_faults::{clock, doctor};
use squall_journal::JournalError;
use squall_wire::{Endpoint, EndpointOptions, GossipKey, Identity, IdentityError, Role, WireError};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::addresses::{self, Looks};
use crate::config::Config;
use crate::driver::{Driver, Inbox, Kept};
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
    /// The certificate is not an agent's.
    #[error("the certificate in {dir} is of {found}: an agent needs one with the role agent, from `squall join`", dir = dir.display())]
    WrongRole {
        /// Where the certificate is.
        dir: PathBuf,
        /// Whose it is: role and name.
        found: String,
    },
    /// The certificate is another host's.
    #[error("the certificate in {dir} is of `{found}`, but the configuration's name is `{name}`", dir = dir.display())]
    WrongName {
        /// Where the certificate is.
        dir: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        name: HostName,
    },
    /// Nobody could order it anything, or stop what it does.
    #[error("the configuration lists no coordinator: list every one under [[coordinators]]")]
    NoCoordinators,
    /// The network cannot be used.
    #[error("{0}")]
    Wire(#[from] WireError),
    /// A directory, a socket or a thread.
    #[error("{what}: {error}")]
    Io {
        /// What was tried.
        what: String,
        /// The system's answer.
        error: io::Error,
    },
}

impl AgentError {
    /// Whether another agent has this host's journal: it can be asked instead.
    #[must_use]
    pub const fn is_beside_another(&self) -> bool {
        matches!(self, Self::Journal(JournalError::Locked { .. }))
    }
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> AgentError {
    let what = what.into();
    move |error| AgentError::Io { what, error }
}

/// What a life starts with.
pub(crate) struct Parts {
    pub(crate) run: AgentRun,
    pub(crate) host: Host,
    policy: Policy,
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
    check(&identity, &config)?;
    let key = GossipKey::load(&config.identity_dir)?;
    let mut parts = recover(&config.state_dir, config.name.clone(), policy, false, writer::DYING)?;
    if parts.host.handle_cluster(ClusterId(identity.authority().0)) {
        tracing::warn!(
            "this host was in another cluster: what it knew of that one's log is forgotten, stops that stand are not"
        );
    }
    let run = parts.run;
    let (heard, relayed) = mpsc::channel(QUEUE);
    let neighbours = Neighbours::start(&config, identity.clone(), key, heard)
        .map_err(io_error("gossip and relay"))?;
    let capabilities = tokio::task::spawn_blocking(doctor::doctor).await.unwrap_or_else(|error| {
        tracing::error!(%error, "the doctor failed: nothing is claimed");
        Vec::new()
    });
    // Most hosts have none of their own, and a coordinator keeps that of each.
    let policy = if parts.policy == Policy::default() {
        Ok("{}".to_owned())
    } else {
        serde_json::to_string(&parts.policy)
    };
    let hello = hello(&config, run, &neighbours, capabilities, policy.ok());
    let options =
        EndpointOptions { role: Role::Agent, bind: any_address(&config), mark: Some(CONTROL_MARK) };
    let endpoint = Endpoint::bind(identity, options)?;
    let mut driver = assemble(parts, &config.name, &config.run_dir, this_program()?)?;
    let (link_events, links_inbox) = mpsc::channel(QUEUE);
    driver.links = config
        .coordinators
        .iter()
        .map(|c| Link::spawn(endpoint.clone(), c.clone(), link_events.clone()))
        .collect();
    driver.hello = Some(hello);
    driver.neighbours = Some(neighbours);
    driver.inbox.links = links_inbox;
    driver.inbox.relayed = relayed;
    tracing::info!(host = %config.name, %run, "agent started");
    driver.run(shutdown).await;
    endpoint.close();
    Ok(())
}

fn check(identity: &Identity, config: &Config) -> Result<(), AgentError> {
    if config.coordinators.is_empty() {
        return Err(AgentError::NoCoordinators);
    }
    let (peer, dir) = (identity.peer(), config.identity_dir.clone());
    if peer.role != Role::Agent {
        return Err(AgentError::WrongRole { dir, found: peer.to_string() });
    }
    if peer.name != config.name.as_str() {
        let (found, name) = (peer.name.clone(), config.name.clone());
        return Err(AgentError::WrongName { dir, found, name });
    }
    Ok(())
}

fn hello(
    config: &Config,
    run: AgentRun,
    neighbours: &Neighbours,
    capabilities: Vec<Capability>,
    policy: Option<String>,
) -> Hello {
    Hello {
        run,
        host: HostRecord {
            name: config.name.clone(),
            address: config.address,
            also: addresses::also(config.address).unwrap_or_default(),
            labels: config.labels.clone(),
            gossip_port: neighbours.gossip_port(),
            relay_port: neighbours.relay_port(),
            coordinator: config.coordinator,
            drained: false,
        },
        version: env!("CARGO_PKG_VERSION").to_owned(),
        capabilities,
        policy,
    }
}

/// Where the control streams start from: a socket of the family that reaches every coordinator. One
/// of IPv6 reaches IPv4 too.
fn any_address(config: &Config) -> SocketAddr {
    if config.coordinators.iter().all(|c| c.address.is_ipv4()) {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    }
}

/// Runs an agent without a cluster, for `squall inject` and `squall lift` on a host where none
/// runs. It ends once nothing is alive and nobody is connected to its socket any more; for the
/// first guest it waits ten seconds. On a `member` of a cluster nothing begins by it: no leader tells it of
/// stops, and none that is made later would reach it.
///
/// # Errors
/// Why it cannot start.
pub async fn lone(
    state_dir: &Path,
    run_dir: &Path,
    me: HostName,
    policy: Policy,
    member: bool,
    shutdown: impl Future<Output = ()>,
) -> Result<(), AgentError> {
    // A person's command looks for the other agent again by itself.
    let parts = recover(state_dir, me.clone(), policy, !member, Duration::ZERO)?;
    let mut driver = assemble(parts, &me, run_dir, this_program()?)?;
    driver.ends_when_idle = true;
    driver.run(shutdown).await;
    Ok(())
}

fn this_program() -> Result<PathBuf, AgentError> {
    std::env::current_exe().map_err(io_error("the path of this program"))
}

/// Opens the journal and starts the machine with what it holds.
pub(crate) fn recover(
    state_dir: &Path,
    me: HostName,
    policy: Policy,
    standalone: bool,
    patience: Duration,
) -> Result<Parts, AgentError> {
    squall_journal::make_private_dir(state_dir)
        .map_err(io_error(format!("the state directory {}", state_dir.display())))?;
    let mut opened = writer::open(state_dir, patience)?;
    let run = AgentRun(Uuid::from_u128(rand::random()));
    let host = Host::new(me, run, policy.clone(), &opened.records, standalone, clock::now());
    opened.shorten(&host.records())?;
    Ok(Parts { run, host, policy, opened })
}

/// A driver without a cluster. `program` is called with `hold` for each holder.
pub(crate) fn assemble(
    parts: Parts,
    me: &HostName,
    run_dir: &Path,
    program: PathBuf,
) -> Result<Driver, AgentError> {
    let (written_in, written) = mpsc::unbounded_channel();
    let (news_in, holders_inbox) = mpsc::unbounded_channel();
    let (locals_in, locals_inbox) = mpsc::channel(QUEUE);
    // What the links and the relay would say, where there are none: channels that stay silent.
    let (_, links_inbox) = mpsc::channel(1);
    let (_, relayed) = mpsc::channel(1);
    let (found, addresses) = mpsc::unbounded_channel();
    let listening = listen(run_dir, locals_in)
        .map_err(io_error(format!("the socket in {}", run_dir.display())))?;
    let holders = Holders::start(program, news_in).map_err(io_error("the holders' thread"))?;
    let writer = parts.opened.spawn(written_in).map_err(io_error("the journal's thread"))?;
    Ok(Driver {
        run: parts.run,
        host: parts.host,
        hello: None,
        holders,
        writer,
        links: Vec::new(),
        locals: Locals::new(me.clone()),
        listening: Some(listening),
        neighbours: None,
        probes: Probes::new(parts.policy),
        kept: Kept::default(),
        inbox: Inbox {
            links: links_inbox,
            holders: holders_inbox,
            written,
            locals: locals_inbox,
            relayed,
            addresses,
        },
        looks: Looks::new(found),
        ends_when_idle: false,
    })
}
