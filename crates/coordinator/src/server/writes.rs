//! What operators change. A command carries its id: repeated, here or elsewhere, it takes effect once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use squall_core::experiment::Experiment;
use squall_core::ids::{CommandId, ExperimentId, HostName, StopId};
use squall_core::leader::FRESH_MS;
use squall_core::message::Response;
use squall_core::registry::{Command, Refusal};
use squall_core::spec::{self, File, Filled, Fleet};
use squall_core::stopping;
use squall_core::time::Time;

use crate::clock;
use crate::driver::{new_command, propose_lacking};
use crate::node::Node;
use crate::raft::{self, NotWritten};

/// How long a resume waits for hosts to report what their receipts have said: they report each second.
const REPORTED: Duration = Duration::from_millis(1_500);
/// Between two looks at that.
const AGAIN: Duration = Duration::from_millis(50);

/// The answer to a command that is remembered, or where another coordinator must be asked.
fn at_once(node: &Node, command: CommandId) -> Option<Response> {
    if let Some(outcome) = node.applied.read(|r| r.outcome_of(command).cloned()) {
        return Some(Response::Outcome(outcome));
    }
    let leader = node.status().leader.filter(|id| *id != node.config.id)?;
    Some(Response::NotLeader(node.address_of(leader)))
}

/// Proposes a command and answers what became of it.
pub(super) async fn propose(
    node: &Arc<Node>,
    by: &str,
    id: CommandId,
    command: Command,
) -> Response {
    if let Some(answer) = at_once(node, id) {
        return answer;
    }
    let entry = raft::entry(id, by, command);
    match raft::propose(&node.raft, node.config.id, entry).await {
        Ok(outcome) => Response::Outcome(outcome),
        Err(not_written) => refused(node, not_written),
    }
}

/// Why an experiment has no room in one entry of the log, where it has none.
pub(super) fn too_large(experiment: &Experiment) -> Option<Refusal> {
    let id = ExperimentId(uuid::Uuid::nil());
    let submit = Command::Submit { id, experiment: Box::new(experiment.clone()) };
    raft::check_size(&raft::entry(new_command(), "", submit)).err().map(Refusal::Full)
}

fn refused(node: &Node, not_written: NotWritten) -> Response {
    match not_written {
        NotWritten::NotLeader(id) => Response::NotLeader(node.address_of(id)),
        NotWritten::Unknown(why) => Response::NoQuorum(why),
        NotWritten::Refused(refusal) => Response::Refused(refusal),
    }
}

/// The same for what is judged by the registry before it is proposed: only a leader that a quorum has
/// just confirmed goes on, with all that was committed applied. A node that lags must not refuse a
/// host because it has not heard of it.
async fn unless_confirmed(node: &Arc<Node>, command: CommandId) -> Option<Response> {
    if let Some(answer) = at_once(node, command) {
        return Some(answer);
    }
    if let Err(not_written) = propose_lacking(node).await {
        return Some(refused(node, not_written));
    }
    if !node.confirm().await.confirmed {
        return Some(Response::NoQuorum("no coordinator leads with a quorum".into()));
    }
    // What an earlier leader committed may have been applied only now, this command with it.
    at_once(node, command)
}

/// Starts an experiment; the stops that the log lacks come first.
pub(super) async fn submit(
    node: &Arc<Node>,
    by: &str,
    command: CommandId,
    id: ExperimentId,
    file: &str,
) -> Response {
    if let Some(answer) = unless_confirmed(node, command).await {
        return answer;
    }
    // Before anything about the fleet: a stop is the reason that a person must hear.
    let outstanding = node.outstanding();
    if !outstanding.is_empty() {
        return refuse(node, by, command, Refusal::Disarmed(outstanding)).await;
    }
    // A repeat draws the same hosts.
    let seed = command.0.as_u128();
    match resolve(node, file, seed) {
        Ok(experiment) => {
            let experiment = Box::new(experiment);
            propose(node, by, command, Command::Submit { id, experiment }).await
        }
        Err(refusal) => refuse(node, by, command, refusal).await,
    }
}

