//! What the loop and the server's tasks share. Locks are short and never held over an await; where
//! two are needed: prober, then sessions, then the registry, then stops.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{Instant, ServerState};
use squall_core::ids::{Coordinator, Leadership, LogIndex, NodeId, StopId};
use squall_core::message::{CoordinatorStatus, FromCoordinator, RaftRole, ToCoordinator};
use squall_core::probe::Prober;
use squall_core::registry::{Entry, Outcome};
use squall_core::time::Time;
use squall_core::views::{Claim, Evidence};
use squall_wire::{Connection, Endpoint, Identity};
use tokio::sync::mpsc;

use crate::clock;
use crate::config::Config;
use crate::driver::{self, Event};
use crate::links::Links;
use crate::network::{self, Answer, Call, Incoming};
use crate::newcomer::Newcomer;
use crate::raft::{self, Metrics, NotConfirmed, NotWritten};
use crate::sessions::Sessions;
use crate::stops::Stops;
use crate::store::Applied;
use crate::store::types::Raft;

/// How long another coordinator may take to say how it is.
const VIEW: Duration = Duration::from_millis(500);
/// How long a follower waits until it has applied what a read needs.
const CATCH_UP: Duration = Duration::from_secs(2);

/// One coordinator.
pub(crate) struct Node {
    pub config: Config,
    pub identity: Identity,
    pub raft: Raft,
    pub applied: Applied,
    pub links: Links,
    endpoint: Endpoint,
    pub incoming: Incoming,
    pub newcomer: Arc<Newcomer>,
    /// To the loop.
    pub events: mpsc::Sender<Event>,
    sessions: Mutex<Sessions>,
    stops: Mutex<Stops>,
    prober: Mutex<Box<dyn Prober>>,
    /// What the other coordinators said of themselves, and when.
    statuses: Mutex<BTreeMap<NodeId, (CoordinatorStatus, Time)>>,
}

/// The parts of a [`Node`].
pub(crate) struct Parts {
    pub config: Config,
    pub identity: Identity,
    pub raft: Raft,
    pub applied: Applied,
    pub links: Links,
    pub endpoint: Endpoint,
    pub newcomer: Arc<Newcomer>,
    pub stops: Stops,
    pub prober: Box<dyn Prober>,
    pub events: mpsc::Sender<Event>,
}

/// Whether a quorum stood behind a read, and up to where the registry has been applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub confirmed: bool,
    pub applied: LogIndex,
}

impl Node {
    pub(crate) fn new(parts: Parts) -> Node {
        Node {
            config: parts.config,
            identity: parts.identity,
            raft: parts.raft,
            applied: parts.applied,
            links: parts.links,
            endpoint: parts.endpoint,
            incoming: Incoming::default(),
            newcomer: parts.newcomer,
            events: parts.events,
            sessions: Mutex::default(),
            stops: Mutex::new(parts.stops),
            prober: Mutex::new(parts.prober),
            statuses: Mutex::default(),
        }
    }

    pub(crate) fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stops(&self) -> MutexGuard<'_, Stops> {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn prober(&self) -> MutexGuard<'_, Box<dyn Prober>> {
        self.prober.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stops that no resume has cleared: by the log as it is applied now, and by this node's own ears.
    pub(crate) fn outstanding(&self) -> Vec<StopId> {
        self.applied.read(|registry| {
            let own = self.stops().lacking_in(registry);
            registry.fence.outstanding().chain(own).collect()
        })
    }

    /// Who proposes what this node proposes by itself.
    pub(crate) fn me(&self) -> String {
        format!("coordinator/{}", self.config.name)
    }

    pub(crate) fn metrics(&self) -> Metrics {
        self.raft.metrics().borrow_watched().clone()
    }

    /// This node's leadership, where it leads.
    pub(crate) fn leadership(&self) -> Option<Leadership> {
        driver::leadership(&self.metrics())
    }

    /// Where a coordinator is reached.
    pub(crate) fn address_of(&self, id: NodeId) -> Option<(NodeId, SocketAddr)> {
        self.config.member(id).map(|m| (id, m.address))
    }

    /// Lets a quorum confirm that what is applied here is all that was committed before: by itself
    /// where this node leads, else through the leader.
    pub(crate) async fn confirm(&self) -> Standing {
        let index = match raft::confirm(&self.raft).await {
            Ok(index) => Some(index),
            Err(NotConfirmed::NotLeader(Some(leader))) if leader != self.config.id => {
                let asked = network::ask(&self.links, leader, &Call::Confirm);
                match tokio::time::timeout(raft::QUORUM_WAIT, asked).await {
                    Ok(Ok(Answer::Confirmed(index))) => Some(index),
                    _ => None,
                }
            }
            Err(_) => None,
        };
        let confirmed = match index {
            Some(index) => self.caught_up(index).await,
            None => false,
        };
        Standing { confirmed, applied: self.applied.read(|r| r.applied) }
    }

    async fn caught_up(&self, index: LogIndex) -> bool {
        let mut applied = self.applied.watch();
        let reached = applied.wait_for(|at| *at >= index);
        tokio::time::timeout(CATCH_UP, reached).await.is_ok_and(|r| r.is_ok())
    }

    /// Proposes here where this node leads, else through the leader.
    pub(crate) async fn propose_anywhere(&self, entry: Entry) -> Result<Outcome, String> {
        match raft::propose(&self.raft, self.config.id, entry.clone()).await {
            Ok(outcome) => Ok(outcome),
            Err(NotWritten::Refused(refusal)) => Ok(Outcome::Refused(refusal)),
            Err(NotWritten::Unknown(why)) => Err(why),
            Err(NotWritten::NotLeader(leader)) => {
                let call = Call::Propose(Box::new(entry));
                let asked = network::ask(&self.links, leader, &call);
                match tokio::time::timeout(2 * raft::QUORUM_WAIT, asked).await {
                    Ok(Ok(Answer::Proposed(outcome))) => Ok(outcome),
                    Ok(Ok(Answer::Failed(why))) => Err(why),
                    Ok(Ok(_)) => Err("the leader answered another question".into()),
                    Ok(Err(error)) => Err(error.to_string()),
                    Err(_) => Err("the leader did not answer".into()),
                }
            }
        }
    }

    /// Ends a connection whose other side did what its role may not, or what makes no sense.
    pub(crate) fn refuse(&self, connection: &Connection, why: &str) {
        self.endpoint.refuse(connection, why);
    }

    /// How this coordinator is.
    pub(crate) fn status(&self) -> CoordinatorStatus {
        let metrics = self.metrics();
        let leads = driver::leadership(&metrics).is_some();
        let votes = leads || self.newcomer.is_member();
        let state = if votes { metrics.state } else { ServerState::Learner };
        CoordinatorStatus {
            id: self.config.id,
            address: self.address_of(self.config.id).map_or(self.config.listen, |(_, a)| a),
            role: role(state),
            term: metrics.current_term,
            leader: metrics.current_leader.map(NodeId),
            applied: self.applied.read(|r| r.applied),
            quorum_age_ms: if leads { self.quorum_age(&metrics) } else { None },
            refused: self.endpoint.refusals().iter().map(|(r, n)| (r.to_string(), n)).collect(),
        }
    }

    fn quorum_age(&self, metrics: &Metrics) -> Option<u64> {
        if self.links.is_empty() {
            return Some(0); // it is its own quorum
        }
        let elapsed = metrics.last_quorum_acked.as_ref()?.elapsed();
        Some(u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX))
    }

