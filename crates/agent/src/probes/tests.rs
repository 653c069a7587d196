//! Probes against servers that answer, stall and refuse.

use std::net::SocketAddr;
use std::time::Duration;

use squall_core::policy::Policy;
use squall_core::probe::{Expect, ProbeKind, Stage, Steadiness, Tally, Vantage};
use squall_faults::clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::*;

/// Long enough for a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(30);

/// Of a host that lets the programs of these tests run.
fn willing() -> Probes {
    let programs = ["/bin/sh", "/bin/true", "/bin/false", "/no/such/program"];
    let programs = programs.map(str::to_owned).to_vec();
    Probes::new(Policy { probe_programs: programs, ..Policy::default() })
}

fn order(kind: ProbeKind, every_ms: u64, timeout_ms: u64, stage: Stage) -> ProbeOrder {
    let probe = ProbeSpec {
        name: "health".to_owned(),
        from: Vantage::Host("h1".parse().unwrap()),
        kind,
        every_ms,
        timeout_ms,
        expect: Expect::default(),
    };
    ProbeOrder { experiment: ExperimentId(Uuid::from_u128(1)), probe, stage }
}

fn http(at: SocketAddr) -> ProbeKind {
    ProbeKind::Http { url: format!("http://{at}/health?deep=1#top"), status: 200 }
}

fn tally(probes: &mut Probes, stage: Stage) -> Tally {
    let reports = probes.reports(clock::now());
    let stages = reports.first().map(|r| r.stages.clone()).unwrap_or_default();
    stages.into_iter().find(|(s, _)| *s == stage).map(|(_, t)| t).unwrap_or_default()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// A server that answers each GET with `status` once it is told to go on.
async fn server(status: u16) -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (go, goes) = watch::channel(true);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut goes = goes.clone();
            tokio::spawn(async move {
                let mut request = vec![0; 4096];
                let n = stream.read(&mut request).await.unwrap_or(0);
                let request = String::from_utf8_lossy(&request[..n]).into_owned();
                assert!(request.starts_with("GET /health?deep=1 HTTP/1.1\r\n"), "{request}");
                assert!(request.contains(&format!("\r\nHost: {at}\r\n")), "{request}");
                if goes.wait_for(|go| *go).await.is_ok() {
                    // In pieces, with an interim answer first, and left open at its end.
                    for piece in [
                        "HTTP/1.1 102 Wait\r\n\r\nHTTP/1.1 ",
                        &status.to_string(),
                        " X\r\n",
                        "Content-Length: 3\r\n\r\nbo",
                        "d",
                    ] {
                        let _ = stream.write_all(piece.as_bytes()).await;
                        sleep(Duration::from_millis(1)).await;
                    }
                    sleep(Duration::from_secs(60)).await;
                }
            });
        }
    });
    (at, go)
}

#[tokio::test]
async fn a_stall_shows_in_full_as_latency_from_when_each_sample_was_due() {
    let (at, go) = server(200).await;
    let mut probes = willing();
    let order = |stage| order(http(at), 50, 20_000, stage);
    probes.set(clock::now(), &[order(Stage::Before)]);
    until("good samples", || tally(&mut probes, Stage::Before).ok >= 10).await;

    go.send_replace(false);
    let stalled = Instant::now();
    probes.set(clock::now(), &[order(Stage::During)]);
    sleep(Duration::from_millis(1_500)).await;
    let meanwhile = tally(&mut probes, Stage::During);
    let before = tally(&mut probes, Stage::Before);
    assert!(meanwhile.elapsed_ms >= 1_400, "{meanwhile:?}");
    assert_eq!(meanwhile.sent, 0, "nothing is decided yet: {meanwhile:?}");
    go.send_replace(true);
    let longest_us = u64::try_from(stalled.elapsed().as_micros()).unwrap();
    // Thirty were due meanwhile; a closed loop would have sent one.
    until("all are decided", || tally(&mut probes, Stage::During).ok >= 28).await;
    let during = tally(&mut probes, Stage::During);
    assert_eq!((during.failed, during.overrun), (0, 0), "{during:?}");
    assert!(during.max_us >= 1_300_000, "the first waited for all of it: {during:?}");
    assert!(during.p50_us >= 300_000, "half of them for half of it: {during:?}");
    assert!(during.max_us <= longest_us + 5_000_000, "{during:?}");
    // What was due before the switch counts there, and its time stands still.
    let later = tally(&mut probes, Stage::Before);
    assert_eq!((later.elapsed_ms, later.failed), (before.elapsed_ms, 0));
}

