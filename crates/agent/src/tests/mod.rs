//! Whole agents in this process: real journals, sockets and processes, control streams in memory,
//! and a holder that changes nothing.

mod local;
mod streams;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use squall_core::fault::{Cpu, Fault};
use squall_core::fence::Resume;
use squall_core::host::Host;
use squall_core::ids::{
    AgentRun, Coordinator, ExperimentId, FaultId, HostName, Leadership, LogIndex, NodeId, StopId,
};
use squall_core::message::{
    Apply, FromAgent, Hello, HostPhase, Latched, Orders, Receipt, Report, Sync, ToAgent,
};
use squall_core::policy::Policy;
use squall_core::registry::HostRecord;
use squall_core::time::Time;
use squall_wire::memory::Network;
use squall_wire::{Channel, ClusterAuthority, Connection, Endpoint, GossipKey, Role};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

use crate::AgentError;
use crate::config::Config;
use crate::driver::Driver;
use crate::links::Link;
use crate::neighbours::Neighbours;
use crate::start::{Parts, assemble, recover};

/// Long enough for a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// A holder that says what is expected and touches nothing.
const HOLDER: &str = r#"#!/bin/sh
read -r task
echo '{"Held":{"bit":true,"requested":"a","measured":"b","note":""}}'
while read -r order; do
    case "$order" in *Lift*)
        echo '{"Lifted":{"bit":true,"requested":"a","measured":"b","note":""}}'
        exit 0
    esac
done
"#;

fn me() -> HostName {
    "h1".parse().unwrap()
}

fn burn() -> Fault {
    Fault::Cpu(Cpu::new(Some(1), 1))
}

/// By another process: a file that this one had open for writing may be so still in a child that another
/// test is just starting, and then it cannot be run.
pub(crate) fn write_program(path: &Path, text: &str) {
    let draft = path.with_extension("draft");
    std::fs::write(&draft, text).unwrap();
    std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(Command::new("cp").arg(&draft).arg(path).status().unwrap().success());
}

/// Where an agent lives.
struct Home {
    dir: TempDir,
}

impl Home {
    fn new() -> Home {
        let home = Home { dir: tempfile::tempdir().unwrap() };
        write_program(&home.program(), HOLDER);
        home
    }

    fn program(&self) -> PathBuf {
        self.dir.path().join("holder")
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn run_dir(&self) -> PathBuf {
        self.dir.path().join("run")
    }

    fn config(&self) -> Config {
        Config {
            name: me(),
            address: std::net::Ipv4Addr::LOCALHOST.into(),
            state_dir: self.state(),
            run_dir: self.run_dir(),
            identity_dir: self.dir.path().join("identity"),
            policy: None,
            gossip_port: 0,
            relay_port: 0,
            labels: [("group".to_owned(), "a".to_owned())].into(),
            coordinator: false,
            coordinators: Vec::new(),
        }
    }

    fn recover(&self, standalone: bool) -> Parts {
        let policy = Policy { probe_programs: vec!["/bin/true".to_owned()], ..Policy::default() };
        recover(&self.state(), me(), policy, standalone, Duration::ZERO).unwrap()
    }
}

/// An agent at work.
struct Running {
    run: AgentRun,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Running {
    /// An agent of `coordinators`, whose control streams start from `endpoint`.
    fn start(home: &Home, endpoint: &Endpoint, coordinators: &[&Seat]) -> Running {
        Running::assemble(home, endpoint, coordinators, |_| {})
    }

    /// The same with neighbours, as a member of cohort `a`; and where its relay listens.
    fn start_near(home: &Home, world: &World, coordinators: &[&Seat]) -> (Running, SocketAddr) {
        let config = home.config();
        let identity = world.authority.issue(Role::Agent, "h1", 1).unwrap();
        let (heard, relayed) = mpsc::channel(8);
        std::fs::create_dir_all(home.state()).unwrap();
        let near = Neighbours::start(&config, identity, GossipKey::create(), heard).unwrap();
        let at = SocketAddr::new(config.address, near.relay_port());
        let running = Running::assemble(home, &world.agent(), coordinators, |driver| {
            driver.neighbours = Some(near);
            driver.inbox.relayed = relayed;
        });
        (running, at)
    }

    fn assemble(
        home: &Home,
        endpoint: &Endpoint,
        coordinators: &[&Seat],
        add: impl FnOnce(&mut Driver),
    ) -> Running {
        let parts = home.recover(false);
        let run = parts.run;
        let mut driver = assemble(parts, &me(), &home.run_dir(), home.program()).unwrap();
        let (events, inbox) = mpsc::channel(1024);
        driver.links = coordinators
            .iter()
            .map(|c| Link::spawn(endpoint.clone(), c.address(), events.clone()))
            .collect();
        driver.inbox.links = inbox;
        driver.hello = Some(hello(run));
        add(&mut driver);
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
        };
        Running { run, stop, task: tokio::spawn(driver.run(shutdown)) }
    }

