use std::collections::BTreeSet;

use squall_core::ids::StopId;
use squall_core::message::{FromAgent, Request, Response, StopProgress, StopState, ToAgent};
use squall_core::registry::{Outcome, Refusal};
use squall_wire::Connection;
use tokio::time::timeout;

use super::fleet::Agent;
use super::{Cluster, PATIENCE, command};
use crate::sessions::MAX_BROUGHT;

pub(super) fn stop() -> StopId {
    StopId(uuid::Uuid::from_u128(rand::random()))
}

/// Stops everything through one coordinator; returns all that it says.
pub(super) async fn stop_all(cluster: &mut Cluster, at: usize, stop: StopId) -> Vec<StopProgress> {
    stop_over(&cluster.connection(at).await, stop).await
}

async fn stop_over(connection: &Connection, stop: StopId) -> Vec<StopProgress> {
    let mut channel = connection.open().await.unwrap();
    channel.send(&Request::StopAll(stop)).await.unwrap();
    let mut steps = Vec::new();
    loop {
        match timeout(PATIENCE, channel.recv::<Response>()).await.unwrap().unwrap() {
            Some(Response::Stop(step)) => steps.push(step),
            Some(other) => panic!("{other:?}"),
            None => return steps,
        }
        if steps.last().is_some_and(|s| s.last) {
            return steps;
        }
    }
}

