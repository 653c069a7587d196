//! What goes over the wires of a lab: datagrams overheard on a host, datagrams thrown at one, and HTTP, from
//! threads that have entered a host's network. No packet leaves the lab.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::{AddressFamily, Protocol, RecvFlags, SocketFlags, SocketType, recv, socket_with};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::fleet::Fleet;

/// Datagrams that are kept, at most.
const MAX_KEPT: usize = 4_096;
/// Between two looks whether to end, where nothing is heard.
const REST: Duration = Duration::from_millis(2);

/// Runs a piece of work in a host's network.
///
/// # Panics
/// The work does, or the host is down.
pub fn on_network<T: Send + 'static>(
    fleet: &Fleet,
    host: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> JoinHandle<T> {
    let network = File::open(fleet.init(host).join("ns/net")).expect("a host's network");
    std::thread::spawn(move || {
        // This thread alone; it ends with its work.
        move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))
            .expect("entered as root");
        work()
    })
}

/// Answers every HTTP request on a host's port with 200, for as long as the test lasts.
///
/// # Panics
/// The port is taken.
pub fn serve(fleet: &Fleet, host: &str, port: u16) {
    let (told, listening) = std::sync::mpsc::channel();
    on_network(fleet, host, move || {
        let listener = TcpListener::bind(("0.0.0.0", port)).expect("a port");
        told.send(()).expect("somebody waits");
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let _ = stream.read(&mut [0; 4_096]);
                let _ = stream.write_all(
                    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok",
                );
            });
        }
    });
    listening.recv().expect("it listens");
}

/// Overhears every datagram that reaches a host (or leaves it) for one UDP port.
#[derive(Debug)]
pub struct Ear {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Vec<Vec<u8>>>,
}

impl Ear {
    /// Begins to listen.
    ///
    /// # Panics
    /// The host is down, or this is not root.
    #[must_use]
    pub fn open(fleet: &Fleet, host: &str, port: u16) -> Ear {
        let over = Arc::new(AtomicBool::new(false));
        let (told, listening) = std::sync::mpsc::channel();
        let ends = over.clone();
        let thread = on_network(fleet, host, move || {
            let every = Protocol::from_raw(core::num::NonZeroU32::new(0x0300).expect("not zero"));
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let packets = socket_with(AddressFamily::PACKET, SocketType::DGRAM, flags, Some(every))
                .expect("a packet socket, as root");
            told.send(()).expect("somebody waits");
            let mut kept = Vec::new();
            let mut buffer = vec![0; 65_536];
            while !ends.load(Ordering::Relaxed) && kept.len() < MAX_KEPT {
                match recv(&packets, &mut buffer[..], RecvFlags::empty()) {
                    Ok((length, _)) => kept.extend(datagram(&buffer[..length], port)),
                    Err(_) => std::thread::sleep(REST),
                }
            }
            kept
        });
        listening.recv().expect("it listens");
        Ear { over, thread }
    }

    /// What was heard.
    ///
    /// # Panics
    /// Listening failed.
    #[must_use]
    pub fn close(self) -> Vec<Vec<u8>> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the ear")
    }
}

/// The payload of a whole IPv4 packet, where it is UDP for this port.
fn datagram(packet: &[u8], port: u16) -> Option<Vec<u8>> {
    let first = packet.first()?;
    let header = usize::from(first & 0xf) * 4;
    let udp = packet.get(header..)?;
    if first >> 4 != 4 || packet.get(9) != Some(&17) || udp.get(2..4)? != port.to_be_bytes() {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([*udp.get(4)?, *udp.get(5)?]));
    udp.get(8..length).map(<[u8]>::to_vec)
}

/// Throws datagrams at an address from a host, `gap` apart.
///
/// # Panics
/// The host is down.
pub fn throw(
    fleet: &Fleet,
    from: &str,
    to: SocketAddr,
    datagrams: impl IntoIterator<Item = Vec<u8>> + Send + 'static,
    gap: Duration,
) -> JoinHandle<()> {
    on_network(fleet, from, move || {
        let socket = UdpSocket::bind(("0.0.0.0", 0)).expect("a socket");
        for datagram in datagrams {
            // A full queue, or nobody who listens: both are the other side's business.
            let _ = socket.send_to(&datagram, to);
            std::thread::sleep(gap);
        }
    })
}