    /// Ends it as SIGTERM does.
    async fn end(self) {
        self.stop.send(()).unwrap();
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
    }
}

fn hello(run: AgentRun) -> Hello {
    let host = HostRecord {
        name: me(),
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        also: Vec::new(),
        labels: Default::default(),
        gossip_port: 1,
        relay_port: 2,
        coordinator: false,
        drained: false,
    };
    Hello { run, host, version: "test".to_owned(), capabilities: Vec::new(), policy: None }
}

/// A coordinator's place; the test speaks for it.
struct Seat {
    id: u64,
    at: SocketAddr,
    endpoint: Endpoint,
}

struct World {
    network: Network,
    authority: ClusterAuthority,
}

impl World {
    fn new() -> World {
        World { network: Network::new(), authority: ClusterAuthority::create("test").unwrap() }
    }

    fn coordinator(&self, id: u64) -> Seat {
        let identity = self.authority.issue(Role::Coordinator, &format!("c{id}"), 1).unwrap();
        let at = SocketAddr::from(([10, 0, 0, u8::try_from(id).unwrap()], 7445));
        Seat { id, at, endpoint: self.network.bind(identity, at).unwrap() }
    }

    fn agent(&self) -> Endpoint {
        let identity = self.authority.issue(Role::Agent, "h1", 1).unwrap();
        self.network.bind(identity, SocketAddr::from(([10, 0, 1, 1], 0))).unwrap()
    }
}

impl Seat {
    fn address(&self) -> Coordinator {
        let name = format!("c{}", self.id).parse().unwrap();
        Coordinator { id: NodeId(self.id), name, address: self.at }
    }

    /// The agent's next control stream, its hello read.
    async fn take(&self) -> Stream {
        let connection = timeout(PATIENCE, self.endpoint.accept()).await.unwrap().unwrap();
        let mut channel = connection.accept_channel().await.unwrap();
        let first = timeout(PATIENCE, channel.recv::<FromAgent>()).await.unwrap().unwrap().unwrap();
        let FromAgent::Hello(hello) = first else { panic!("{first:?} before the hello") };
        let leadership = Leadership { term: 1, node: NodeId(self.id) };
        Stream { connection, channel, hello, leadership }
    }
}

/// An agent's control stream at a coordinator.
struct Stream {
    connection: Connection,
    channel: Channel,
    hello: Hello,
    leadership: Leadership,
}

impl Stream {
    async fn say(&mut self, words: &ToAgent) {
        self.channel.send(words).await.unwrap();
    }

    async fn hear(&mut self) -> FromAgent {
        timeout(PATIENCE, self.channel.recv()).await.unwrap().unwrap().expect("the stream is open")
    }

    /// The next report that `is_it`.
    async fn report(&mut self, is_it: impl Fn(&Report) -> bool) -> Report {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let FromAgent::Report(report) = self.hear().await
                && is_it(&report)
            {
                return report;
            }
        }
        panic!("no such report");
    }

