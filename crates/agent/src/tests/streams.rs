//! Control streams: what survives the loss of coordinators, and what a bad one cannot do.

use squall_core::message::{PeerHost, ProbeOrder};
use squall_core::probe::{Expect, ProbeKind, ProbeSpec, Stage, Vantage};
use tokio::net::UdpSocket;

use super::*;

fn stop(n: u128) -> ToAgent {
    ToAgent::Stop { stop: stop_id(n), record: vec![1, 2, 3] }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_lifts_and_is_answered_to_every_coordinator() {
    let (world, home) = (World::new(), Home::new());
    let (c1, c2) = (world.coordinator(1), world.coordinator(2));
    let agent = Running::start(&home, &world.agent(), &[&c1, &c2]);
    let (mut s1, mut s2) = (c1.take().await, c2.take().await);
    assert_eq!(s1.hello.run, agent.run);
    s1.sync().await;
    let id = s1.inject(1, 30_000).await;
    s2.say(&stop(5)).await;
    for stream in [&mut s1, &mut s2] {
        let receipt = stream.receipt().await;
        assert_eq!(
            (receipt.stop, receipt.lifted, receipt.latched),
            (stop_id(5), 1, Latched::Durable)
        );
        assert_eq!(receipt.residue, [""; 0]);
    }
    let report = s1.report(|r| phase(r, &id) == Some(HostPhase::Clean)).await;
    assert!(!report.armed);
    agent.end().await;
    let next = home.recover(false);
    assert_eq!(outstanding(&next.host), [stop_id(5)], "the latch is on disk");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_reaches_a_coordinator_that_was_away_when_it_was_made() {
    let (world, home) = (World::new(), Home::new());
    let (c1, c2) = (world.coordinator(1), world.coordinator(2));
    let agent = Running::start(&home, &world.agent(), &[&c1, &c2]);
    let (mut s1, s2) = (c1.take().await, c2.take().await);
    s2.connection.close("away");
    drop(s2);
    s1.say(&stop(5)).await;
    // The one that took the stop dies.
    s1.report(|r| !r.armed).await;
    drop(s1);
    let mut s2 = c2.take().await;
    assert_eq!(s2.receipt().await.stop, stop_id(5));
    // And whoever asks again is answered again.
    s2.say(&stop(5)).await;
    assert_eq!(s2.receipt().await.stop, stop_id(5));
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_does_not_read_holds_up_nobody_and_is_connected_anew() {
    let (world, home) = (World::new(), Home::new());
    let (c1, c2) = (world.coordinator(1), world.coordinator(2));
    let agent = Running::start(&home, &world.agent(), &[&c1, &c2]);
    let (deaf, mut s2) = (c1.take().await, c2.take().await);
    let Stream { connection, channel, .. } = deaf;
    let (mut sender, unread) = channel.split();
    let many: Vec<StopId> = (1_000..2_000).map(stop_id).collect();
    for _ in 0..400 {
        // Each is answered with a list of all of them, which nobody takes.
        sender.send(&ToAgent::Stops(many.clone())).await.unwrap();
    }
    let began = Instant::now();
    s2.say(&stop(5)).await;
    while s2.receipt().await.stop != stop_id(5) {}
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    // The deaf one gets a new stream, and on it what it missed.
    let mut again = c1.take().await;
    while again.receipt().await.stop != stop_id(5) {}
    drop((connection, sender, unread));
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_ends_and_reports_go_out_under_a_flood_of_words() {
    let (world, home) = (World::new(), Home::new());
    let (c1, c2) = (world.coordinator(1), world.coordinator(2));
    let agent = Running::start(&home, &world.agent(), &[&c1, &c2]);
    let (mut s1, mut s2) = (c1.take().await, c2.take().await);
    s1.sync().await;
    let id = s1.inject(1, 1_500).await;
    let flood = tokio::spawn(async move {
        loop {
            let peers = ToAgent::Peers(vec![PeerHost {
                name: "h2".parse().unwrap(),
                address: std::net::Ipv4Addr::LOCALHOST.into(),
                gossip_port: 1,
                relay_port: 1,
                cohort: String::new(),
            }]);
            if s2.channel.send(&peers).await.is_err() {
                return;
            }
        }
    });
    let began = Instant::now();
    s1.report(|r| phase(r, &id) == Some(HostPhase::Lost)).await;
    assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    for _ in 0..3 {
        s1.report(|_| true).await; // the regular ones
    }
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
    flood.abort();
    agent.end().await;
}

fn true_each_50_ms() -> ProbeOrder {
    ProbeOrder {
        experiment: ExperimentId(Uuid::from_u128(1)),
        probe: ProbeSpec {
            name: "true".to_owned(),
            from: Vantage::Host(me()),
            kind: ProbeKind::Exec { argv: vec!["/bin/true".to_owned()] },
            every_ms: 50,
            timeout_ms: 5_000,
            expect: Expect::default(),
        },
        stage: Stage::Before,
    }
}

/// Samples of the one probe there is.
fn sent(report: &Report) -> Option<u64> {
    report.probes.first().and_then(|p| p.stages.first()).map(|(_, t)| t.sent)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_stopped_runs_no_probe() {
    let (world, home) = (World::new(), Home::new());
    let c1 = world.coordinator(1);
    let agent = Running::start(&home, &world.agent(), &[&c1]);
    let mut s1 = c1.take().await;
    s1.sync().await;
    let report = s1.report(|_| true).await;
    let mut orders = s1.orders(report.t);
    orders.probes.push(true_each_50_ms());
    s1.say(&ToAgent::Orders(orders.clone())).await;
    s1.report(|r| sent(r).is_some_and(|n| n >= 3)).await;
    s1.say(&ToAgent::Stops(vec![stop_id(1)])).await;
    let stopped = s1.report(|r| !r.armed).await;
    // The leader has not heard of the stop, or wants to see how the service recovers.
    s1.say(&ToAgent::Orders(orders)).await;
    // A sample that was under way may still be counted.
    let settled = s1.report(|r| r.t > stopped.t.plus(500)).await;
    let later = s1.report(|r| r.t > settled.t.plus(1_500)).await;
    assert!(sent(&settled) <= sent(&stopped).map(|n| n + 1), "{settled:?}");
    assert_eq!(sent(&settled), sent(&later));
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_not_obeyed_changes_no_probe() {
    let (world, home) = (World::new(), Home::new());
    let c1 = world.coordinator(1);
    let agent = Running::start(&home, &world.agent(), &[&c1]);
    let mut s1 = c1.take().await;
    s1.leadership.term = 5;
    s1.sync().await;
    let report = s1.report(|_| true).await;
    let mut orders = s1.orders(report.t);
    orders.probes.push(true_each_50_ms());
    s1.say(&ToAgent::Orders(orders.clone())).await;
    let known = s1.report(|r| sent(r).is_some_and(|n| n >= 3)).await;
    // Samples count for a while after an order: once more, so that there is time to look.
    orders.echo = known.t;
    s1.say(&ToAgent::Orders(orders)).await;
    // An earlier leader, and one that speaks to an earlier life, want none.
    for (term, run) in [(4, agent.run), (5, AgentRun(Uuid::from_u128(1)))] {
        let mut stale = s1.orders(known.t);
        stale.leadership.term = term;
        stale.run = run;
        s1.say(&ToAgent::Orders(stale)).await;
    }
    let more = sent(&known).unwrap() + 20;
    s1.report(|r| sent(r).is_some_and(|n| n >= more)).await;
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_is_told_to_end_lifts_first_and_says_so() {
    let (world, home) = (World::new(), Home::new());
    let c1 = world.coordinator(1);
    let agent = Running::start(&home, &world.agent(), &[&c1]);
    let mut s1 = c1.take().await;
    s1.sync().await;
    let id = s1.inject(1, 30_000).await;
    let ending = tokio::spawn(agent.end());
    let last = s1.report(|r| phase(r, &id) == Some(HostPhase::Lost)).await;
    let ended = last.faults[0].ended.clone().unwrap();
    assert!(ended.residue.is_empty() && ended.achieved.is_some_and(|a| a.bit), "{last:?}");
    // It says so until a leader has taken note, and then ends the stream in order.
    let again = s1.report(|r| phase(r, &id) == Some(HostPhase::Lost)).await;
    let mut orders = s1.orders(again.t);
    orders.acknowledged.push(id.clone());
    s1.say(&ToAgent::Orders(orders)).await;
    while s1.channel.recv::<FromAgent>().await.unwrap().is_some() {}
    drop(s1);
    ending.await.unwrap();
    let next = home.recover(false);
    assert!(next.host.has_ended(&id) && next.host.is_idle(), "its end is on disk");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coordinators_come_and_go() {
    let (world, home) = (World::new(), Home::new());
    let c1 = world.coordinator(1);
    let agent = Running::start(&home, &world.agent(), &[&c1]);
    for _ in 0..3 {
        let mut stream = c1.take().await;
        assert_eq!(stream.hello.run, agent.run);
        stream.report(|_| true).await;
        stream.connection.close("gone");
    }
    c1.endpoint.close();
    sleep(Duration::from_millis(300)).await;
    let c1 = world.coordinator(1);
    c1.take().await.report(|_| true).await;
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relayed_stop_is_a_stop_and_is_relayed_on_as_soon_as_there_is_a_record() {
    let (world, home) = (World::new(), Home::new());
    let c1 = world.coordinator(1);
    let signer = world.authority.issue(Role::Coordinator, "c1", 1).unwrap();
    let (agent, relay) = Running::start_near(&home, &world, &[&c1]);
    let mut s1 = c1.take().await;
    s1.sync().await;
    let other = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let at = other.local_addr().unwrap();
    let peer = PeerHost {
        name: "h2".parse().unwrap(),
        address: at.ip(),
        gossip_port: at.port(),
        relay_port: at.port(),
        cohort: "a".to_owned(),
    };
    s1.say(&ToAgent::Peers(vec![peer])).await;
    let report = s1.report(|r| r.row.as_ref().is_some_and(|row| !row.heard.is_empty())).await;
    let row = report.row.unwrap();
    assert_eq!((row.cohort.as_str(), row.heard[0].1), ("a", None));
    assert_eq!(row.authority.map(|(leadership, _)| leadership), Some(s1.leadership));

    // Heard from another host alone: it lifts, and goes on to the next.
    let id = s1.inject(1, 30_000).await;
    let first = signer.sign_stop(stop_id(1));
    other.send_to(&first, relay).await.unwrap();
    assert_eq!(s1.receipt().await.stop, stop_id(1));
    s1.report(|r| phase(r, &id) == Some(HostPhase::Clean)).await;
    relayed(&other, &first).await;

    // Known by its id alone it cannot be relayed; with its record it is.
    s1.say(&ToAgent::Stops(vec![stop_id(2)])).await;
    assert_eq!(s1.receipt().await.stop, stop_id(2));
    let second = signer.sign_stop(stop_id(2));
    s1.say(&ToAgent::Stop { stop: stop_id(2), record: second.clone() }).await;
    relayed(&other, &second).await;

    // Of one that was resumed nobody is told, however often somebody repeats it.
    let old = signer.sign_stop(stop_id(3));
    let resume = Resume { index: LogIndex(5), cleared: [stop_id(3)].into() };
    s1.sync_with(vec![stop_id(3)], vec![resume]).await;
    s1.report(|r| r.newest_resume == LogIndex(5)).await;
    other.send_to(&old, relay).await.unwrap();
    let third = signer.sign_stop(stop_id(4));
    other.send_to(&third, relay).await.unwrap();
    assert!(!seen_before(&other, &old, &third).await);
    agent.end().await;
}

/// Whether `early` arrives before `late` does.
async fn seen_before(other: &UdpSocket, early: &[u8], late: &[u8]) -> bool {
    let mut buffer = [0; 2048];
    loop {
        let arrives = timeout(PATIENCE, other.recv_from(&mut buffer)).await;
        let (length, _) = arrives.expect("one of them arrives").unwrap();
        if buffer[..length] == *early || buffer[..length] == *late {
            return buffer[..length] == *early;
        }
    }
}

/// Waits until `record` arrives, among gossip that is none of our business.
async fn relayed(other: &UdpSocket, record: &[u8]) {
    let mut buffer = [0; 2048];
    let arrives = async {
        loop {
            let (length, _) = other.recv_from(&mut buffer).await.unwrap();
            if buffer[..length] == *record {
                return;
            }
        }
    };
    timeout(PATIENCE, arrives).await.expect("the stop is relayed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leaders_word_on_who_the_others_are_goes_first() {
    let (world, home) = (World::new(), Home::new());
    let (c1, c2) = (world.coordinator(1), world.coordinator(2));
    let (agent, _) = Running::start_near(&home, &world, &[&c1, &c2]);
    let (mut s1, mut s2) = (c1.take().await, c2.take().await);
    s1.sync().await;
    let peer = PeerHost {
        name: "h2".parse().unwrap(),
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        gossip_port: 9,
        relay_port: 9,
        cohort: "a".to_owned(),
    };
    let watched = |r: &Report| r.row.as_ref().map(|row| row.heard.len());
    s1.say(&ToAgent::Peers(vec![peer.clone()])).await;
    s1.report(|r| watched(r) == Some(1)).await;
    // One that has just come back and knows of nobody yet.
    s2.say(&ToAgent::Peers(Vec::new())).await;
    for _ in 0..3 {
        assert_eq!(watched(&s1.report(|_| true).await), Some(1));
    }
    // It leads now.
    s2.leadership.term = 2;
    s2.sync().await;
    s2.report(|r| watched(r) == Some(0)).await;
    agent.end().await;
}