#[tokio::test]
async fn what_was_due_or_under_way_while_this_process_did_not_run_is_missed_and_no_failure() {
    let (at, go) = server(200).await;
    let mut probes = willing();
    probes.set(clock::now(), &[order(http(at), 50, 500, Stage::During)]);
    until("good samples", || tally(&mut probes, Stage::During).ok >= 3).await;
    // Some are under way. The runtime has one thread.
    go.send_replace(false);
    sleep(Duration::from_millis(200)).await;
    std::thread::sleep(Duration::from_secs(2));
    go.send_replace(true);
    until("later ones", || tally(&mut probes, Stage::During).missed >= 20).await;
    let before = tally(&mut probes, Stage::During);
    until("it goes on", || tally(&mut probes, Stage::During).ok >= before.ok + 5).await;
    let seen = tally(&mut probes, Stage::During);
    assert_eq!((seen.failed, seen.ok), (0, seen.sent), "{seen:?}");
    assert!(seen.max_us < 1_500_000, "{seen:?}");
}

#[tokio::test]
async fn a_black_hole_is_failures_over_what_was_due_and_never_steady() {
    let (at, go) = server(200).await;
    go.send_replace(false);
    let mut probes = willing();
    probes.set(clock::now(), &[order(http(at), 20, 100, Stage::During)]);
    // One each 20 ms, less those that may still hope.
    until("enough is due, and decided", || {
        let seen = tally(&mut probes, Stage::During);
        seen.elapsed_ms >= 2_000 && seen.sent + 10 >= seen.elapsed_ms / 20
    })
    .await;
    let seen = tally(&mut probes, Stage::During);
    assert!(seen.sent <= seen.elapsed_ms / 20 + 2, "{seen:?}");
    assert_eq!((seen.ok, seen.failed), (0, seen.sent));
    assert_eq!(seen.last_error, "no answer within 100 ms");
    assert_eq!(Expect::default().judge(&seen), Steadiness::Deviated);
}

#[tokio::test]
async fn what_finds_no_room_is_missed_and_counted() {
    let (at, go) = server(200).await;
    go.send_replace(false);
    let mut probes = willing();
    probes.set(clock::now(), &[order(http(at), 10, 60_000, Stage::During)]);
    until("overrun", || tally(&mut probes, Stage::During).overrun >= 20).await;
    let seen = tally(&mut probes, Stage::During);
    assert_eq!((seen.sent, seen.missed), (0, seen.overrun), "{seen:?}");
    assert!(seen.elapsed_ms >= 128 * 10, "128 had room: {seen:?}");
}

/// One sample of a server that says this, piece by piece, and closes, or stays where it ends with `…`.
async fn said(answer: &str) -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let kind = http(listener.local_addr().unwrap());
    let answer = answer.to_owned();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; 4096];
        let _ = stream.read(&mut request).await.unwrap();
        for piece in answer.trim_end_matches('…').split_inclusive('|') {
            stream.write_all(piece.trim_end_matches('|').as_bytes()).await.unwrap();
            stream.flush().await.unwrap();
            sleep(Duration::from_millis(2)).await;
        }
        if answer.ends_with('…') {
            sleep(Duration::from_secs(60)).await;
        }
    });
    let means = run::Means::new(Policy::default());
    let taken = sample::take(&kind, &means);
    let taken = tokio::time::timeout(Duration::from_millis(500), taken).await;
    serving.abort();
    taken.unwrap_or_else(|_| Err("no end".to_owned()))
}

