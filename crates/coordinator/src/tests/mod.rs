//! Whole coordinators in this process, over real QUIC on loopback.

mod agreement;
pub(crate) mod fleet;
mod golden;
mod lost_disk;
mod probing;
mod split;
mod start;
mod stopping;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;

use squall_core::ids::{CommandId, Coordinator, NodeId};
use squall_core::message::{RaftRole, Request, Response, Status};
use squall_core::registry::Outcome;
use squall_wire::transport::EndpointOptions;
use squall_wire::{Channel, ClusterAuthority, Connection, Endpoint, Identity, Role};
use tempfile::TempDir;
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use crate::config::Config;
use crate::store::Store;
use crate::{CoordinatorError, serve};
use probing::AllGood;

/// Long enough for an election on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Of 127.0.0.0/8, one that nobody else in this process has.
fn own_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let [high, low] = NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes();
    SocketAddr::from(([127, 77, high, low], 0))
}

fn endpoint(identity: &Identity, bind: SocketAddr) -> Endpoint {
    let options = EndpointOptions { role: identity.peer().role, bind, mark: None };
    Endpoint::bind(identity.clone(), options).unwrap()
}

/// Carries datagrams to one address, unless it is cut.
struct Relay {
    address: SocketAddr,
    cut: Arc<AtomicBool>,
}

impl Relay {
    async fn to(target: SocketAddr) -> Relay {
        let front = Arc::new(UdpSocket::bind(loopback()).await.unwrap());
        let address = front.local_addr().unwrap();
        let cut = Arc::new(AtomicBool::new(false));
        let is_cut = cut.clone();
        tokio::spawn(async move {
            let mut backs = BTreeMap::<SocketAddr, Arc<UdpSocket>>::new();
            let mut buffer = [0; 2048];
            while let Ok((len, from)) = front.recv_from(&mut buffer).await {
                if is_cut.load(Ordering::Relaxed) {
                    continue;
                }
                let back = match backs.entry(from) {
                    Entry::Occupied(known) => known.into_mut(),
                    Entry::Vacant(new) => {
                        let back = Arc::new(UdpSocket::bind(loopback()).await.unwrap());
                        back.connect(target).await.unwrap();
                        tokio::spawn(carry_back(back.clone(), front.clone(), from, is_cut.clone()));
                        new.insert(back)
                    }
                };
                let _ = back.send(&buffer[..len]).await;
            }
        });
        Relay { address, cut }
    }
}

async fn carry_back(
    back: Arc<UdpSocket>,
    front: Arc<UdpSocket>,
    to: SocketAddr,
    cut: Arc<AtomicBool>,
) {
    let mut buffer = [0; 2048];
    loop {
        // An error is the other side's port being closed for a moment.
        let Ok(len) = back.recv(&mut buffer).await else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        if !cut.load(Ordering::Relaxed) {
            let _ = front.send_to(&buffer[..len], to).await;
        }
    }
}

struct Running {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), CoordinatorError>>,
}

/// Some coordinators, with a relay between each two.
struct Cluster {
    authority: ClusterAuthority,
    dir: TempDir,
    addresses: Vec<SocketAddr>,
    identities: Vec<Identity>,
    /// From whom to whom.
    relays: BTreeMap<(usize, usize), Relay>,
    running: Vec<Option<Running>>,
    probers: Vec<AllGood>,
    operator: Endpoint,
    connections: BTreeMap<usize, Connection>,
}

impl Cluster {
    /// `n` coordinators, not started yet.
    async fn new(n: usize) -> Cluster {
        let authority = ClusterAuthority::create("test").unwrap();
        let mut identities = Vec::new();
        let mut addresses = Vec::new();
        for i in 0..n {
            identities.push(authority.issue(Role::Coordinator, &format!("c{}", i + 1), 1).unwrap());
            // On an address of its own the port stays free until the endpoint is bound, and while it
            // is down.
            let socket = std::net::UdpSocket::bind(own_address()).unwrap();
            addresses.push(socket.local_addr().unwrap());
        }
        let mut relays = BTreeMap::new();
        for from in 0..n {
            for to in (0..n).filter(|to| *to != from) {
                relays.insert((from, to), Relay::to(addresses[to]).await);
            }
        }
        let alice = authority.issue(Role::Operator, "alice", 1).unwrap();
        Cluster {
            authority,
            dir: tempfile::tempdir().unwrap(),
            addresses,
            identities,
            relays,
            running: (0..n).map(|_| None).collect(),
            probers: (0..n).map(|_| AllGood::default()).collect(),
            operator: endpoint(&alice, loopback()),
            connections: BTreeMap::new(),
        }
    }

    /// `n` coordinators of which one leads, and all vote.
    async fn started(n: usize) -> Cluster {
        let mut cluster = Cluster::new(n).await;
        for i in 0..n {
            cluster.start(i).await;
        }
        let leader = cluster.leader().await;
        let votes = |role| matches!(role, RaftRole::Leader | RaftRole::Follower);
        let all = |s: &Status| s.coordinators.iter().all(|c| votes(c.role));
        cluster.until(leader, "all vote", all).await;
        cluster
    }

