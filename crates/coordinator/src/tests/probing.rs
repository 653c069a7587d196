//! Probes that coordinators run.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use squall_core::ids::ExperimentId;
use squall_core::message::{ProbeOrder, ProbeReport, Request, Response, ToAgent};
use squall_core::probe::{Prober, Stage, Tally};
use squall_core::registry::Outcome;
use squall_core::time::Time;
use tokio::time::{Instant, sleep};

use super::stopping::{latching, stop, stop_all};
use super::{Cluster, PATIENCE, command};

/// A prober that notes what is wanted of it, and has seen nothing but good.
#[derive(Clone, Default)]
pub(super) struct AllGood(Arc<Mutex<Wanted>>);

#[derive(Default)]
struct Wanted {
    orders: Vec<ProbeOrder>,
    /// As of when.
    as_of: Option<Time>,
    /// How often that was said.
    times: u64,
}

impl AllGood {
    /// To which stages samples count now.
    fn stages(&self) -> Vec<Stage> {
        self.0.lock().unwrap().orders.iter().map(|order| order.stage).collect()
    }
}

impl Prober for AllGood {
    fn set(&mut self, as_of: Time, orders: &[ProbeOrder]) {
        let mut wanted = self.0.lock().unwrap();
        wanted.orders = orders.to_vec();
        wanted.as_of = Some(as_of);
        wanted.times += 1;
    }

    fn reports(&mut self, _now: Time) -> Vec<ProbeReport> {
        let tally = Tally { sent: 100, ok: 100, elapsed_ms: 10_000, ..Tally::default() };
        let report = |order: &ProbeOrder| ProbeReport {
            experiment: order.experiment,
            name: order.probe.name.clone(),
            stages: vec![(order.stage, tally.clone())],
        };
        self.0.lock().unwrap().orders.iter().map(report).collect()
    }
}

impl Cluster {
    /// Waits until coordinator `i` wants its probes to count to these stages.
    async fn until_probing(&self, i: usize, wanted: &[Stage]) {
        let deadline = Instant::now() + PATIENCE;
        while self.probers[i].stages() != wanted {
            assert!(Instant::now() < deadline, "{i}: {:?}", self.probers[i].stages());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until coordinator `i` leaves its probes to themselves.
    async fn until_told_nothing(&self, i: usize) {
        let times = || self.probers[i].0.lock().unwrap().times;
        let deadline = Instant::now() + PATIENCE;
        let mut before = u64::MAX;
        while std::mem::replace(&mut before, times()) != times() {
            assert!(Instant::now() < deadline, "{i} was told {} times", times());
            sleep(Duration::from_secs(2)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_coordinator_runs_a_probe_of_theirs_until_a_stop_and_the_leader_judges_by_its_own() {
    let mut cluster = Cluster::started(3).await;
    let (leader, mut h1, h2) = cluster.two_hosts().await;
    let h2 = latching(h2);
    let id = ExperimentId(uuid::Uuid::from_u128(1));
    let file = r#"{
        "name": "burn", "targets": {"hosts": ["h1"]}, "faults": [{"cpu": {"load": "1 %"}}], "duration": "1m",
        "steady-state": [{"name": "p", "tcp": {"address": "h2:1"}, "from": "coordinator"}],
        "baseline": "5s", "safety": {"max-blast-radius": 0.5}
    }"#;
    let submit = Request::Submit { command: command(), id, file: file.into() };
    let begins = |m| matches!(m, ToAgent::Orders(orders) if !orders.apply.is_empty()).then_some(());
    let answer = cluster.write(&submit).await;
    assert!(matches!(answer, Outcome::Done(_)), "{answer:?}");
    // Nothing is begun before the leader's own samples were steady.
    h1.expect(begins).await;
    let h1 = latching(h1);

    for i in 0..3 {
        cluster.until_probing(i, &[Stage::During]).await;
        let Response::Experiment(shown) = cluster.ask(i, &Request::Show(id)).await else {
            panic!("not shown")
        };
        let seen: Vec<u64> = shown.probes.iter().map(|p| p.stages[0].1.sent).collect();
        assert_eq!(seen, [100], "{:?}", shown.probes);
    }
    // What one that is cut off has applied may be long over.
    for i in [(leader + 1) % 3, leader] {
        cluster.isolate(i, true);
        let cut = crate::clock::now();
        cluster.until_told_nothing(i).await;
        let as_of = cluster.probers[i].0.lock().unwrap().as_of;
        assert!(as_of.is_some_and(|at| at <= cut), "{as_of:?} was after {cut:?}");
        assert_eq!(cluster.probers[i].stages(), [Stage::During], "nobody has ended them");
        cluster.isolate(i, i == leader);
    }
    let _ = stop_all(&mut cluster, leader, stop()).await;
    cluster.until_probing(leader, &[]).await;
    cluster.isolate(leader, false);
    for i in 0..3 {
        cluster.until_probing(i, &[]).await;
    }
    let _ = tokio::join!(h1, h2);
}