#[tokio::test]
async fn an_answer_is_good_once_all_of_it_has_come() {
    let long = "x".repeat(3 << 20);
    for good in [
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbo|dy…",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n…",
        "HTTP/1.1 100 Go\r\n\r\n|HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4|\r\nbo|dy\r|\n0\r\n\r\n…",
        "HTTP/1.0 200 OK\r\n\r\nuntil it |closes",
        "HTTP/1.1 200\r\nConnection: close\r\n\r\n",
        &format!("HTTP/1.1 200 OK\r\nContent-Length: 3145728\r\n\r\n{long}"),
        &format!("HTTP/1.1 200 OK\r\n\r\n{long}…"),
    ] {
        assert_eq!(said(good).await, Ok(()), "{}", good.chars().take(120).collect::<String>());
    }
    for (bad, why) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n…", "no end"),
        ("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nsix by", "closed in the middle of its body"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n…", "no end"),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n",
            "closed in the middle of its body",
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nbody", "its body is badly chunked"),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "content-length `-1`"),
        ("HTTP/1.1 200 OK\r\nA: b", "closed in the middle of an answer"),
        ("", "closed without an answer"),
        ("SSH-2.0-x\r\n\r\n", "not HTTP"),
    ] {
        let error = said(bad).await.expect_err(bad);
        assert!(error.contains(why), "{bad}: {error}");
    }
}

#[tokio::test]
async fn wrong_answers_and_closed_ports_are_bad() {
    let (at, _go) = server(503).await;
    let mut probes = willing();
    probes.set(clock::now(), &[order(http(at), 20, 5_000, Stage::Before)]);
    until("answers", || tally(&mut probes, Stage::Before).failed >= 3).await;
    assert_eq!(tally(&mut probes, Stage::Before).last_error, "status 503, not 200");

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let kind = ProbeKind::Tcp { address: closed.local_addr().unwrap().to_string() };
    drop(closed);
    let mut probes = willing();
    probes.set(clock::now(), &[order(kind, 20, 5_000, Stage::Before)]);
    until("refusals", || tally(&mut probes, Stage::Before).failed >= 3).await;
    let seen = tally(&mut probes, Stage::Before);
    assert!(seen.ok == 0 && seen.last_error.contains("refused"), "{seen:?}");
}

#[tokio::test]
async fn a_connection_is_good_and_names_are_looked_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("localhost:{}", listener.local_addr().unwrap().port());
    let mut probes = willing();
    probes.set(clock::now(), &[order(ProbeKind::Tcp { address }, 20, 5_000, Stage::Before)]);
    until("connections", || tally(&mut probes, Stage::Before).ok >= 3).await;
}

fn program(argv: &[&str]) -> ProbeKind {
    ProbeKind::Exec { argv: argv.iter().map(|word| (*word).to_owned()).collect() }
}

/// For what leaves the number of its own process behind.
fn shell(script: &str) -> ProbeKind {
    program(&["/bin/sh", "-c", script])
}

#[tokio::test]
async fn a_program_is_judged_by_its_exit() {
    for (path, good, error) in [("/bin/true", true, ""), ("/bin/false", false, "exit 1")] {
        let mut probes = willing();
        probes.set(clock::now(), &[order(program(&[path]), 50, 5_000, Stage::Before)]);
        until("exits", || tally(&mut probes, Stage::Before).sent >= 3).await;
        let seen = tally(&mut probes, Stage::Before);
        assert_eq!((seen.ok == seen.sent, seen.last_error.as_str()), (good, error));
    }
    let missing = program(&["/no/such/program"]);
    let mut probes = willing();
    probes.set(clock::now(), &[order(missing, 50, 5_000, Stage::Before)]);
    until("failures", || tally(&mut probes, Stage::Before).failed >= 1).await;
}

#[tokio::test]
async fn a_program_that_the_host_does_not_list_is_not_run() {
    let dir = tempfile::tempdir().unwrap();
    let ran = dir.path().join("ran");
    let mut probes = Probes::new(Policy::default());
    let touch = program(&["/bin/touch", &ran.display().to_string()]);
    probes.set(clock::now(), &[order(touch, 50, 5_000, Stage::Before)]);
    until("refusals", || tally(&mut probes, Stage::Before).failed >= 3).await;
    let seen = tally(&mut probes, Stage::Before);
    assert_eq!(
        (seen.ok, seen.last_error.as_str()),
        (0, "policy: no probe may run `/bin/touch` on this host (see probe-programs)")
    );
    assert!(!ran.exists());
}