    async fn receipt(&mut self) -> Receipt {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            if let FromAgent::Receipt(receipt) = self.hear().await {
                return receipt;
            }
        }
        panic!("no receipt");
    }

    fn orders(&self, echo: Time) -> Orders {
        Orders {
            run: self.hello.run,
            echo,
            leadership: self.leadership,
            newest_resume: LogIndex(0),
            grant: Vec::new(),
            apply: Vec::new(),
            lift: Vec::new(),
            acknowledged: Vec::new(),
            probes: Vec::new(),
            beat_fast: false,
        }
    }

    /// Arms the agent, as a leader does.
    async fn sync(&mut self) {
        self.sync_with(Vec::new(), Vec::new()).await;
    }

    async fn sync_with(&mut self, stops: Vec<StopId>, resumes: Vec<Resume>) {
        let report = self.report(|_| true).await;
        let sync = Sync {
            run: self.hello.run,
            echo: report.t,
            leadership: self.leadership,
            stops,
            resumes,
        };
        self.say(&ToAgent::Sync(sync)).await;
        self.report(|r| r.synced).await;
    }

    /// Orders a fault and waits until it is held.
    async fn inject(&mut self, experiment: u128, lease_ms: u64) -> FaultId {
        let id = fault_id(experiment);
        let report = self.report(|_| true).await;
        let mut orders = self.orders(report.t);
        orders.apply.push(Apply {
            id: id.clone(),
            start: LogIndex(1),
            fault: burn(),
            not_after_ms: 10_000,
            lease_ms,
            duration_ms: 60_000,
        });
        self.say(&ToAgent::Orders(orders)).await;
        self.report(|r| phase(r, &id) == Some(HostPhase::Held)).await;
        id
    }
}

fn fault_id(experiment: u128) -> FaultId {
    FaultId { experiment: ExperimentId(Uuid::from_u128(experiment << 64)), fault: 0, host: me() }
}

fn phase(report: &Report, id: &FaultId) -> Option<HostPhase> {
    report.faults.iter().find(|f| f.id == *id).map(|f| f.phase)
}

fn stop_id(n: u128) -> StopId {
    StopId(Uuid::from_u128(n))
}

/// What `host` would say; for machines that no driver drives.
fn outstanding(host: &Host) -> Vec<StopId> {
    host.fence().outstanding().collect()
}

#[tokio::test]
async fn only_an_agents_own_certificate_will_do() {
    let (world, home) = (World::new(), Home::new());
    let mut config = home.config();
    let identity = world.authority.issue(Role::Agent, "h1", 1).unwrap();
    identity.save(&config.identity_dir).unwrap();
    let error = crate::run(config.clone(), Policy::default(), std::future::ready(())).await;
    assert!(matches!(error, Err(AgentError::NoCoordinators)), "nobody could stop it: {error:?}");
    let name = "c1".parse().unwrap();
    config.coordinators =
        vec![Coordinator { id: NodeId(1), name, address: ([127, 0, 0, 1], 1).into() }];
    let start = async |role, name: &str| {
        let identity = world.authority.issue(role, name, 1).unwrap();
        identity.save(&config.identity_dir).unwrap();
        crate::run(config.clone(), Policy::default(), std::future::ready(())).await.unwrap_err()
    };
    let error = start(Role::Operator, "h1").await;
    assert!(matches!(&error, AgentError::WrongRole { .. }), "{error}");
    assert!(error.to_string().contains("operator h1"), "{error}");
    let error = start(Role::Agent, "h2").await;
    assert!(matches!(&error, AgentError::WrongName { .. }), "{error}");
    // The right one, but the cluster's gossip key is not there.
    let error = start(Role::Agent, "h1").await;
    assert!(error.to_string().contains("gossip.key"), "{error}");
    assert!(!home.state().exists() && !home.run_dir().exists(), "nothing was touched");
}
