//! Raft's calls between coordinators. Each goes on a channel of its own, so that a snapshot on its
//! way does not hold up a heartbeat.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, Snapshot as RaftSnapshot};
use serde::{Deserialize, Serialize};
use squall_core::ids::{LogIndex, NodeId};
use squall_core::message::{FromCoordinator, ToCoordinator};
use squall_core::registry::{Entry, Outcome};
use squall_wire::codec;

use crate::links::{CallError, Links};
use crate::newcomer::{self, Newcomer};
use crate::node::Node;
use crate::raft::{self, NotConfirmed, NotWritten};
use crate::store::SnapshotData;
use crate::store::types::{LogId, Member, Snapshot, SnapshotMeta, TypeConfig, Vote};

type C = TypeConfig;

/// Bytes of a snapshot in one call.
const PART: usize = 512 << 10;
/// Bytes of one snapshot, at most.
const MAX_SNAPSHOT: usize = 1 << 30;
/// How long a follower may take over one batch of entries: a slow disk's fsync, not a dead peer,
/// which the connection notices. Raft's own figure here is one heartbeat.
const APPEND: Duration = Duration::from_secs(2);

/// A call from one coordinator to another, inside [`FromCoordinator::Raft`].
#[derive(Serialize, Deserialize)]
pub(crate) enum Call {
    Append(AppendEntriesRequest<C>),
    Vote(VoteRequest<C>),
    PreVote(VoteRequest<C>),
    /// A part of a snapshot; parts come in order, the last one installs it.
    Part {
        vote: Vote,
        meta: SnapshotMeta,
        offset: u64,
        bytes: Vec<u8>,
        last: bool,
    },
    /// To the leader: propose this.
    Propose(Box<Entry>),
    /// To the leader: confirm with a quorum, say up to where a reader must have applied.
    Confirm,
    /// To the leader, from one that began with an empty disk.
    TakeIn,
    /// Whether nothing was ever acknowledged there.
    IsEmpty,
}

/// The answer to it.
#[derive(Serialize, Deserialize)]
pub(crate) enum Answer {
    Append(AppendEntriesResponse<C>),
    Vote(VoteResponse<C>),
    PreVote(VoteResponse<C>),
    /// The part was taken; after the last one with raft's answer.
    Part(Option<SnapshotResponse<C>>),
    Proposed(Outcome),
    Confirmed(LogIndex),
    Failed(String),
    TakenIn(LogId),
    Empty(bool),
}

/// Makes raft's network out of the links.
pub(crate) struct Network {
    pub links: Links,
    pub newcomer: Arc<Newcomer>,
}

impl RaftNetworkFactory<C> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _member: &Member) -> Peer {
        Peer { target: NodeId(target), links: self.links.clone(), newcomer: self.newcomer.clone() }
    }
}

/// Raft's way to one other coordinator.
pub(crate) struct Peer {
    target: NodeId,
    links: Links,
    newcomer: Arc<Newcomer>,
}

/// Asks another coordinator.
pub(crate) async fn ask(links: &Links, to: NodeId, call: &Call) -> Result<Answer, CallError> {
    let Some(link) = links.get(to) else {
        return Err(CallError::NotConnected(to.to_string()));
    };
    let message = FromCoordinator::Raft(codec::encode(call).map_err(squall_wire::WireError::from)?);
    match link.call(&message).await? {
        ToCoordinator::Raft(bytes) => {
            Ok(codec::decode(&bytes).map_err(squall_wire::WireError::from)?)
        }
        _ => Err(CallError::Failed(to.to_string(), "it answered another question".into())),
    }
}

impl Peer {
    async fn ask(&self, call: &Call, within: Duration) -> Result<Answer, RPCError<C>> {
        match tokio::time::timeout(within, ask(&self.links, self.target, call)).await {
            Ok(Ok(Answer::Failed(why))) => Err(NetworkError::from_string(why).into()),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error @ CallError::NotConnected(_))) => {
                Err(Unreachable::from_string(error).into())
            }
            Ok(Err(error)) => Err(NetworkError::from_string(error).into()),
            Err(_) => Err(NetworkError::from_string(format!("no answer within {within:?}")).into()),
        }
    }
}