/// The thread that starts it stands for the agent's process: the kernel asks after the thread.
#[test]
fn a_program_dies_with_the_agent() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let script = format!("echo $$ > {}; exec sleep 600", pids.display());
    let started = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let pid = runtime.block_on(async {
            let mut probes = willing();
            probes.set(clock::now(), &[order(shell(&script), 60_000, 600_000, Stage::Before)]);
            let line = || std::fs::read_to_string(&pids).unwrap_or_default();
            until("the program runs", || line().ends_with('\n')).await;
            // Nobody cleans up behind an agent that was killed.
            std::mem::forget(probes);
            line().trim().to_owned()
        });
        assert!(is_alive(&pid));
        std::mem::forget(runtime);
        pid
    });
    let pid = started.join().unwrap();
    let began = std::time::Instant::now();
    while is_alive(&pid) {
        assert!(began.elapsed() < PATIENCE, "{pid} is left");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn is_alive(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or_default().starts_with('Z'))
}

#[tokio::test]
async fn a_program_that_takes_too_long_dies_with_its_children() {
    let dir = tempfile::tempdir().unwrap();
    let (pids, end) = (dir.path().join("pids"), dir.path().join("end"));
    let script = format!("sleep 600 & echo $$ $! >> {0}; wait", pids.display());
    for by_timeout in [true, false] {
        let mut probes = willing();
        let timeout_ms = if by_timeout { 3_000 } else { 600_000 };
        probes.set(clock::now(), &[order(shell(&script), 60_000, timeout_ms, Stage::Before)]);
        let line = || std::fs::read_to_string(&pids).unwrap_or_default();
        until("the program runs", || line().ends_with('\n')).await;
        let started: Vec<String> = line().split_whitespace().map(str::to_owned).collect();
        assert_eq!(started.len(), 2);
        if by_timeout {
            until("time-out", || tally(&mut probes, Stage::Before).failed == 1).await;
        } else {
            assert!(started.iter().all(|pid| is_alive(pid)));
            probes.set(clock::now(), &[]);
        }
        until("both are dead", || !started.iter().any(|pid| is_alive(pid))).await;
        std::fs::rename(&pids, &end).unwrap();
    }
}

#[tokio::test]
async fn tallies_outlive_their_probe_for_a_while_and_no_probe_its_leader() {
    let (at, _go) = server(200).await;
    let mut probes = willing();
    let began = clock::now();
    probes.set(began, &[order(http(at), 20, 5_000, Stage::After)]);
    until("samples", || tally(&mut probes, Stage::After).ok >= 5).await;

    // Nobody names it any more: it ends, and what it saw can still be read.
    let last = clock::now();
    probes.set(last, &[]);
    sleep(Duration::from_millis(100)).await;
    let seen = tally(&mut probes, Stage::After);
    sleep(Duration::from_millis(200)).await;
    let later = tally(&mut probes, Stage::After);
    assert_eq!((seen.ok, seen.sent), (later.ok, later.sent), "it samples no more");
    assert!(seen.ok >= 5);
    assert_eq!(probes.reports(last.plus(KEEP_MS + 1)).len(), 0, "and is forgotten");

    // Named again and then no leader at all.
    probes.set(last, &[order(http(at), 20, 5_000, Stage::After)]);
    until("samples", || tally(&mut probes, Stage::After).ok >= 1).await;
    assert_eq!(probes.reports(last.plus(LEASE_MS + 1)).len(), 1);
    sleep(Duration::from_millis(100)).await;
    let seen = tally(&mut probes, Stage::After);
    sleep(Duration::from_millis(200)).await;
    assert_eq!(seen.sent, tally(&mut probes, Stage::After).sent, "it samples no more");
}

#[tokio::test]
async fn a_host_runs_so_many_and_makes_room_for_new_ones_of_those_that_ended() {
    let (at, _go) = server(200).await;
    let mut probes = willing();
    let of = |n: usize| {
        let mut one = order(http(at), 1_000, 1_000, Stage::Before);
        one.probe.name = format!("p{n}");
        one
    };
    let all: Vec<ProbeOrder> = (0..MAX_PROBES + 5).map(of).collect();
    probes.set(clock::now(), &all);
    assert_eq!(probes.reports(clock::now()).len(), MAX_PROBES);
    probes.set(clock::now(), &all[MAX_PROBES..]);
    let names: Vec<String> = probes.reports(clock::now()).into_iter().map(|r| r.name).collect();
    assert_eq!(names.len(), MAX_PROBES);
    assert!(all[MAX_PROBES..].iter().all(|o| names.contains(&o.probe.name)), "{names:?}");
}
