//! A coordinator that comes back with an empty disk.

use std::collections::BTreeMap;

use openraft::storage::RaftLogStorage;
use openraft::{EntryPayload, Membership};
use squall_core::ids::{Coordinator, NodeId};
use squall_core::message::{RaftRole, Response};
use squall_core::registry::Outcome;
use tokio::time::{Duration, Instant, sleep};

use super::{Cluster, token};
use crate::store::Store;
use crate::store::tests::append;
use crate::store::types::{LogEntry, LogId, Member, Vote};

impl Cluster {
    pub(super) async fn wipe(&mut self, i: usize) {
        self.stop(i).await;
        std::fs::remove_dir_all(self.state_dir(i)).unwrap();
    }

    async fn nobody_leads(&mut self, among: &[usize]) {
        let end = Instant::now() + Duration::from_secs(8);
        while Instant::now() < end {
            for i in among {
                let status = self.status(*i).await;
                assert!(!status.confirmed, "a majority without what was written: {status:#?}");
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_of_the_list_founds_no_second_cluster_with_one_that_has_lost_its_disk_too() {
    let mut cluster = Cluster::new(3).await;
    cluster.start(0).await;
    cluster.start(1).await;
    // A cluster begins where all say that they have nothing.
    cluster.nobody_leads(&[0, 1]).await;
    cluster.start(2).await;
    let acknowledged = token();
    let outcome = cluster.write(&acknowledged).await;
    assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");

    // Two of three: more than raft can lose. It must say so, and found nothing anew.
    cluster.wipe(1).await;
    cluster.wipe(0).await;
    cluster.stop(2).await;
    cluster.start(0).await;
    cluster.start(1).await;
    cluster.nobody_leads(&[0, 1]).await;
    cluster.start(2).await;
    cluster.nobody_leads(&[0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founder_that_fell_before_anybody_voted_for_it_founds_again() {
    // Before it asked for votes, and when it had begun to.
    for asked in [false, true] {
        founds_again(asked).await;
    }
}

async fn founds_again(asked: bool) {
    let mut cluster = Cluster::new(3).await;
    let config = cluster.config(0);
    let member = |m: &Coordinator| {
        (m.id.0, Member { name: m.name.to_string(), address: m.address.to_string() })
    };
    let members: BTreeMap<u64, Member> = config.coordinators.iter().map(member).collect();
    let voters = members.keys().copied().collect();
    let first = LogEntry {
        log_id: LogId { leader_id: 0.into(), index: 0 },
        payload: EntryPayload::Membership(Membership::new(vec![voters], members).unwrap()),
    };
    let mut store = Store::open(&config.state_dir).unwrap();
    append(&mut store.log, vec![first]).await.unwrap();
    store.log.save_vote(&Vote::new(1, 1)).await.unwrap();
    assert!(store.mark.is_set(), "nobody has voted");
    if asked {
        store.mark.clear().await.unwrap();
    }
    drop((store.log, store.machine, store.applied, store.mark));
    store.closed.wait().await;

    for i in 0..3 {
        cluster.start(i).await;
    }
    let outcome = cluster.write(&token()).await;
    assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_fills_one_that_lost_its_disk_and_then_it_counts_again() {
    let mut cluster = Cluster::started(3).await;
    // The first of the list too: it is the one that writes a membership where there is none.
    cluster.stop(0).await;
    let leader = cluster.leader().await;
    cluster.start(0).await;
    for lost in (0..3).filter(|i| *i != leader) {
        for _ in 0..10 {
            assert!(matches!(cluster.write(&token()).await, Outcome::Done(_)));
        }
        let Outcome::Done(index) = cluster.write(&token()).await else { panic!("not done") };
        cluster.until(lost, "has applied it", |s| s.applied >= index).await;
        cluster.wipe(lost).await;
        cluster.start(lost).await;
        let full = |s: &squall_core::message::Status| s.applied >= index && s.confirmed;
        let status = cluster.until(lost, "is filled", full).await;
        assert_eq!(status.leader, Some(NodeId(leader as u64 + 1)), "the same one leads");
        cluster.until(lost, "votes", |s| s.coordinators[0].role == RaftRole::Follower).await;
    }
    let third = (1..3).find(|i| *i != leader).expect("one of two");
    cluster.stop(third).await;
    assert!(matches!(cluster.write(&token()).await, Outcome::Done(_)), "it and the leader");
    cluster.start(third).await;
    cluster.stop(leader).await;
    assert!(matches!(cluster.write(&token()).await, Outcome::Done(_)), "it and the third");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_lost_its_disk_elects_nobody_who_lacks_what_was_acknowledged() {
    let mut cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let (lost, lags) = ((leader + 1) % 3, (leader + 2) % 3);
    cluster.isolate(lags, true);
    let acknowledged = token();
    let outcome = cluster.write(&acknowledged).await;
    assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    cluster.wipe(lost).await;
    cluster.stop(leader).await;

    cluster.start(lost).await;
    cluster.isolate(lags, false);
    // Nor after a restart.
    cluster.stop(lost).await;
    cluster.start(lost).await;
    cluster.nobody_leads(&[lost, lags]).await;
    let answer = cluster.ask(lags, &token()).await;
    assert!(!matches!(answer, Response::Outcome(_)), "{answer:?}");

    // With the one that has it they go on, all three.
    cluster.start(leader).await;
    assert_eq!(cluster.write(&acknowledged).await, outcome, "the very same, at its place");
    cluster
        .until(lost, "votes", |s| s.confirmed && s.coordinators[0].role == RaftRole::Follower)
        .await;
}
