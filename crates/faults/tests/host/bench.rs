//! Two hosts, h1 (10.9.0.1, fd09::1) and h2 (10.9.0.2, fd09::2), and a holder on h1.

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use squall_core::fault::{Direction, Fault, Traffic};
use squall_core::hold::{Achieved, CONTROL_MARK, Failure, Hold, HolderReport, Protect};
use squall_core::ids::{ExperimentId, FaultId};
use squall_core::time::Time;
use squall_faults::clock;
use squall_faults::holder::{Holder, HolderEvent, Spawner};

type Job = Box<dyn FnOnce() + Send>;

/// A thread in a network namespace of its own; everything that it starts is there too.
pub struct TestHost {
    jobs: mpsc::Sender<Job>,
    pub ns: String,
}

impl TestHost {
    pub fn new() -> TestHost {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace needs root");
            let me = nix::unistd::gettid();
            tell.send(format!("/proc/{}/task/{me}/ns/net", std::process::id())).unwrap();
            for job in inbox {
                job();
            }
        });
        TestHost { jobs, ns: told.recv().unwrap() }
    }

    /// Runs `work` on this host and waits for it.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = mpsc::channel();
        self.jobs.send(Box::new(move || drop(tell.send(work())))).unwrap();
        told.recv().expect("the work on the host panicked")
    }

    /// Runs a program on this host and returns what it printed.
    pub fn sh(&self, words: &str) -> String {
        let words: Vec<String> = words.split_whitespace().map(str::to_owned).collect();
        self.run(move || {
            let out = Command::new(&words[0]).args(&words[1..]).output().unwrap();
            let text = String::from_utf8_lossy(&out.stdout).into_owned();
            assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
            text
        })
    }

    /// Everything of the kernel's that a fault could leave behind here.
    pub fn snapshot(&self) -> String {
        [
            "nft list ruleset",
            "ip -o link show",
            "ip -o addr show",
            "ip route show table all",
            "ip -6 route show table all",
            "ip rule show",
            "tc qdisc show",
        ]
        .map(|c| self.sh(c))
        .join("\n")
    }
}

pub struct Pair {
    pub h1: TestHost,
    pub h2: TestHost,
}

impl Pair {
    pub fn new() -> Pair {
        let pair = Pair { h1: TestHost::new(), h2: TestHost::new() };
        for host in [&pair.h1, &pair.h2] {
            host.sh("ip link set lo up");
        }
        pair.wire();
        until(5_000, || pair.udp("10.9.0.2", None) && pair.udp("fd09::2", None));
        pair
    }

    /// Joins the hosts by a pair of devices.
    pub fn wire(&self) {
        self.h1.sh(&format!("ip link add v1 type veth peer name v2 netns {}", self.h2.ns));
        for (host, n) in [(&self.h1, 1), (&self.h2, 2)] {
            // A link-local address would stay tentative for a second, and change the snapshot.
            host.sh(&format!("ip link set v{n} addrgenmode none"));
            host.sh(&format!("ip addr add 10.9.0.{n}/24 dev v{n}"));
            host.sh(&format!("ip addr add fd09::{n}/64 dev v{n} nodad"));
            host.sh(&format!("ip link set v{n} up"));
        }
    }

    /// A datagram from h1 to h2 and its echo, with this mark on both sockets.
    pub fn udp(&self, to: &str, mark: Option<u32>) -> bool {
        let address = to.parse().expect("an address");
        let (there, back) = self.ways(address, mark);
        there && back
    }

    /// Whether a datagram arrives at h2, and whether one arrives back at h1.
    pub fn ways(&self, far: std::net::IpAddr, mark: Option<u32>) -> (bool, bool) {
        let near: std::net::IpAddr =
            if far.is_ipv4() { "10.9.0.1" } else { "fd09::1" }.parse().unwrap();
        let (a, b) = (self.socket(&self.h1, near, mark), self.socket(&self.h2, far, mark));
        let (to_a, to_b) = (a.local_addr().unwrap(), b.local_addr().unwrap());
        (crosses(&a, to_b, &b), crosses(&b, to_a, &a))
    }

    /// Whether a datagram from h1 to this address of its own arrives, and whether its answer does.
    pub fn alone(&self, at: &str, mark: Option<u32>) -> bool {
        let at = at.parse().expect("an address");
        let (a, b) = (self.socket(&self.h1, at, mark), self.socket(&self.h1, at, mark));
        let (to_a, to_b) = (a.local_addr().unwrap(), b.local_addr().unwrap());
        crosses(&a, to_b, &b) && crosses(&b, to_a, &a)
    }

