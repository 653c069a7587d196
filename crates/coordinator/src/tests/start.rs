use std::time::{Duration, Instant};

use squall_core::message::{Request, Response};
use squall_wire::{Channel, ClusterAuthority, Role};
use tokio::time::{sleep, timeout};

use super::probing::AllGood;
use super::{Cluster, PATIENCE};
use crate::{CoordinatorError, InvalidConfig, StoreError, run};

/// Runs one that is expected not to start.
async fn fails(config: crate::Config) -> CoordinatorError {
    let never = std::future::pending();
    let limit = Duration::from_secs(20);
    timeout(limit, run(config, Box::new(AllGood::default()), never))
        .await
        .expect("it ends")
        .unwrap_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_keeps_a_coordinator_from_starting_is_said() {
    let cluster = Cluster::new(1).await;
    let config = cluster.config(0);
    let dir = config.identity_dir.clone();

    let error = fails(config.clone()).await;
    assert!(matches!(error, CoordinatorError::Identity(_)), "no identity: {error}");

    let stranger = ClusterAuthority::create("other").unwrap();
    stranger.issue(Role::Agent, "c1", 1).unwrap().save(&dir).unwrap();
    let error = fails(config.clone()).await;
    assert!(matches!(error, CoordinatorError::WrongIdentity { .. }), "an agent's: {error}");

    cluster.identities[0].save(&dir).unwrap();
    let mut unlisted = config.clone();
    unlisted.coordinators.clear();
    let error = fails(unlisted).await;
    let expected = |e: &_| matches!(e, CoordinatorError::Config(InvalidConfig::NotListed { .. }));
    assert!(expected(&error), "{error}");

    let taken = std::net::UdpSocket::bind(config.listen).unwrap();
    let error = fails(config.clone()).await;
    assert!(matches!(error, CoordinatorError::Listen(_)), "port in use: {error}");
    drop(taken);

    let store = crate::store::Store::open(&config.state_dir);
    let error = fails(config.clone()).await;
    let locked = |e: &_| matches!(e, CoordinatorError::Store(StoreError::Locked(_)));
    assert!(locked(&error), "in use: {error}");
    drop(store);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_told_to_end_ends_and_can_be_started_again() {
    let cluster = Cluster::new(1).await;
    let config = cluster.config(0);
    cluster.identities[0].save(&config.identity_dir).unwrap();
    for life in 1..=2 {
        let mut served = None;
        let told = async {
            let connect = cluster.operator.connect(config.listen, Role::Coordinator, "c1");
            let connection = connect.await.unwrap();
            let answer = Channel::request(&connection, &Request::Status).await.unwrap();
            assert!(matches!(answer, Response::Status(_)), "life {life}: {answer:?}");
            served = Some(connection);
        };
        let ends = run(config.clone(), Box::new(AllGood::default()), told);
        timeout(PATIENCE, ends).await.expect("it ends").unwrap();
        let said = timeout(PATIENCE, served.expect("it served").closed()).await;
        assert!(said.is_ok_and(|why| !why.contains("timed out")), "it says farewell");
        // A process has closed its socket by then; see `Cluster::start`.
        let deadline = Instant::now() + PATIENCE;
        while std::net::UdpSocket::bind(config.listen).is_err() {
            assert!(Instant::now() < deadline, "the port is kept");
            sleep(Duration::from_millis(20)).await;
        }
    }
}
