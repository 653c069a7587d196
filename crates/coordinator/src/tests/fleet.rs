//! Agents that are played by the test.

use std::collections::BTreeMap;

use squall_core::clip::MAX_TEXT;
use squall_core::experiment::{Ended, Why};
use squall_core::fence::Fence;
use squall_core::ids::{AgentRun, ExperimentId, FaultId, LogIndex, StopId};
use squall_core::message::{
    FaultReport, FromAgent, Hello, HostPhase, Latched, Receipt, Report, Request, Response, Status,
    ToAgent,
};
use squall_core::registry::{HostRecord, Outcome};
use squall_core::time::Time;
use squall_core::views::Row;
use squall_wire::{Channel, Connection, Endpoint, GossipKey, JoinToken, Role, WireError};
use tokio::time::timeout;

use super::{Cluster, PATIENCE, command, endpoint, loopback};

pub(super) struct Agent {
    pub run: AgentRun,
    pub fence: Fence,
    pub row: Option<Row>,
    pub connection: Connection,
    pub channel: Channel,
    _endpoint: Endpoint,
}

pub(crate) fn record(name: &str) -> HostRecord {
    HostRecord {
        name: name.parse().unwrap(),
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        also: Vec::new(),
        labels: BTreeMap::new(),
        gossip_port: 1,
        relay_port: 2,
        coordinator: false,
        drained: false,
    }
}

impl Agent {
    /// Connects as `certificate` and says hello as `name`.
    pub async fn connect(cluster: &Cluster, to: usize, certificate: &str, name: &str) -> Agent {
        let run = AgentRun(uuid::Uuid::from_u128(rand::random()));
        Agent::connect_as(run, cluster, to, certificate, name).await
    }

    /// The same in this life of the agent.
    pub async fn connect_as(
        run: AgentRun,
        cluster: &Cluster,
        to: usize,
        certificate: &str,
        name: &str,
    ) -> Agent {
        let identity = cluster.authority.issue(Role::Agent, certificate, 1).unwrap();
        let endpoint = endpoint(&identity, loopback());
        let coordinator = format!("c{}", to + 1);
        let connection =
            endpoint.connect(cluster.addresses[to], Role::Coordinator, &coordinator).await.unwrap();
        let mut channel = connection.open().await.unwrap();
        let hello = Hello {
            run,
            host: record(name),
            version: "test".into(),
            capabilities: Vec::new(),
            policy: None,
        };
        channel.send(&FromAgent::Hello(hello)).await.unwrap();
        let fence = Fence::default();
        Agent { run, fence, row: None, connection, channel, _endpoint: endpoint }
    }

    pub async fn report(&mut self) {
        self.report_of(Vec::new()).await;
    }

    pub async fn report_of(&mut self, faults: Vec<FaultReport>) {
        let report = Report {
            run: self.run,
            t: Time(crate::clock::now().0),
            digest: self.fence.digest(),
            newest_resume: self.fence.newest_resume(),
            synced: true,
            armed: self.fence.armed(),
            faults,
            probes: Vec::new(),
            row: self.row.clone(),
        };
        self.channel.send(&FromAgent::Report(report)).await.unwrap();
    }

    /// The next message, or why there is none.
    pub async fn next(&mut self) -> Result<Option<ToAgent>, WireError> {
        timeout(PATIENCE, self.channel.recv()).await.expect("a message in time")
    }

    /// Waits until the other side has ended the stream.
    pub async fn end(&mut self) {
        while let Ok(Some(_)) = self.next().await {}
    }

    /// Waits for a message that `pick` takes, reporting each second like a real agent.
    pub async fn expect<T>(&mut self, pick: impl Fn(ToAgent) -> Option<T>) -> T {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut tick = tokio::time::interval(std::time::Duration::from_millis(300));
        loop {
            tokio::select! {
                message = self.channel.recv::<ToAgent>() => {
                    if let Some(found) = pick(message.unwrap().expect("the stream is open")) {
                        return found;
                    }
                }
                _ = tick.tick() => self.report().await,
            }
            assert!(tokio::time::Instant::now() < deadline, "no such message");
        }
    }

