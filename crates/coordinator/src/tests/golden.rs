//! The bytes of raft's calls and answers: what another version of openraft says is seen here before two
//! coordinators misunderstand each other.

#[path = "../../../wire/tests/golden/file.rs"]
mod file;

use std::collections::{BTreeMap, BTreeSet};

use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{EntryPayload, Membership};
use squall_core::ids::{CommandId, LogIndex, StopId};
use squall_core::registry::{Command, Entry, Outcome};
use squall_core::time::WallTime;
use squall_wire::codec;
use uuid::Uuid;

use crate::network::{Answer, Call};
use crate::store::types::{
    LogEntry, LogId, Member, Proposal, SnapshotMeta, StoredMembership, TypeConfig, Vote,
};

fn log_id(index: u64) -> LogId {
    LogId { leader_id: 6.into(), index }
}

fn entry() -> Entry {
    Entry {
        id: CommandId(Uuid::from_u128(5)),
        at: WallTime(1_790_000_000_000),
        by: "operator/alice".into(),
        command: Command::Stop(StopId(Uuid::from_u128(2))),
    }
}

fn membership() -> Membership<u64, Member> {
    let member = |name: &str| Member { name: name.into(), address: format!("{name}:7443") };
    let nodes = BTreeMap::from([(1, member("c1")), (2, member("c2")), (3, member("c3"))]);
    let configs = vec![BTreeSet::from([1, 2]), BTreeSet::from([1, 2, 3])];
    Membership::new(configs, nodes).unwrap()
}

fn calls() -> Vec<Call> {
    let payloads = [
        EntryPayload::Blank,
        EntryPayload::Normal(Proposal(entry())),
        EntryPayload::Membership(membership()),
    ];
    let entries = payloads.into_iter().zip(10..);
    let entries = entries.map(|(payload, index)| LogEntry { log_id: log_id(index), payload });
    let mut asked = VoteRequest::new(Vote::new(7, 2), Some(log_id(12)));
    asked.leadership_transfer = true;
    vec![
        Call::Append(AppendEntriesRequest {
            vote: Vote::new_committed(7, 2),
            prev_log_id: Some(log_id(9)),
            entries: entries.collect(),
            leader_commit: Some(log_id(8)),
        }),
        Call::Vote(asked.clone()),
        Call::PreVote(asked),
        Call::Part {
            vote: Vote::new_committed(7, 2),
            meta: SnapshotMeta {
                last_log_id: Some(log_id(12)),
                last_membership: StoredMembership::new(Some(log_id(12)), membership()),
            },
            offset: 524_288,
            bytes: vec![1, 2, 3],
            last: true,
        },
        Call::Propose(Box::new(entry())),
        Call::Confirm,
        Call::TakeIn,
        Call::IsEmpty,
    ]
}

fn answers() -> Vec<Answer> {
    let vote = VoteResponse::<TypeConfig>::new(Vote::new(7, 2), Some(log_id(12)), true);
    vec![
        Answer::Append(AppendEntriesResponse::Success),
        Answer::Append(AppendEntriesResponse::PartialSuccess(Some(log_id(11)))),
        Answer::Append(AppendEntriesResponse::Conflict),
        Answer::Append(AppendEntriesResponse::HigherVote(Vote::new(8, 3))),
        Answer::Vote(vote.clone()),
        Answer::PreVote(vote),
        Answer::Part(Some(SnapshotResponse { vote: Vote::new_committed(7, 2) })),
        Answer::Proposed(Outcome::Done(LogIndex(11))),
        Answer::Confirmed(LogIndex(11)),
        Answer::Failed("why".into()),
        Answer::TakenIn(log_id(13)),
        Answer::Empty(true),
    ]
}

#[test]
fn calls_and_answers_have_the_bytes_that_they_had() {
    // No wildcard: a new variant needs a name here, and a sample above.
    let call = |call: &Call| match call {
        Call::Append(_) => "Append",
        Call::Vote(_) => "Vote",
        Call::PreVote(_) => "PreVote",
        Call::Part { .. } => "Part",
        Call::Propose(_) => "Propose",
        Call::Confirm => "Confirm",
        Call::TakeIn => "TakeIn",
        Call::IsEmpty => "IsEmpty",
    };
    let answer = |answer: &Answer| match answer {
        Answer::Append(AppendEntriesResponse::Success) => "Append::Success",
        Answer::Append(AppendEntriesResponse::PartialSuccess(_)) => "Append::PartialSuccess",
        Answer::Append(AppendEntriesResponse::Conflict) => "Append::Conflict",
        Answer::Append(AppendEntriesResponse::HigherVote(_)) => "Append::HigherVote",
        Answer::Vote(_) => "Vote",
        Answer::PreVote(_) => "PreVote",
        Answer::Part(_) => "Part",
        Answer::Proposed(_) => "Proposed",
        Answer::Confirmed(_) => "Confirmed",
        Answer::Failed(_) => "Failed",
        Answer::TakenIn(_) => "TakenIn",
        Answer::Empty(_) => "Empty",
    };
    let mut lines = file::Lines::new();
    calls().iter().for_each(|c| file::add(&mut lines, &format!("Call::{}", call(c)), c));
    answers().iter().for_each(|a| file::add(&mut lines, &format!("Answer::{}", answer(a)), a));
    assert_eq!(lines.len(), 8 + 12);
    file::compare(concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/golden.txt"), &lines);
}