    fn state_dir(&self, i: usize) -> PathBuf {
        self.dir.path().join(format!("c{}", i + 1))
    }

    /// A coordinator as the others' and the hosts' files list it.
    fn listed(&self, i: usize) -> Coordinator {
        let name = format!("c{}", i + 1).parse().unwrap();
        Coordinator { id: NodeId(i as u64 + 1), name, address: self.addresses[i] }
    }

    fn config(&self, i: usize) -> Config {
        let member = |j: usize| match i == j {
            true => self.listed(j),
            false => Coordinator { address: self.relays[&(i, j)].address, ..self.listed(j) },
        };
        Config {
            name: format!("c{}", i + 1).parse().unwrap(),
            id: NodeId(i as u64 + 1),
            listen: self.addresses[i],
            state_dir: self.state_dir(i),
            identity_dir: self.dir.path().join("identity"),
            coordinators: (0..self.addresses.len()).map(member).collect(),
            enrol: true,
            policy: None,
            mark: false,
        }
    }

    async fn start(&mut self, i: usize) {
        let config = self.config(i);
        let store = Store::open(&config.state_dir).unwrap();
        // A process that ends closes its socket; in this one QUIC keeps it until the last words of an
        // earlier life have drained, three time-outs of a busy machine's.
        let (identity, deadline) = (&self.identities[i], Instant::now() + PATIENCE);
        let options = EndpointOptions { role: Role::Coordinator, bind: config.listen, mark: None };
        let endpoint = loop {
            match Endpoint::bind(identity.clone(), options) {
                Ok(endpoint) => break endpoint,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            sleep(Duration::from_millis(20)).await;
        };
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { drop(stopped.await) };
        let (identity, prober) = (self.identities[i].clone(), Box::new(self.probers[i].clone()));
        let task = tokio::spawn(serve(config, identity, store, endpoint, prober, shutdown));
        self.running[i] = Some(Running { stop, task });
    }

    async fn stop(&mut self, i: usize) {
        let running = self.running[i].take().expect("it runs");
        self.connections.remove(&i);
        let _ = running.stop.send(());
        running.task.await.unwrap().unwrap();
    }

    /// Cuts one coordinator off from the others, both ways, or joins it again.
    fn isolate(&self, i: usize, cut: bool) {
        for ((from, to), relay) in &self.relays {
            if *from == i || *to == i {
                relay.cut.store(cut, Ordering::Relaxed);
            }
        }
    }

    async fn connection(&mut self, i: usize) -> Connection {
        if let Some(connection) = self.connections.get(&i) {
            return connection.clone();
        }
        let name = format!("c{}", i + 1);
        let connect = self.operator.connect(self.addresses[i], Role::Coordinator, &name);
        let connection = connect.await.unwrap();
        self.connections.insert(i, connection.clone());
        connection
    }

    async fn ask(&mut self, i: usize, request: &Request) -> Response {
        let connection = self.connection(i).await;
        timeout(PATIENCE, Channel::request(&connection, request)).await.unwrap().unwrap()
    }

    async fn status(&mut self, i: usize) -> Status {
        match self.ask(i, &Request::Status).await {
            Response::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until one of those that run leads with a quorum; returns which.
    async fn leader(&mut self) -> usize {
        let among: Vec<usize> = (0..self.running.len()).collect();
        self.leader_among(&among).await
    }

    async fn leader_among(&mut self, among: &[usize]) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            for i in
                among.iter().copied().filter(|i| self.running[*i].is_some()).collect::<Vec<_>>()
            {
                let status = self.status(i).await;
                let me = NodeId(i as u64 + 1);
                if status.leader == Some(me) && status.confirmed {
                    return i;
                }
            }
            assert!(Instant::now() < deadline, "nobody leads");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Asks one after the other until somebody takes the write.
    async fn write(&mut self, request: &Request) -> Outcome {
        let deadline = Instant::now() + PATIENCE;
        let mut at = 0;
        loop {
            if self.running[at].is_some() {
                match self.ask(at, request).await {
                    Response::Outcome(outcome) => return outcome,
                    Response::Refused(refusal) => return Outcome::Refused(refusal),
                    Response::NotLeader(Some((id, _))) => {
                        at = id.0 as usize - 1;
                        sleep(Duration::from_millis(20)).await;
                        continue;
                    }
                    _ => {}
                }
            }
            assert!(Instant::now() < deadline, "nobody takes the write");
            at = (at + 1) % self.running.len();
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until a status of `i` satisfies `good`.
    async fn until(&mut self, i: usize, what: &str, good: impl Fn(&Status) -> bool) -> Status {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status(i).await;
            if good(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "c{} never: {what}; {status:#?}", i + 1);
            sleep(Duration::from_millis(50)).await;
        }
    }
}

fn command() -> CommandId {
    crate::driver::new_command()
}

/// A write that always takes effect.
fn token() -> Request {
    Request::CreateToken {
        command: command(),
        host: "h9".parse().unwrap(),
        hash: rand::random(),
        ttl_ms: 60_000,
    }
}