pub(super) fn latching(mut agent: Agent) -> tokio::task::JoinHandle<(Agent, StopId)> {
    tokio::spawn(async move {
        let stop = agent
            .expect(|m| {
                if let ToAgent::Stop { stop, record } = m { Some((stop, record)) } else { None }
            })
            .await;
        agent.latch(stop.0).await;
        (agent, stop.0)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_of_a_host_that_turns_out_to_have_two_agents_counts_for_nothing() {
    let mut cluster = Cluster::started(1).await;
    let mut first = Agent::connect(&cluster, 0, "h1", "h1").await;
    let silent = Agent::connect(&cluster, 0, "h2", "h2").await;
    cluster
        .until(0, "both are there", |s| s.hosts.iter().filter(|h| h.connected).count() == 2)
        .await;
    let second = Agent::connect(&cluster, 0, "h1", "h1").await;
    first.end().await;
    let answering = latching(second);
    let id = stop();
    let operator = cluster.connection(0).await;
    // Whoever is dropped may take his last words with him.
    let (steps, _kept) = tokio::join!(stop_over(&operator, id), async {
        let second = answering.await.unwrap();
        Agent::connect_as(first.run, &cluster, 0, "h1", "h1").await.end().await;
        (second, latching(silent).await.unwrap())
    });
    let answered = |s: &StopProgress| s.hosts.iter().map(|h| h.receipt.is_some()).collect();
    let seen: Vec<Vec<bool>> = steps.iter().map(answered).collect();
    assert_eq!(seen.last().unwrap(), &[false, true], "{seen:?}");
    assert!(!squall_core::stopping::is_done(steps.last().unwrap()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_at_a_follower_is_pushed_committed_and_disarms_until_a_resume_names_it() {
    let mut cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    let at_leader = Agent::connect(&cluster, leader, "h1", "h1").await;
    let at_follower = Agent::connect(&cluster, follower, "h1", "h1").await;
    cluster.until(follower, "h1 is registered", |s| s.hosts.len() == 1).await;

    let (one, two) = (latching(at_leader), latching(at_follower));
    let id = stop();
    let steps = stop_all(&mut cluster, follower, id).await;
    let last = steps.last().unwrap();
    assert!(last.last && last.committed, "{last:#?}");
    assert_eq!(last.hosts.len(), 1);
    assert_eq!(last.hosts[0].state, StopState::Lifted);
    let (mut agent, heard) = one.await.unwrap();
    assert_eq!(heard, id, "the leader pushes it to its own agents too");
    assert_eq!(two.await.unwrap().1, id);

    for i in 0..3 {
        cluster.until(i, "is disarmed", |s| s.outstanding == [id]).await;
    }
    // A resume of something else changes nothing; one that names it does.
    let other = Request::Resume {
        command: command(),
        stops: BTreeSet::from([stop()]),
        despite: BTreeSet::new(),
    };
    let reporting = tokio::spawn(async move {
        agent
            .expect(|m| match m {
                ToAgent::Sync(sync) if !sync.resumes.is_empty() => Some(sync),
                _ => None,
            })
            .await
    });
    assert!(matches!(cluster.write(&other).await, Outcome::Refused(Refusal::UnknownStop(_))));
    let resume = Request::Resume {
        command: command(),
        stops: BTreeSet::from([id]),
        despite: BTreeSet::new(),
    };
    assert!(matches!(cluster.write(&resume).await, Outcome::Done(_)));
    cluster.until(follower, "is armed", |s| s.outstanding.is_empty()).await;
    let sync = reporting.await.unwrap();
    let cleared: Vec<_> = sync.resumes.into_iter().flat_map(|r| r.cleared).collect();
    assert_eq!((cleared, sync.stops), (vec![id], vec![]), "agents learn of it from the leader");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_goes_before_the_leaders_rounds() {
    let mut cluster = Cluster::started(1).await;
    let mut agent = Agent::connect(&cluster, 0, "h1", "h1").await;
    cluster.until(0, "h1 is registered", |s| s.hosts.len() == 1).await;
    let began = std::time::Instant::now();
    let answering = tokio::spawn(async move {
        let pick = |m| if let ToAgent::Stop { stop, .. } = m { Some(stop) } else { None };
        let stop = agent.expect(pick).await;
        let after = crate::clock::now();
        // What it says from now on is of a later millisecond.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        agent.latch(stop).await;
        // The first round that began after the stop was heard.
        let fresh = |m| matches!(m, ToAgent::Orders(orders) if orders.echo > after).then_some(());
        agent.expect(fresh).await;
        began.elapsed()
    });
    let steps = stop_all(&mut cluster, 0, stop()).await;
    assert_eq!(steps.last().unwrap().hosts[0].state, StopState::Lifted);
    let took = answering.await.unwrap();
    let least = std::time::Duration::from_millis(squall_core::leader::STOP_FIRST_MS);
    assert!(took >= least, "a round came {took:?} after the stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_needs_no_quorum_and_is_committed_when_there_is_one_again() {
    let mut cluster = Cluster::started(3).await;
    let agent = Agent::connect(&cluster, 0, "h1", "h1").await;
    let elsewhere = Agent::connect(&cluster, 1, "h1", "h1").await;
    let third = Agent::connect(&cluster, 2, "h1", "h1").await;
    cluster.until(0, "h1 is registered", |s| s.hosts.len() == 1).await;
    drop((elsewhere, third));
    cluster.stop(1).await;
    cluster.stop(2).await;

    let latch = latching(agent);
    let id = stop();
    let steps = stop_all(&mut cluster, 0, id).await;
    let last = steps.last().unwrap();
    assert!(!last.committed && last.hosts[0].state == StopState::Lifted, "{last:#?}");
    assert_eq!(latch.await.unwrap().1, id);

    // It survives this coordinator's own restart, and the others learn of it.
    cluster.stop(0).await;
    cluster.start(0).await;
    cluster.until(0, "remembers the stop", |s| s.outstanding == [id]).await;
    cluster.start(1).await;
    cluster.start(2).await;
    cluster.leader().await;
    for i in 0..3 {
        cluster.until(i, "has it in the log", |s| s.outstanding == [id] && s.confirmed).await;
    }
    let steps = stop_all(&mut cluster, 1, id).await;
    assert!(steps.last().unwrap().committed, "the same stop again is the same stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resume_right_after_the_receipts_waits_for_the_reports() {
    let mut cluster = Cluster::started(1).await;
    let mut agent = Agent::connect(&cluster, 0, "h1", "h1").await;
    cluster.until(0, "h1 is registered", |s| s.hosts.len() == 1).await;
    let id = stop();
    let answering = tokio::spawn(async move {
        let pick = |m| if let ToAgent::Stop { stop, .. } = m { Some(stop) } else { None };
        let stop = agent.expect(pick).await;
        agent.receive(stop).await;
        agent
    });
    let steps = stop_all(&mut cluster, 0, id).await;
    assert_eq!(steps.last().unwrap().hosts[0].state, StopState::Lifted);
    let mut agent = answering.await.unwrap();
    let resume = Request::Resume {
        command: command(),
        stops: BTreeSet::from([id]),
        despite: BTreeSet::new(),
    };
    let reporting = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        agent.report().await;
    };
    let (outcome, ()) = tokio::join!(cluster.write(&resume), reporting);
    assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resume_waits_for_every_host_or_for_a_person_who_gives_up_on_it() {
    let mut cluster = Cluster::started(1).await;
    let agent = Agent::connect(&cluster, 0, "h1", "h1").await;
    cluster.until(0, "h1 is registered", |s| s.hosts.len() == 1).await;
    drop(agent);
    cluster.until(0, "h1 is gone", |s| !s.hosts[0].connected).await;
    let id = stop();
    let steps = stop_all(&mut cluster, 0, id).await;
    assert!(steps.last().unwrap().committed);
    assert_ne!(steps.last().unwrap().hosts[0].state, StopState::Lifted);

    let resume = |id, despite: &[&str]| Request::Resume {
        command: command(),
        stops: BTreeSet::from([id]),
        despite: despite.iter().map(|n| n.parse().unwrap()).collect(),
    };
    let other = stop();
    for (named, word) in [(id, "h1".to_owned()), (other, format!("no stop {other}"))] {
        let refused = cluster.ask(0, &resume(named, &[])).await;
        let Response::Refused(refusal) = refused else { panic!("{refused:?}") };
        assert!(refusal.to_string().contains(&word), "`{word}`: {refusal}");
    }
    let done = cluster.ask(0, &resume(id, &["h1"])).await;
    assert!(matches!(done, Response::Outcome(Outcome::Done(_))), "{done:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_that_only_a_host_has_heard_reaches_the_log() {
    let mut cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let mut agent = Agent::connect(&cluster, leader, "h1", "h1").await;
    let id = stop();
    agent.fence.hear(id);
    // Its digest differs: it is told all stops, none, and answers with its own.
    agent.expect(|m| if let ToAgent::Stops(_) = m { Some(()) } else { None }).await;
    let own = squall_core::message::FromAgent::Stops(vec![id]);
    agent.channel.send(&own).await.unwrap();
    for i in 0..3 {
        cluster.until(i, "has it", |s| s.outstanding == [id]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_stops_of_one_agent_go_into_the_log_once_and_too_many_do_not() {
    let mut cluster = Cluster::started(3).await;
    let leader = cluster.leader().await;
    let mut agent = Agent::connect(&cluster, leader, "h1", "h1").await;
    cluster.until(leader, "knows it", |s| !s.hosts.is_empty()).await;
    let before = cluster.status(leader).await.applied.0;
    let many = |n: usize| FromAgent::Stops((0..n).map(|_| stop()).collect());

    agent.channel.send(&many(MAX_BROUGHT / 2)).await.unwrap();
    for i in 0..3 {
        cluster.until(i, "has them", |s| s.outstanding.len() == MAX_BROUGHT / 2).await;
    }
    let half = MAX_BROUGHT as u64 / 2;
    cluster.until(leader, "has them in the log", |s| s.applied.0 >= before + half).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let entries = cluster.status(leader).await.applied.0 - before;
    // Some twice, where a tick proposes again what is under way.
    assert!(entries < 3 * half, "{entries} entries for {half} stops");

    // Without being asked, and on a new stream too.
    agent.channel.send(&many(MAX_BROUGHT)).await.unwrap();
    let mut agent = Agent::connect_as(agent.run, &cluster, leader, "h1", "h1").await;
    agent.channel.send(&many(MAX_BROUGHT)).await.unwrap();
    agent.report().await;
    for i in 0..3 {
        cluster.until(i, "has what is allowed", |s| s.outstanding.len() == MAX_BROUGHT).await;
    }
    // What others say is heard.
    let mut other = Agent::connect(&cluster, leader, "h2", "h2").await;
    other.channel.send(&many(1)).await.unwrap();
    cluster.until(leader, "hears", |s| s.outstanding.len() == MAX_BROUGHT + 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_confirmed_status_right_after_a_resume_shows_it() {
    let mut cluster = Cluster::started(1).await;
    for _ in 0..30 {
        let id = stop();
        stop_all(&mut cluster, 0, id).await;
        let resume = Request::Resume {
            command: command(),
            stops: BTreeSet::from([id]),
            despite: BTreeSet::new(),
        };
        let done = cluster.ask(0, &resume).await;
        assert!(matches!(done, Response::Outcome(Outcome::Done(_))), "{done:?}");
        let status = cluster.status(0).await;
        assert!(status.confirmed && status.outstanding.is_empty(), "{status:#?}");
    }
}
