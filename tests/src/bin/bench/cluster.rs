//! Real coordinators, each the process that `squall coordinator` is.

use std::fmt::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use squall_wire::{ClusterAuthority, Endpoint, EndpointOptions, Identity, Role};
use tokio::runtime::Handle;

use crate::child::Child;
use crate::operator::Operator;
use crate::{DAYS, Failure, Outcome};

/// How long an election, or a thousand registrations, may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// An endpoint on loopback.
pub fn endpoint(identity: Identity) -> Outcome<Endpoint> {
    let bind = ([127, 0, 0, 1], 0).into();
    let options = EndpointOptions { role: identity.peer().role, bind, mark: None };
    Ok(Endpoint::bind(identity, options)?)
}

/// Coordinators c1, c2, … of one cluster, with an operator at the one that leads.
pub struct Cluster {
    pub authority: ClusterAuthority,
    pub operator: Operator,
    /// Whom agents connect to.
    pub leader: (String, SocketAddr),
    /// The leader first.
    processes: Vec<Child>,
}

impl Cluster {
    /// Starts `n` coordinators below `dir` and waits until one leads.
    pub fn start(handle: &Handle, squall: &Path, dir: &Path, n: usize) -> Outcome<Cluster> {
        let authority = ClusterAuthority::create("bench")?;
        let addresses = free_addresses(n)?;
        let mut processes = Vec::new();
        for number in 1..=n {
            let home = home(dir, number);
            authority.issue(Role::Coordinator, &name(number), DAYS)?.save(&home)?;
            let config = home.join("coordinator.toml");
            std::fs::write(&config, configuration(&home, number, &addresses))?;
            let arguments = ["coordinator", "--config", &config.display().to_string()];
            processes.push(Child::start(squall, &arguments, &home.join("log"))?);
        }
        let alice = {
            let _inside = handle.enter();
            endpoint(authority.issue(Role::Operator, "alice", DAYS)?)?
        };
        let operator = handle.block_on(find_leader(alice, &addresses))?;
        let at = operator.leader;
        processes.swap(0, at);
        let leader = (name(at + 1), addresses[at]);
        Ok(Cluster { authority, operator, leader, processes })
    }

    /// Kills all but the leader.
    pub fn lose_quorum(&mut self) {
        self.processes.truncate(1);
    }

    /// The leader's resident memory, in KiB.
    pub fn rss_kib(&self) -> Outcome<u64> {
        self.processes[0].rss_kib()
    }
}

fn name(number: usize) -> String {
    format!("c{number}")
}

fn home(dir: &Path, number: usize) -> PathBuf {
    dir.join(name(number))
}

/// Free now, and hardly taken by anybody before the coordinators bind them.
fn free_addresses(n: usize) -> Outcome<Vec<SocketAddr>> {
    let sockets: Vec<UdpSocket> =
        (0..n).map(|_| UdpSocket::bind(("127.0.0.1", 0))).collect::<Result<_, _>>()?;
    Ok(sockets.iter().map(UdpSocket::local_addr).collect::<Result<_, _>>()?)
}

fn configuration(home: &Path, number: usize, addresses: &[SocketAddr]) -> String {
    let (name_, home) = (name(number), home.display());
    let mut text = format!(
        "name = \"{name_}\"\nid = {number}\nlisten = \"{}\"\nstate-dir = \"{home}/state\"\n\
         identity-dir = \"{home}\"\nenrol = false\nmark = false\n",
        addresses[number - 1]
    );
    for (n, address) in (1..).zip(addresses) {
        let _ = write!(
            text,
            "[[coordinators]]\nid = {n}\nname = \"{}\"\naddress = \"{address}\"\n",
            name(n)
        );
    }
    text
}

async fn find_leader(alice: Endpoint, addresses: &[SocketAddr]) -> Outcome<Operator> {
    let began = Instant::now();
    loop {
        for (place, address) in addresses.iter().enumerate() {
            let name = name(place + 1);
            let connected = alice.connect(*address, Role::Coordinator, &name).await;
            let Ok(connection) = connected else { continue };
            let operator = Operator { _endpoint: alice.clone(), connection, leader: place };
            let status = operator.status().await?;
            if status.confirmed && status.leader.is_some_and(|id| id.0 == place as u64 + 1) {
                return Ok(operator);
            }
        }
        if began.elapsed() > PATIENCE {
            return Err(Failure::from("no coordinator leads"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl Operator {
    /// Waits until `n` hosts are registered and connected.
    pub async fn until_registered(&self, n: usize) -> Outcome<()> {
        let began = Instant::now();
        loop {
            let status = self.status().await?;
            let ready = |h: &&squall_core::message::HostStatus| h.connected && h.report.is_some();
            let there = status.hosts.iter().filter(ready).count();
            if there == n {
                return Ok(());
            }
            if began.elapsed() > PATIENCE {
                return Err(format!("{there} of {n} agents are registered").into());
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}