/// A refusal that is none of the log's. An earlier try of this very command may be under way to the
/// log still, and take effect after it was called refused: what stands before the barrier is known
/// once that is in, and nothing of it comes behind.
async fn refuse(node: &Arc<Node>, by: &str, command: CommandId, refusal: Refusal) -> Response {
    let barrier = raft::entry(new_command(), by, Command::Barrier);
    match raft::propose(&node.raft, node.config.id, barrier).await {
        Ok(_) => at_once(node, command).unwrap_or(Response::Refused(refusal)),
        Err(not_written) => refused(node, not_written),
    }
}

/// Releases stops, unless a host may still be under way to stopping.
pub(super) async fn resume(
    node: &Arc<Node>,
    by: &str,
    command: CommandId,
    stops: BTreeSet<StopId>,
    despite: BTreeSet<HostName>,
) -> Response {
    if let Some(answer) = unless_confirmed(node, command).await {
        return answer;
    }
    // Whoever waits for hosts must be waiting for the right stop.
    let unknown = node.applied.read(|r| stops.iter().find(|s| !r.fence.knows(**s)).copied());
    if let Some(unknown) = unknown {
        return refuse(node, by, command, Refusal::UnknownStop(unknown)).await;
    }
    // A receipt comes before the report that says the same, and perhaps to another coordinator.
    let patience = tokio::time::Instant::now() + REPORTED;
    let blockers = loop {
        let blockers = not_stopped(node, &despite);
        if blockers.is_empty() || tokio::time::Instant::now() >= patience {
            break blockers;
        }
        tokio::time::sleep(AGAIN).await;
    };
    if !blockers.is_empty() {
        return refuse(node, by, command, Refusal::NotStopped(blockers)).await;
    }
    propose(node, by, command, Command::Resume { stops, despite }).await
}

/// A host is gone where no agent of it is connected; one that comes back registers itself.
pub(super) async fn forget(
    node: &Arc<Node>,
    by: &str,
    command: CommandId,
    host: HostName,
) -> Response {
    if let Some(answer) = unless_confirmed(node, command).await {
        return answer;
    }
    if node.sessions().get(&host).is_some() {
        let why = "its agent is connected: stop it first".to_owned();
        return refuse(node, by, command, Refusal::NotGone(host, why)).await;
    }
    propose(node, by, command, Command::Forget(host)).await
}

/// Hosts that may still be under way to stopping, by what this node has heard of them.
fn not_stopped(node: &Node, despite: &BTreeSet<HostName>) -> Vec<HostName> {
    let sessions = node.sessions();
    node.applied.read(|registry| {
        let hosts = registry.hosts.keys().map(|host| {
            let last = sessions.get(host).and_then(|s| s.report.as_ref());
            (host, last.map(|(report, at)| (report, *at)))
        });
        let own = node.stops();
        // What this node has heard may be a moment behind the log.
        let all = if own.lacking_in(registry).is_empty() { &registry.fence } else { own.fence() };
        stopping::blockers(clock::now(), hosts, all, despite)
    })
}

/// An experiment file (JSON) with every name resolved against the fleet as this node sees it now.
pub(super) fn resolve(node: &Node, file: &str, seed: u128) -> Result<Experiment, Refusal> {
    let file = read(file).map_err(|e| Refusal::Invalid(format!("not a file: {e}")))?;
    let experiment = spec::resolve(&file, &fleet(node), seed).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let words = lines.join("\n  ");
        if problems.iter().all(|p| p.passing) {
            Refusal::OutOfService(words)
        } else {
            Refusal::Invalid(words)
        }
    })?;
    // Nobody could be told of it.
    experiment.too_long().map_or(Ok(experiment), |words| Err(Refusal::Full(words)))
}

fn read(file: &str) -> serde_json::Result<File> {
    let Filled = serde_json::from_str(file)?;
    serde_json::from_str(file)
}

fn fleet(node: &Node) -> Fleet {
    let now = clock::now();
    let healthy = {
        let sessions = node.sessions();
        let fresh = |at: Time| now.since(at) < FRESH_MS;
        let reporting =
            sessions.iter().filter(|(_, s)| s.report.as_ref().is_some_and(|r| fresh(r.1)));
        reporting.map(|(host, _)| host.clone()).collect()
    };
    let hosts = node.applied.read(|r| r.hosts.clone());
    let coordinators = node.config.coordinators.iter().map(|m| m.address.ip()).collect();
    Fleet::new(hosts, coordinators, healthy)
}
