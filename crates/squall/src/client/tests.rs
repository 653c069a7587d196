//! Which of several answers is taken.

use squall_core::ids::{Coordinator, NodeId, StopId};
use squall_core::message::Status;
use squall_core::registry::Refusal;

use super::*;

fn member(id: u64) -> Coordinator {
    let name = format!("c{id}").parse().unwrap();
    Coordinator { id: NodeId(id), name, address: ([10, 0, 0, 1], 7443).into() }
}

fn status(applied: u64, confirmed: bool) -> Response {
    Response::Status(Box::new(Status {
        cluster: "storm".into(),
        node: NodeId(1),
        leader: None,
        term: 1,
        confirmed,
        applied: LogIndex(applied),
        outstanding: Vec::new(),
        coordinators: Vec::new(),
        hosts: Vec::new(),
        capabilities: Vec::new(),
        left_out: 0,
        experiments: Vec::new(),
    }))
}

#[test]
fn without_a_quorum_the_newest_answer_is_taken() {
    let said = vec![
        (member(1), Ok(status(7, false))),
        (member(2), Ok(status(9, false))),
        (member(3), Err(WireError::ChannelOver)),
    ];
    let Ok(Response::Status(taken)) = best(said) else { panic!("an answer was there") };
    assert_eq!(taken.applied, LogIndex(9));
    assert_eq!(standing(&status(1, true)), Standing::Quorum);
}

#[test]
fn what_went_wrong_is_told_of_each_coordinator() {
    let late = WireError::Unanswered { address: member(1).address, after: ANSWER };
    let failure = best(vec![(member(1), Err(late)), (member(2), Err(WireError::ChannelOver))])
        .expect_err("nobody answered");
    assert_eq!(failure.exit, Exit::Unreachable);
    assert!(failure.what.starts_with("no coordinator answered\n  c1 (10.0.0.1:7443): "));
    assert!(failure.what.contains("c2 (10.0.0.1:7443): the channel is over"));
    assert!(!failure.hosts.is_empty() && !failure.next.is_empty());
}

#[test]
fn silence_lack_of_a_quorum_and_lack_of_rights_are_told_apart() {
    let no_quorum = nobody(&[(member(1), Ok(Response::NoQuorum("1 of 3".into())))]);
    assert!(no_quorum.what.starts_with("no quorum of coordinators answered"));
    let late = WireError::Unanswered { address: member(1).address, after: ANSWER };
    let expired = WireError::RefusedByPeer { address: member(2).address, why: "expired".into() };
    let refused = nobody(&[(member(1), Err(late)), (member(2), Err(expired))]);
    assert!(refused.what.starts_with("the coordinators refuse this operator"), "{refused}");
    assert!(refused.what.contains("expired") && !refused.hosts.contains("without"), "{refused}");
    assert_eq!((no_quorum.exit, refused.exit), (Exit::Unreachable, Exit::Unreachable));
}

#[test]
fn a_refusal_ends_with_three_and_names_the_stop() {
    let stop = StopId(uuid::Uuid::from_u128(5));
    let refused = Response::Refused(Refusal::Disarmed(vec![stop]));
    let failure = best(vec![(member(1), Ok(refused))]).expect_err("refused");
    assert_eq!(failure.exit, Exit::Refused);
    assert!(failure.next.contains(&format!("squall resume {stop}")));
}
