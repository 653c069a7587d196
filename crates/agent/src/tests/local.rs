//! The socket for a person on the host, and an agent without a cluster.

use squall_core::message::FaultReport;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;
use crate::local::{Client, Injected, SOCKET};

/// An agent without a cluster.
fn alone(home: &Home) -> JoinHandle<()> {
    let mut driver = assemble(home.recover(true), &me(), &home.run_dir(), home.program()).unwrap();
    driver.ends_when_idle = true;
    tokio::spawn(driver.run(std::future::pending()))
}

async fn connect(home: &Home) -> Client {
    Client::connect(&home.run_dir()).await.unwrap().expect("an agent listens")
}

async fn next(client: &mut Client) -> Injected {
    timeout(PATIENCE, client.next()).await.unwrap().unwrap()
}

async fn held(client: &mut Client) -> FaultReport {
    loop {
        match next(client).await {
            Injected::Changed(fault) if fault.phase == HostPhase::Held => return fault,
            Injected::Changed(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

async fn over(client: &mut Client) -> FaultReport {
    loop {
        match next(client).await {
            Injected::Changed(_) => {}
            Injected::Over(fault) => return fault,
            refused => panic!("{refused:?}"),
        }
    }
}

async fn ended(agent: JoinHandle<()>) {
    timeout(PATIENCE, agent).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_injects_and_lifts_and_the_agent_leaves_nothing() {
    let home = Home::new();
    let agent = alone(&home);
    // It waits for its first guest.
    sleep(Duration::from_millis(300)).await;
    let mut client = connect(&home).await;
    client.inject(burn(), 60_000).await.unwrap();
    let fault = held(&mut client).await;
    assert!(fault.achieved.is_some_and(|a| a.bit));
    assert_eq!(client.faults().await.unwrap().len(), 1);
    client.lift().await.unwrap();
    let fault = over(&mut client).await;
    assert_eq!(fault.phase, HostPhase::Clean);
    assert!(fault.ended.unwrap().residue.is_empty());
    drop(client);
    ended(agent).await;
    assert!(!home.run_dir().join(SOCKET).exists(), "the socket is gone");
    assert!(Client::connect(&home.run_dir()).await.unwrap().is_none());
    assert!(home.recover(true).host.is_idle(), "the journal is closed and free");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fault_outlives_many_leases_while_its_person_is_there_and_none_without() {
    let home = Home::new();
    let agent = alone(&home);
    let mut client = connect(&home).await;
    client.inject(burn(), 60_000).await.unwrap();
    let id = held(&mut client).await.id;
    let stays = timeout(Duration::from_millis(7_000), client.next()).await;
    assert!(stays.is_err(), "renewed for longer than a lease: {stays:?}");
    // The person is gone, by SIGKILL, say.
    drop(client);
    let mut other = connect(&home).await;
    let began = Instant::now();
    loop {
        let faults = other.faults().await.unwrap();
        if faults.iter().all(|f| f.phase == HostPhase::Clean) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{faults:?}");
        sleep(Duration::from_millis(20)).await;
    }
    assert!(began.elapsed() < Duration::from_secs(4), "at once, not by its lease");
    drop(other);
    ended(agent).await;
    assert!(home.recover(true).host.has_ended(&id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lift_all_answers_once_everything_is_gone() {
    let home = Home::new();
    let agent = alone(&home);
    let (mut a, mut b) = (connect(&home).await, connect(&home).await);
    a.inject(burn(), 60_000).await.unwrap();
    held(&mut a).await;
    let faults = timeout(PATIENCE, b.lift_all()).await.unwrap().unwrap();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].phase, HostPhase::Clean, "{faults:?}");
    over(&mut a).await;
    assert_eq!(b.lift_all().await.unwrap(), []);
    drop((a, b));
    ended(agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_allowed_is_refused_with_the_reason() {
    let home = Home::new();
    let agent = alone(&home);
    let mut client = connect(&home).await;
    client.inject(Fault::Cpu(Cpu::new(Some(0), 200)), 1_000).await.unwrap();
    match next(&mut client).await {
        Injected::Refused { reason, .. } => {
            let why = "load must be 1 to 100 percent of a processor, not 200";
            assert!(reason.contains(why), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    client.inject(burn(), 60_000).await.unwrap();
    held(&mut client).await;
    client.inject(burn(), 60_000).await.unwrap();
    match next(&mut client).await {
        Injected::Refused { reason, by_safety: false } => assert!(reason.contains("one fault")),
        other => panic!("{other:?}"),
    }
    client.lift().await.unwrap();
    over(&mut client).await;
    drop(client);
    ended(agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_host_refuses_its_own_people_too_and_names_the_stop() {
    let (world, home) = (World::new(), Home::new());
    let c1 = world.coordinator(1);
    let agent = Running::start(&home, &world.agent(), &[&c1]);
    let mut s1 = c1.take().await;
    let mut client = connect(&home).await;
    client.inject(burn(), 60_000).await.unwrap();
    match next(&mut client).await {
        Injected::Refused { reason, .. } => assert!(reason.contains("leader"), "{reason}"),
        other => panic!("not synced, and yet {other:?}"),
    }
    s1.sync().await;
    client.inject(burn(), 60_000).await.unwrap();
    held(&mut client).await;
    s1.say(&ToAgent::Stop { stop: stop_id(5), record: vec![1] }).await;
    assert_eq!(over(&mut client).await.phase, HostPhase::Clean);
    assert_eq!(s1.receipt().await.lifted, 1);
    client.inject(burn(), 60_000).await.unwrap();
    match next(&mut client).await {
        Injected::Refused { reason, by_safety: true } => {
            assert!(reason.contains(&stop_id(5).to_string()), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    agent.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nonsense_ends_its_own_connection_and_no_other() {
    let home = Home::new();
    let agent = alone(&home);
    let mut client = connect(&home).await;
    client.inject(burn(), 60_000).await.unwrap();
    held(&mut client).await;
    let long = vec![b'x'; 2 * 1024 * 1024];
    for nonsense in [&b"{\"dance\":1}\n"[..], b"\xff\xfe\n", &long] {
        let mut raw = UnixStream::connect(home.run_dir().join(SOCKET)).await.unwrap();
        let _ = raw.write_all(nonsense).await;
        let mut rest = Vec::new();
        // An end or a reset: closed in either case.
        let _ = timeout(PATIENCE, raw.read_to_end(&mut rest)).await.expect("it is closed");
        assert_eq!(rest, b"");
    }
    assert_eq!(client.faults().await.unwrap()[0].phase, HostPhase::Held);
    client.lift().await.unwrap();
    over(&mut client).await;
    drop(client);
    ended(agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn there_is_one_agent_a_journal_and_one_a_socket() {
    let (home, other) = (Home::new(), Home::new());
    let agent = alone(&home);
    let client = connect(&home).await;
    let locked = recover(&home.state(), me(), Policy::default(), true, Duration::ZERO).err();
    assert!(matches!(locked, Some(AgentError::Journal(_))), "{locked:?}");
    let taken = assemble(other.recover(true), &me(), &home.run_dir(), home.program()).err();
    let taken = taken.map(|e| e.to_string()).unwrap_or_default();
    assert!(taken.contains("another agent"), "{taken}");
    // It is still there for others.
    drop(connect(&home).await);
    drop(client);
    ended(agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_user_who_came_before_the_socket_was_closed_to_others_is_not_heard() {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can be another user");
        return;
    }
    let home = Home::new();
    let agent = alone(&home);
    let guest = connect(&home).await;
    assert_eq!(mode(&home.run_dir()), 0o700);
    for (path, mode) in [
        (home.run_dir().join(SOCKET), 0o666),
        (home.run_dir(), 0o755),
        (home.run_dir().parent().unwrap().to_owned(), 0o755),
    ] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let path = home.run_dir().join(SOCKET);
    // The thread's own user; it ends with it.
    let another = std::thread::spawn(move || {
        let nobody = rustix::process::Uid::from_raw(65_534);
        rustix::thread::set_thread_res_uid(nobody, nobody, nobody).unwrap();
        let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(PATIENCE / 2)).unwrap();
        stream.read(&mut [0]).unwrap()
    });
    assert_eq!(another.join().unwrap(), 0, "the connection is closed");
    drop(guest);
    ended(agent).await;
}

fn mode(path: &std::path::Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
