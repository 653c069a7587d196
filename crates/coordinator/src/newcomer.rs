//! A coordinator that begins with an empty disk. It may be new, or have lost its disk, and then it has
//! forgotten for whom it voted and what it acknowledged: its vote could elect one that lacks what was
//! acknowledged, its word keep one in office that was deposed. So it neither votes nor answers a
//! leader until one has taken it in: has put an entry into the log that is younger than this life of
//! the newcomer, and that a majority has without it. Whoever is elected from then on has that entry and
//! so all that the newcomer may have acknowledged; whoever led before is refused. Once it has the entry
//! itself, it counts again.
//!
//! A cluster begins where every coordinator of the list says that it has nothing: only then the first of the
//! list writes the first membership and asks for votes. One that has lost its disk cannot found a second
//! cluster with others that have not begun, while one that remembers the first is away.
//!
//! A disk that comes back with an older state is not noticed: such a copy must never be restored.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{join_all, select_ok};
use openraft::raft::VoteRequest;
use squall_core::ids::HostName;
use squall_core::registry::Command;
use tokio::time::{sleep, timeout};

use crate::driver::new_command;
use crate::network::{self, Answer, Call};
use crate::node::Node;
use crate::raft::{self, QUORUM_WAIT};
use crate::store::Mark;
use crate::store::types::{LogId, Proposal, TypeConfig, Vote};

/// How often a newcomer asks to be taken in.
const AGAIN: Duration = Duration::from_millis(200);
/// How long a leader may take over the answer: a quorum round and an entry.
const ANSWER: Duration = Duration::from_secs(5);
/// How long it may take to be filled before it asks anew: a large snapshot on a slow line.
const FILL: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It remembers what it has promised.
    Member,
    New,
    /// Nobody has anything, and this is the first of the list.
    Founder,
    /// By the leader of this entry's term; it counts once it has the entry.
    TakenIn(LogId),
}

/// Whether this coordinator is one; the mark on disk stays until it is none.
pub(crate) struct Newcomer {
    state: Mutex<State>,
    mark: Mark,
}