fn strange() -> RPCError<C> {
    NetworkError::from_string("the answer is to another call").into()
}

impl RaftNetworkV2<C> for Peer {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<C>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<C>, RPCError<C>> {
        // Elected: the cluster has just begun, or it has all that was acknowledged.
        self.newcomer.join().await.map_err(|e| RPCError::from(NetworkError::new(&e)))?;
        // A heartbeat that is late is of no use to raft.
        let within = if rpc.entries.is_empty() { option.hard_ttl() } else { APPEND };
        match self.ask(&Call::Append(rpc), within).await? {
            Answer::Append(answer) => Ok(answer),
            _ => Err(strange()),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<C>,
        option: RPCOption,
    ) -> Result<VoteResponse<C>, RPCError<C>> {
        self.campaign()?;
        // As whoever votes: whom it voted for itself it must know after a crash.
        self.newcomer.join().await.map_err(|e| RPCError::from(NetworkError::new(&e)))?;
        match self.ask(&Call::Vote(rpc), option.hard_ttl()).await? {
            Answer::Vote(answer) => Ok(answer),
            _ => Err(strange()),
        }
    }

    /// The default grants without asking.
    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<C>,
        option: RPCOption,
    ) -> Result<VoteResponse<C>, RPCError<C>> {
        self.campaign()?;
        match self.ask(&Call::PreVote(rpc), option.hard_ttl()).await? {
            Answer::PreVote(answer) => Ok(answer),
            _ => Err(strange()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<C>, StreamingError<C>> {
        tokio::select! {
            sent = self.send_parts(vote, &snapshot, option.hard_ttl()) => sent,
            closed = cancel => Err(closed.into()),
        }
    }
}

impl Peer {
    /// Whoever has forgotten what it acknowledged is no candidate.
    fn campaign(&self) -> Result<(), RPCError<C>> {
        if self.newcomer.may_campaign() {
            return Ok(());
        }
        Err(NetworkError::from_string("it began with an empty disk and is no candidate").into())
    }

    async fn send_parts(
        &self,
        vote: Vote,
        snapshot: &Snapshot,
        within: Duration,
    ) -> Result<SnapshotResponse<C>, StreamingError<C>> {
        let data = &snapshot.snapshot;
        let parts = data.len().div_ceil(PART).max(1);
        for n in 0..parts {
            let (from, to) = (n * PART, ((n + 1) * PART).min(data.len()));
            let call = Call::Part {
                vote,
                meta: snapshot.meta.clone(),
                offset: from as u64,
                bytes: data[from..to].to_vec(),
                last: n + 1 == parts,
            };
            match self.ask(&call, within).await? {
                Answer::Part(Some(response)) => return Ok(response),
                Answer::Part(None) => {}
                _ => return Err(strange().into()),
            }
        }
        Err(StreamingError::from(RPCError::from(NetworkError::from_string(
            "the last part was not answered as such",
        ))))
    }
}

/// Parts of snapshots that have not come whole yet, by who sends them.
#[derive(Default)]
pub(crate) struct Incoming(Mutex<BTreeMap<String, Partial>>);

/// The beginning of a snapshot.
struct Partial {
    of: (Vote, SnapshotMeta),
    bytes: Vec<u8>,
}

impl Incoming {
    /// Adds a part; gives the whole where it was the last one. A late part of another snapshot, which its
    /// sender has given up, does not belong to it.
    fn add(
        &self,
        from: &str,
        of: (Vote, SnapshotMeta),
        offset: u64,
        bytes: &[u8],
        last: bool,
    ) -> Result<Option<Vec<u8>>, String> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if offset == 0 {
            all.insert(from.to_owned(), Partial { of: of.clone(), bytes: Vec::new() });
        }
        let known = all.get_mut(from).filter(|partial| partial.of == of);
        let Some(Partial { bytes: so_far, .. }) = known else {
            return Err("the part of a snapshot whose beginning is not here".into());
        };
        if so_far.len() as u64 != offset || so_far.len() + bytes.len() > MAX_SNAPSHOT {
            let had = so_far.len();
            all.remove(from);
            return Err(format!("a snapshot's part at {offset} does not follow on {had}"));
        }
        so_far.extend_from_slice(bytes);
        Ok(if last { all.remove(from).map(|whole| whole.bytes) } else { None })
    }
}

/// Answers the call of another coordinator, `from`.
pub(crate) async fn answer(node: &Node, from: &str, call: Call) -> Answer {
    let failed = |error: &dyn std::fmt::Display| Answer::Failed(error.to_string());
    let raft = &node.raft;
    if !may_answer(node, &call).await {
        return Answer::Failed("it began with an empty disk and does not count yet".into());
    }
    match call {
        Call::Append(rpc) => {
            raft.append_entries(rpc).await.map_or_else(|e| failed(&e), Answer::Append)
        }
        Call::Vote(rpc) => raft.vote(rpc).await.map_or_else(|e| failed(&e), Answer::Vote),
        Call::PreVote(rpc) => raft.pre_vote(rpc).await.map_or_else(|e| failed(&e), Answer::PreVote),
        Call::Part { vote, meta, offset, bytes, last } => {
            let of = (vote, meta.clone());
            let whole = match node.incoming.add(from, of, offset, &bytes, last) {
                Ok(None) => return Answer::Part(None),
                Ok(Some(whole)) => whole,
                Err(why) => return Answer::Failed(why),
            };
            let snapshot = RaftSnapshot { meta, snapshot: Arc::new(whole) };
            match raft.install_full_snapshot(vote, snapshot).await {
                Ok(response) => Answer::Part(Some(response)),
                Err(error) => failed(&error),
            }
        }
        Call::Propose(entry) => match raft::propose(raft, node.config.id, *entry).await {
            Ok(outcome) => Answer::Proposed(outcome),
            Err(NotWritten::NotLeader(id)) => Answer::Failed(format!("coordinator {id} leads")),
            Err(NotWritten::Unknown(why)) => Answer::Failed(why),
            Err(NotWritten::Refused(refusal)) => Answer::Proposed(Outcome::Refused(refusal)),
        },
        Call::Confirm => match raft::confirm(raft).await {
            Ok(index) => Answer::Confirmed(index),
            Err(NotConfirmed::NotLeader(_)) => Answer::Failed("not the leader".into()),
            Err(NotConfirmed::NoQuorum) => Answer::Failed("no quorum".into()),
        },
        Call::TakeIn => {
            newcomer::take_in(node, from).await.map_or_else(Answer::Failed, Answer::TakenIn)
        }
        Call::IsEmpty => match newcomer::is_empty(node).await {
            Ok(empty) => Answer::Empty(empty),
            Err(why) => Answer::Failed(why),
        },
    }
}

/// Whether raft may hear of a call: not all that it forgot can be undone.
async fn may_answer(node: &Node, call: &Call) -> bool {
    let newcomer = &node.newcomer;
    let last = || node.metrics().last_log_index;
    match call {
        Call::Append(rpc) => newcomer.may_follow(&rpc.vote),
        Call::Part { vote, .. } => newcomer.may_follow(vote),
        Call::PreVote(rpc) => newcomer.may_pre_vote(rpc, last()),
        Call::Vote(rpc) => newcomer.may_vote(rpc, last()).await,
        Call::Propose(_) | Call::Confirm | Call::TakeIn | Call::IsEmpty => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::types::StoredMembership;

    #[test]
    fn a_snapshot_is_made_of_its_own_parts_alone() {
        let of = |index| {
            let last_log_id = Some(LogId { leader_id: 1.into(), index });
            let meta = SnapshotMeta { last_log_id, last_membership: StoredMembership::default() };
            (Vote::new_committed(1, 1), meta)
        };
        let incoming = Incoming::default();
        assert_eq!(incoming.add("c1", of(7), 0, b"ab", false), Ok(None));
        // A newer one; then what was on its way of the older one.
        assert_eq!(incoming.add("c1", of(9), 0, b"AB", false), Ok(None));
        assert!(incoming.add("c1", of(7), 2, b"cd", true).is_err());
        assert!(incoming.add("c2", of(9), 2, b"CD", true).is_err(), "of another sender");
        assert_eq!(incoming.add("c1", of(9), 2, b"CD", true), Ok(Some(b"ABCD".to_vec())));
        assert!(incoming.add("c1", of(9), 4, b"EF", true).is_err(), "it is whole already");
    }
}
