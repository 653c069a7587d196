//! A coordinator that dies without a word and comes back at the same port.

use std::time::Instant;

use tokio::runtime::Runtime;

use super::*;

/// Binds once the port is free.
async fn bind(identity: &Identity, at: SocketAddr) -> Endpoint {
    for _ in 0..200 {
        let options = EndpointOptions { role: identity.peer().role, bind: at, mark: None };
        if let Ok(endpoint) = Endpoint::bind(identity.clone(), options) {
            return endpoint;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{at} stays taken");
}

#[test]
fn one_that_is_back_after_a_kill_says_that_it_knows_nobody() {
    let authority = ClusterAuthority::create("storm").unwrap();
    let c1 = authority.issue(Role::Coordinator, "c1", 1).unwrap();
    let own = Runtime::new().unwrap();
    // Its tasks end with the runtime before they can send anything, as with SIGKILL.
    let killed = Runtime::new().unwrap();
    let endpoint = killed.block_on(bind(&c1, "127.0.0.1:0".parse().unwrap()));
    let address = endpoint.local_addr();
    killed.spawn(async move {
        let mut all = Vec::new();
        while let Some(connection) = endpoint.accept().await {
            all.push(connection);
        }
    });
    let near = own.block_on(async {
        let h1 = World::Quic.bind(&authority.issue(Role::Agent, "h1", 1).unwrap());
        h1.connect(address, Role::Coordinator, "c1").await.unwrap()
    });
    drop(killed);

    let began = Instant::now();
    let _back = own.block_on(bind(&c1, address));
    let why = own.block_on(async { tokio::time::timeout(PATIENCE, near.closed()).await });
    let why = why.expect("the idle time-out at the latest");
    // Within the keep-alive, not the idle time-out of five seconds.
    assert!(began.elapsed() < Duration::from_secs(4), "{why} after {:?}", began.elapsed());
    assert!(why.contains("reset"), "{why}");
}

const PATIENCE: Duration = Duration::from_secs(20);