    /// How all of them are, this one first; those that do not answer at once are `unreached`.
    pub(crate) async fn statuses(&self) -> Vec<CoordinatorStatus> {
        let ask = |link: &Arc<crate::links::Link>| {
            let link = link.clone();
            async move {
                let asked = link.call(&FromCoordinator::View);
                match tokio::time::timeout(VIEW, asked).await {
                    Ok(Ok(ToCoordinator::View(status))) => (status, true),
                    _ => (unreached(&link.member), false),
                }
            }
        };
        let answers = futures_util::future::join_all(self.links.all().iter().map(ask)).await;
        let now = clock::now();
        let mut known = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        for (status, _) in answers.iter().filter(|(_, answered)| *answered) {
            known.insert(status.id, (status.clone(), now));
        }
        let others = answers.into_iter().map(|(status, _)| status);
        std::iter::once(self.status()).chain(others).collect()
    }

    /// Asks the others how they are, beside everything else.
    pub(crate) fn refresh_statuses(self: &Arc<Self>) {
        let node = self.clone();
        tokio::spawn(async move { drop(node.statuses().await) });
    }

    /// Everything on which the views are judged: the rows of hosts connected here, and what the
    /// coordinators claim.
    pub(crate) fn evidence(&self, now: Time) -> Evidence {
        let sessions = self.sessions();
        let row = |session: &crate::sessions::Session| {
            let (report, at) = session.report.as_ref()?;
            Some((report.row.clone()?, now.since(*at)))
        };
        let rows = sessions.iter().filter_map(|(h, s)| Some((h.clone(), row(s)?))).collect();
        let expected = self.applied.read(|r| r.hosts.keys().cloned().collect());
        drop(sessions);
        let own = (claim(&self.status()), 0);
        let known = self.statuses.lock().unwrap_or_else(PoisonError::into_inner);
        let others = known.values().map(|(status, at)| (claim(status), now.since(*at)));
        let claims = std::iter::once(own).chain(others).collect();
        let names = self.config.coordinators.iter().map(|m| (m.id, m.name.to_string())).collect();
        Evidence { expected, rows, claims, names }
    }
}

fn claim(status: &CoordinatorStatus) -> Claim {
    Claim {
        node: status.id,
        term: status.term,
        leads: status.role == RaftRole::Leader,
        quorum_age_ms: status.quorum_age_ms,
    }
}

fn unreached(member: &Coordinator) -> CoordinatorStatus {
    CoordinatorStatus {
        id: member.id,
        address: member.address,
        role: RaftRole::Unreached,
        term: 0,
        leader: None,
        applied: LogIndex(0),
        quorum_age_ms: None,
        refused: BTreeMap::new(),
    }
}

fn role(state: ServerState) -> RaftRole {
    match state {
        ServerState::Leader => RaftRole::Leader,
        ServerState::Follower => RaftRole::Follower,
        ServerState::Candidate => RaftRole::Candidate,
        ServerState::Learner => RaftRole::Learner,
        ServerState::Shutdown => RaftRole::Stopped,
    }
}