    /// Says again and again whether nothing passes either way; each answer takes some milliseconds.
    pub fn watch(&self) -> impl FnMut() -> bool {
        let [a, b] = [(&self.h1, "10.9.0.1"), (&self.h2, "10.9.0.2")].map(|(host, at)| {
            let socket = self.socket(host, at.parse().unwrap(), None);
            socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            socket
        });
        let (to_a, to_b) = (a.local_addr().unwrap(), b.local_addr().unwrap());
        move || {
            a.send_to(b"hello", to_b).unwrap();
            b.send_to(b"hello", to_a).unwrap();
            [&a, &b].iter().all(|socket| socket.recv_from(&mut [0; 16]).is_err())
        }
    }

    fn socket(&self, host: &TestHost, at: std::net::IpAddr, mark: Option<u32>) -> UdpSocket {
        host.run(move || {
            let socket = UdpSocket::bind((at, 0)).unwrap();
            if let Some(mark) = mark {
                nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::Mark, &mark)
                    .unwrap();
            }
            socket.set_read_timeout(Some(Duration::from_millis(150))).unwrap();
            socket
        })
    }
}

/// Whether one of three datagrams arrives.
fn crosses(from: &UdpSocket, to: SocketAddr, at: &UdpSocket) -> bool {
    let mut buffer = [0; 16];
    for _ in 0..3 {
        from.send_to(b"hello", to).unwrap();
        if at.recv_from(&mut buffer).is_ok() {
            return true;
        }
    }
    false
}

/// A holder on h1 and what it says.
pub struct Held {
    pub holder: Holder,
    pub events: mpsc::Receiver<HolderEvent>,
    pub spawner: Spawner,
}

/// An example of this crate, which cargo builds beside the tests.
pub fn example(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.join("examples").join(name)
}

/// Packets of these peers, all of them.
pub fn traffic(peers: &[&str], direction: Direction) -> Traffic {
    let peers = peers.iter().map(|p| p.parse().unwrap()).collect();
    Traffic { peers, direction, ports: vec![], protocol: None }
}

pub fn task(fault: Fault, number: u128, lease_ms: u64, length_ms: u64) -> Hold {
    let now = clock::now();
    let experiment = ExperimentId(uuid::Uuid::from_u128(number << 92));
    Hold {
        id: FaultId { experiment, fault: 0, host: "h1".parse().unwrap() },
        fault,
        lease_until: now.plus(lease_ms),
        deadline: now.plus(length_ms),
        protect: Protect {
            ports: vec![(squall_core::fault::Protocol::Tcp, 22)],
            ..Protect::default()
        },
    }
}

impl Held {
    pub fn start(host: &TestHost, hold: Hold) -> Held {
        let (tell, events) = mpsc::channel();
        let (spawner, holder) = host.run(move || {
            let spawner = Spawner::start(example("hold"), vec![]).unwrap();
            let holder = spawner.spawn(&hold.id, move |e| drop(tell.send(e))).unwrap();
            holder.begin(&hold).unwrap();
            (spawner, holder)
        });
        Held { holder, events, spawner }
    }

    /// Waits for the first report, which must be that it is held and bites.
    pub fn held(self) -> Held {
        self.achieved();
        self
    }

    /// The same, and what was measured.
    pub fn achieved(&self) -> Achieved {
        match self.next(5_000) {
            Some(HolderEvent::Report(HolderReport::Held(achieved))) => {
                assert!(achieved.bit, "{achieved:?}");
                achieved
            }
            other => panic!("not held: {other:?}"),
        }
    }

    /// Waits for the first report, which must be that it could not be held.
    pub fn failed(&self) -> Failure {
        match self.next(5_000) {
            Some(HolderEvent::Report(HolderReport::Failed(failure))) => failure,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// Lifts it and returns the last measurement.
    pub fn lift(&self) -> Achieved {
        self.holder.lift();
        let lifted = (0..50).find_map(|_| match self.next(3_000) {
            Some(HolderEvent::Report(HolderReport::Lifted(achieved, _))) => Some(achieved),
            Some(HolderEvent::Report(_)) => None,
            other => panic!("not lifted: {other:?}"),
        });
        self.gone(2_000);
        lifted.expect("it is lifted")
    }

    pub fn next(&self, ms: u64) -> Option<HolderEvent> {
        self.events.recv_timeout(Duration::from_millis(ms)).ok()
    }

    /// Waits for the end; returns how long it took.
    pub fn gone(&self, ms: u64) -> Duration {
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(ms) {
            if let Some(HolderEvent::Gone { .. }) = self.next(50) {
                return began.elapsed();
            }
        }
        panic!("the holder is still there after {ms} ms");
    }
}

pub fn mark() -> Option<u32> {
    Some(CONTROL_MARK)
}

/// How long until `done`, at most `ms` to the beginning of a look: looks take time of their own.
pub fn until(ms: u64, mut done: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    loop {
        let looked = began.elapsed();
        if done() {
            return looked;
        }
        assert!(looked < Duration::from_millis(ms), "not within {ms} ms");
        thread::sleep(Duration::from_millis(2));
    }
}

pub fn soon(ms: u64) -> Time {
    clock::now().plus(ms)
}
