//! Something to hurt: `victim THREADS [WORDS…]`.
//!
//! The first line that it prints holds the TCP and the UDP port of 127.0.0.1 that it listens at.
//! After that each thread does a little work some hundred times a second, and the first prints a
//! byte each time. With the word `deaf` it does not hear SIGTERM; with `open-PATH` one thread more
//! opens that file.

use std::io::{self, Write};
use std::net::{TcpListener, UdpSocket};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.iter().any(|word| word == "deaf") {
        let mut set = SigSet::empty();
        set.add(Signal::SIGTERM);
        set.thread_block().expect("a mask of our own");
    }
    if args.iter().any(|word| word == "squall") {
        rustix::thread::set_name(c"squall-other").expect("a name of our own");
    }
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let at = |address: io::Result<std::net::SocketAddr>| address.expect("it is bound").port();
    println!("{} {}", at(tcp.local_addr()), at(udp.local_addr()));
    if let Some(path) = args.iter().find_map(|word| word.strip_prefix("open-")) {
        let path = path.to_owned();
        std::thread::spawn(|| std::fs::File::open(path));
    }
    let threads: usize = args.get(1).and_then(|n| n.parse().ok()).unwrap_or(1);
    for _ in 1..threads {
        std::thread::spawn(|| {
            loop {
                work();
            }
        });
    }
    loop {
        work();
        // Whoever started us is gone when nobody reads.
        if io::stdout().write_all(b"\n").and_then(|()| io::stdout().flush()).is_err() {
            return;
        }
    }
}

fn work() {
    std::hint::black_box((0..2_000_u64).fold(0, |sum, n| sum ^ n));
    std::thread::sleep(Duration::from_millis(3));
}