    /// Latches like a real agent, answers and reports.
    pub async fn latch(&mut self, stop: StopId) {
        self.receive(stop).await;
        self.report().await;
    }

    /// Latches and answers, and has not reported it yet.
    pub async fn receive(&mut self, stop: StopId) {
        self.fence.hear(stop);
        let receipt = Receipt {
            stop,
            run: self.run,
            lifted: 0,
            residue: Vec::new(),
            latched: Latched::Durable,
            took_ms: 1,
        };
        self.channel.send(&FromAgent::Receipt(receipt)).await.unwrap();
    }
}

impl Cluster {
    /// Who leads, and h1 and h2, which it hears.
    pub async fn two_hosts(&mut self) -> (usize, Agent, Agent) {
        let leader = self.leader().await;
        let mut h1 = Agent::connect(self, leader, "h1", "h1").await;
        let mut h2 = Agent::connect(self, leader, "h2", "h2").await;
        self.until(leader, "both are registered", |s| s.hosts.len() == 2).await;
        tokio::join!(h1.report(), h2.report());
        let heard = |s: &Status| s.hosts.iter().all(|host| host.report.is_some());
        self.until(leader, "both are heard", heard).await;
        (leader, h1, h2)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_is_registered_told_of_its_peers_and_synced() {
    let mut cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let mut h1 = Agent::connect(&cluster, leader, "h1", "h1").await;
    let mut h2 = Agent::connect(&cluster, leader, "h2", "h2").await;
    h2.report().await;
    let peers = h1
        .expect(|m| match m {
            ToAgent::Peers(peers) if !peers.is_empty() => Some(peers),
            _ => None,
        })
        .await;
    assert_eq!(peers.len(), 1);
    assert_eq!(peers[0].name.as_str(), "h2");
    let orders = h1.expect(|m| if let ToAgent::Orders(o) = m { Some(o) } else { None }).await;
    assert_eq!(orders.run, h1.run);
    assert_eq!(orders.leadership.node.0, leader as u64 + 1);

    let status = cluster.status(leader).await;
    assert_eq!(status.hosts.len(), 2);
    assert!(status.hosts.iter().all(|h| h.connected), "{:#?}", status.hosts);
    drop(h2);
    cluster.until(leader, "h2 is gone", |s| !s.hosts[1].connected).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hello_under_another_name_is_refused() {
    let mut cluster = Cluster::started(1).await;
    let mut liar = Agent::connect(&cluster, 0, "h1", "h2").await;
    assert!(liar.next().await.is_err(), "the connection is closed");
    assert!(liar.connection.closed().await.contains("h2"));
    assert!(cluster.status(0).await.hosts.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_says_what_its_role_may_not_is_refused_and_counted() {
    let mut cluster = Cluster::started(1).await;
    for (n, role) in (1..).zip([Role::Agent, Role::Coordinator, Role::Operator]) {
        let endpoint = endpoint(&cluster.authority.issue(role, "x1", 1).unwrap(), loopback());
        let at = cluster.addresses[0];
        let connection = endpoint.connect(at, Role::Coordinator, "c1").await.unwrap();
        let mut channel = connection.open().await.unwrap();
        let sent = match role {
            // What another role may say, with an end that fits no word of this one.
            Role::Agent | Role::Coordinator => {
                let (command, host) = (command(), "h1".parse().unwrap());
                channel.send(&Request::Drain { command, host, drained: true }).await
            }
            Role::Operator => channel.send(&ToAgent::Stops(vec![])).await,
        };
        sent.unwrap();
        let _ = connection.closed().await;
        let refused = cluster.status(0).await.coordinators[0].refused.clone();
        assert_eq!(refused.get("protocol"), Some(&n), "{role}: {refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_agents_with_one_certificate_are_both_refused() {
    let mut cluster = Cluster::started(1).await;
    let mut first = Agent::connect(&cluster, 0, "h1", "h1").await;
    cluster.until(0, "h1 is there", |s| s.hosts.iter().any(|h| h.connected)).await;
    let mut second = Agent::connect(&cluster, 0, "h1", "h1").await;
    // As if the first had ended: a life that begins replaces an earlier one.
    first.end().await;
    second.expect(|m| matches!(m, ToAgent::Peers(_)).then_some(())).await;
    let again = Agent::connect_as(first.run, &cluster, 0, "h1", "h1").await;
    assert!(again.connection.closed().await.contains("two agents run with h1's certificate"));
    second.end().await;
    let status = cluster.status(0).await;
    assert!(!status.hosts[0].connected && status.hosts[0].report.is_none(), "{status:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_gets_no_answer_to_an_operators_request() {
    let cluster = Cluster::started(1).await;
    let identity = cluster.authority.issue(Role::Agent, "h1", 1).unwrap();
    let endpoint = endpoint(&identity, loopback());
    let connection = endpoint.connect(cluster.addresses[0], Role::Coordinator, "c1").await.unwrap();
    let stop = Request::StopAll(StopId(uuid::Uuid::from_u128(1)));
    let answer = Channel::request::<_, Response>(&connection, &stop).await;
    assert!(answer.is_err(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_admits_one_host_once_through_any_coordinator() {
    let mut cluster = Cluster::started(3).await;
    let dir = cluster.dir.path().join("identity");
    cluster.authority.save(&dir).unwrap();
    let gossip = GossipKey::create();
    gossip.save(&dir).unwrap();
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let token = JoinToken::create(cluster.authority.fingerprint(), vec![cluster.listed(follower)]);
    let create = Request::CreateToken {
        command: command(),
        host: "h7".parse().unwrap(),
        hash: token.hash(),
        ttl_ms: 60_000,
    };
    assert!(matches!(cluster.write(&create).await, Outcome::Done(LogIndex(_))));

    let other = squall_wire::transport::join(&token, "h8", None).await;
    assert!(other.unwrap_err().to_string().contains("for another host"));
    let (identity, _) = squall_wire::transport::join(&token, "h7", None).await.unwrap();
    assert_eq!(identity.peer().name, "h7");
    let again = squall_wire::transport::join(&token, "h7", None).await;
    assert!(again.unwrap_err().to_string().contains("used"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_agent_says_at_length_is_cut() {
    let mut cluster = Cluster::started(1).await;
    let mut agent = Agent::connect(&cluster, 0, "h1", "h1").await;
    let experiment = ExperimentId(uuid::Uuid::from_u128(1));
    let id = FaultId { experiment, fault: 0, host: "h1".parse().unwrap() };
    let too_long = |reason| Why::NotHeld { reason, refused: true };
    let fault = FaultReport {
        id,
        kind: None,
        phase: HostPhase::NotHeld,
        lease_ms: 0,
        remaining_ms: 0,
        achieved: None,
        in_place_ms: None,
        ended: Some(Ended { why: too_long("x".repeat(500_000)), ..Ended::default() }),
    };
    agent.report_of(vec![fault]).await;
    let faults = |s: &Status| s.hosts.first().and_then(|h| h.report.clone()).unwrap().faults;
    let reported = |s: &Status| s.hosts.first().is_some_and(|h| h.report.is_some());
    let status = cluster.until(0, "has its report", reported).await;
    let why = faults(&status)[0].ended.as_ref().unwrap().why.clone();
    assert_eq!(why, too_long("x".repeat(MAX_TEXT)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_looked_at_before_anything_is_read_for_it() {
    let cluster = Cluster::started(1).await;
    // It has no authority to read.
    let unknown = JoinToken::create(cluster.authority.fingerprint(), vec![cluster.listed(0)]);
    let error = squall_wire::transport::join(&unknown, "h7", None).await.unwrap_err();
    assert!(error.to_string().contains("the token is unknown"), "{error}");
}