impl Newcomer {
    pub(crate) fn new(mark: Mark) -> Newcomer {
        let state = if mark.is_set() { State::New } else { State::Member };
        Newcomer { state: Mutex::new(state), mark }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_member(&self) -> bool {
        *self.state() == State::Member
    }

    /// From now on it counts, also after a restart.
    pub(crate) async fn join(&self) -> io::Result<()> {
        if !self.is_member() {
            self.mark.clear().await?;
            *self.state() = State::Member;
        }
        Ok(())
    }

    fn founds(&self) {
        let mut state = self.state();
        if *state == State::New {
            *state = State::Founder;
        }
    }

    /// Whether it may ask for votes.
    pub(crate) fn may_campaign(&self) -> bool {
        matches!(*self.state(), State::Member | State::Founder)
    }

    fn taken_in(&self, by: LogId) {
        let mut state = self.state();
        if *state != State::Member {
            *state = State::TakenIn(by);
        }
    }

    /// Whether it may say that it would vote. `last` is the last entry of its own log.
    pub(crate) fn may_pre_vote(
        &self,
        request: &VoteRequest<TypeConfig>,
        last: Option<u64>,
    ) -> bool {
        match *self.state() {
            State::Member => true,
            State::New | State::Founder => {
                begins_cluster(request.last_log_id.map(|id| id.index), last)
            }
            State::TakenIn(_) => false,
        }
    }

    /// Whether it may vote. From its first vote on it counts: nobody has acknowledged anything yet.
    pub(crate) async fn may_vote(
        &self,
        request: &VoteRequest<TypeConfig>,
        last: Option<u64>,
    ) -> bool {
        self.may_pre_vote(request, last) && self.join().await.is_ok()
    }

    /// Whether it may follow a leader.
    pub(crate) fn may_follow(&self, leader: &Vote) -> bool {
        match *self.state() {
            State::Member => true,
            State::New | State::Founder => false,
            State::TakenIn(by) => leader.leader_id.term >= *by.leader_id,
        }
    }
}

/// Whether a candidate has the first membership and nothing else, and the voter no more.
fn begins_cluster(candidate: Option<u64>, voter: Option<u64>) -> bool {
    candidate == Some(0) && voter.is_none_or(|last| last == 0)
}

/// Asks the others until this coordinator counts.
pub(crate) async fn run(node: Arc<Node>) {
    if node.links.is_empty() {
        // Nobody could have heard a promise.
        node.newcomer.join().await.unwrap_or_else(cannot_note);
        if is_empty(&node).await == Ok(true) {
            begin(&node).await;
        }
        return;
    }
    let mut waits_for = None;
    while !node.newcomer.is_member() {
        let first = node.config.is_first() && !node.newcomer.may_campaign();
        if first && is_empty(&node).await == Ok(true) {
            found(&node, &mut waits_for).await;
        }
        let asks = node.links.all().iter().map(|link| ask(&node, link.member.id).boxed());
        if let Ok((by, _)) = select_ok(asks).await {
            node.newcomer.taken_in(by);
            tracing::info!(entry = %by, "taken in: this coordinator has yet to be filled");
            fill(&node, by).await;
        }
        sleep(AGAIN).await;
    }
}

/// Whether nothing was ever acknowledged here: there is no entry but the first membership. Raft itself is
/// asked: what it last told may be from before it had read its log.
pub(crate) async fn is_empty(node: &Node) -> Result<bool, String> {
    let last = node.raft.with_raft_state(|state| state.log_ids.last().map(|id| id.index)).await;
    last.map(|last| last.is_none_or(|index| index == 0)).map_err(|e| e.to_string())
}

/// Begins the cluster where everybody says that there is none; else notes who does not.
async fn found(node: &Node, waits_for: &mut Option<Vec<HostName>>) {
    let asks = node.links.all().iter().map(async |link| {
        let asked = network::ask(&node.links, link.member.id, &Call::IsEmpty);
        match timeout(ANSWER, asked).await {
            Ok(Ok(Answer::Empty(empty))) => (empty, None),
            _ => (false, Some(link.member.name.clone())),
        }
    });
    let (empty, silent): (Vec<bool>, Vec<_>) = join_all(asks).await.into_iter().unzip();
    if empty.iter().all(|empty| *empty) {
        node.newcomer.founds();
        return begin(node).await;
    }
    let silent: Vec<HostName> = silent.into_iter().flatten().collect();
    if !silent.is_empty() && waits_for.as_ref() != Some(&silent) {
        let names = silent.iter().map(HostName::as_str).collect::<Vec<_>>().join(", ");
        tracing::warn!(
            names,
            "no answer: a cluster begins once all its coordinators have said that they have nothing"
        );
        *waits_for = Some(silent);
    }
}

async fn begin(node: &Node) {
    if let Err(error) = raft::initialise(&node.raft, &node.config).await {
        tracing::error!(error, "the cluster cannot begin");
    }
}

async fn ask(node: &Node, other: squall_core::ids::NodeId) -> Result<LogId, ()> {
    match timeout(ANSWER, network::ask(&node.links, other, &Call::TakeIn)).await {
        Ok(Ok(Answer::TakenIn(by))) => Ok(by),
        _ => Err(()),
    }
}

async fn fill(node: &Node, by: LogId) {
    let mut applied = node.applied.watch();
    let has_it = applied.wait_for(|at| at.0 >= by.index);
    if !timeout(FILL, has_it).await.is_ok_and(|r| r.is_ok()) {
        return;
    }
    match node.newcomer.join().await {
        Ok(()) => tracing::info!("this coordinator has everything, and votes"),
        Err(error) => cannot_note(error),
    }
}

fn cannot_note(error: io::Error) {
    tracing::error!(%error, "this coordinator cannot note that it votes");
}

/// Takes another one in, as its leader. It acknowledges nothing yet, so that whatever the log takes from
/// here on a majority has without it.
pub(crate) async fn take_in(node: &Node, newcomer: &str) -> Result<LogId, String> {
    let member =
        node.config.others().find(|m| m.name.as_str() == newcomer).ok_or("not one of ours")?;
    // Without a quorum entries would only heap up.
    raft::confirm(&node.raft).await.map_err(|_| "no leader that a quorum answers")?;
    let entry = raft::entry(new_command(), &node.me(), Command::Barrier);
    let write = timeout(QUORUM_WAIT, node.raft.client_write(Proposal(entry)));
    let written = write.await.map_err(|_| "no quorum")?.map_err(|e| e.to_string())?;
    // What it had acknowledged it does not have any more.
    let reverted = node.raft.trigger().allow_next_revert(&member.id.0, true).await;
    reverted.map_err(|e| e.to_string())?.map_err(|e| e.to_string())?;
    tracing::info!(name = newcomer, "taking in a coordinator with an empty disk");
    Ok(written.log_id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    fn entry(term: u64, index: u64) -> LogId {
        LogId { leader_id: term.into(), index }
    }

    fn request(last: LogId) -> VoteRequest<TypeConfig> {
        VoteRequest::new(Vote::new(9, 1), Some(last))
    }

    #[tokio::test]
    async fn a_newcomer_votes_where_a_cluster_begins_and_follows_who_took_it_in_or_came_later() {
        let dir = tempfile::tempdir().unwrap();
        let newcomer = Newcomer::new(Store::open(dir.path()).unwrap().mark);
        assert!(!newcomer.may_follow(&Vote::new_committed(9, 1)), "whoever that is");
        assert!(!newcomer.may_vote(&request(entry(1, 7)), None).await);
        assert!(!newcomer.may_vote(&request(entry(0, 0)), Some(7)).await, "it was filled in part");
        assert!(newcomer.may_pre_vote(&request(entry(0, 0)), None));

        newcomer.taken_in(entry(3, 8));
        assert!(!newcomer.may_follow(&Vote::new_committed(2, 1)), "it was deposed");
        assert!([3, 4].iter().all(|term| newcomer.may_follow(&Vote::new_committed(*term, 1))));
        assert!(!newcomer.may_vote(&request(entry(0, 0)), None).await, "there is a cluster");

        newcomer.join().await.unwrap();
        assert!(newcomer.may_vote(&request(entry(1, 7)), Some(8)).await, "raft judges");
    }

    #[tokio::test]
    async fn the_first_vote_of_a_cluster_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let newcomer = Newcomer::new(store.mark);
        assert!(newcomer.may_vote(&request(entry(0, 0)), Some(0)).await);
        drop((newcomer, store.log, store.machine, store.applied));
        store.closed.wait().await;
        assert!(!Store::open(dir.path()).unwrap().mark.is_set());
    }
}
