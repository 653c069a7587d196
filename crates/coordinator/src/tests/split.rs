//! Two authorities at once, as the hosts see them.

use squall_core::experiment::{EndReason, IncidentKind, Severity, Verdict};
use squall_core::ids::{ExperimentId, Leadership, NodeId};
use squall_core::message::{Request, Response, Status, ToAgent};
use squall_core::registry::Outcome;
use squall_core::views::Row;
use tokio::time::{Instant, sleep};

use super::{Cluster, PATIENCE, command};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_split_brain_that_a_host_shows_rolls_back_what_runs_and_is_left_to_a_person_where_it_stands()
 {
    let mut cluster = Cluster::started(3).await;
    let (leader, mut h1, mut h2) = cluster.two_hosts().await;
    let id = ExperimentId(uuid::Uuid::from_u128(1));
    let file = r#"{
        "name": "burn", "targets": {"hosts": ["h1"]}, "faults": [{"cpu": {"load": "1 %"}}], "duration": "1m",
        "safety": {"max-blast-radius": 0.5, "lease": "30s"}
    }"#;
    let answer =
        cluster.write(&Request::Submit { command: command(), id, file: file.into() }).await;
    assert!(matches!(answer, Outcome::Done(_)), "{answer:?}");
    let begins = |m| matches!(m, ToAgent::Orders(orders) if !orders.apply.is_empty()).then_some(());
    h1.expect(begins).await;
    let Response::Experiment(shown) = cluster.ask(leader, &Request::Show(id)).await else {
        panic!()
    };
    assert_eq!((&shown.record.ending, shown.record.incidents.len()), (&None, 0), "{shown:?}");

    let deadline = Instant::now() + 2 * PATIENCE;
    let record = loop {
        // h2 obeys somebody else, in the very term of the one who leads.
        let Status { term, leader: Some(leads), .. } = cluster.status(leader).await else {
            continue;
        };
        let other = Leadership { term, node: NodeId(leads.0 % 3 + 1) };
        h2.row = Some(Row { authority: Some((other, 0)), ..Row::default() });
        tokio::join!(h1.report(), h2.report());
        let Response::Experiment(shown) = cluster.ask(leader, &Request::Show(id)).await else {
            panic!()
        };
        if shown.record.verdict.is_some() {
            break shown.record;
        }
        assert!(Instant::now() < deadline, "{shown:?}");
        sleep(std::time::Duration::from_millis(300)).await;
    };
    let Some(EndReason::SplitBrain(evidence)) = &record.ending else { panic!("{record:?}") };
    assert!(evidence.contains("h2 obey"), "{evidence}");
    assert_eq!(record.verdict, Some(Verdict::Broken), "{record:?}");
    // h2 went on like that after h1's fault was gone, which is left to a person.
    assert!(record.incidents.iter().all(|i| i.severity == Severity::P1), "{record:?}");
    let by_hand: Vec<bool> =
        record.incidents.iter().map(|i| i.kind == IncidentKind::ManualIntervention).collect();
    assert_eq!(by_hand, [false, true], "{record:?}");
    let told =
        |why: &String| why.starts_with("manual intervention required") && why.contains("h2 obey");
    assert!(record.reasons.iter().any(told), "{record:?}");
}
