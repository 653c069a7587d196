//! Packets made by hand, to see a fault bite.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use squall_core::fault::Protocol;

/// A packet to send.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// Whom it claims to be from; need not be one of our own addresses.
    pub from: IpAddr,
    /// Where it goes; of the same family.
    pub to: IpAddr,
    /// UDP with eight bytes of zeroes, or a TCP SYN; the checksum is wrong, so that nobody takes it.
    pub protocol: Protocol,
    /// Both its ports.
    pub port: u16,
}

/// Sends a packet with a header of our own.
///
/// # Errors
/// The kernel's: no route, or a drop that it tells the sender of.
pub fn send(packet: &Packet) -> io::Result<()> {
    let domain = if packet.to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: plain system call; the descriptor is owned from here on.
    let fd = unsafe {
        let fd = libc::socket(domain, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::IPPROTO_RAW);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(fd)
    };
    let bytes = bytes(packet);
    let sent = match packet.to {
        IpAddr::V4(to) => {
            let address = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: 0,
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(to.octets()) },
                sin_zero: [0; 8],
            };
            send_to(&fd, &bytes, &address)
        }
        IpAddr::V6(to) => {
            let address = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: 0,
                sin6_flowinfo: 0,
                sin6_addr: libc::in6_addr { s6_addr: to.octets() },
                sin6_scope_id: 0,
            };
            send_to(&fd, &bytes, &address)
        }
    };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn send_to<A>(fd: &OwnedFd, bytes: &[u8], address: &A) -> isize {
    // SAFETY: buffer and address live through the call, with their true lengths; `A` is one of the
    // socket address structures.
    unsafe {
        libc::sendto(
            fd.as_raw_fd(),
            bytes.as_ptr().cast(),
            bytes.len(),
            libc::MSG_DONTWAIT,
            (&raw const *address).cast(),
            size_of::<A>() as libc::socklen_t,
        )
    }
}

/// Puts a checksum at `at` that is not this transport header's (RFC 768, RFC 9293), and not zero, which
/// would say that there is none.
fn spoil(transport: &mut [u8], at: usize, number: u8, packet: &Packet) {
    let octets = |address: IpAddr| match address {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    };
    let (from, to) = (octets(packet.from), octets(packet.to));
    let tail = [0, number, 0, transport.len() as u8];
    let all = from.iter().chain(&to).chain(&tail).chain(transport.iter()).copied();
    let bytes: Vec<u8> = all.collect();
    let words = bytes.chunks(2).map(|w| u32::from(w[0]) << 8 | u32::from(*w.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let right = !(sum as u16);
    let wrong = if right == 0x5555 { 0xaaaa } else { right ^ 0x5555 };
    transport[at..at + 2].copy_from_slice(&wrong.to_be_bytes());
}

/// The packet with its network header. Nothing but a fault's rules is to read it: its transport checksum is
/// wrong, so that whoever gets it drops it. All else is right, or a firewall could drop it before the rules.
fn bytes(packet: &Packet) -> Vec<u8> {
    let port = packet.port.to_be_bytes();
    let (number, transport) = match packet.protocol {
        Protocol::Udp => {
            let mut header = [port, port, 16u16.to_be_bytes(), [0, 0]].concat();
            header.extend([0; 8]);
            spoil(&mut header, 6, 17, packet);
            (17u8, header)
        }
        Protocol::Tcp => {
            let mut header = [port, port].concat();
            header.extend([0; 8]);
            // Data offset of five words; SYN alone: anything else is invalid to whoever tracks connections.
            header.extend([0x50, 0x02, 0, 0, 0, 0, 0, 0]);
            spoil(&mut header, 16, 6, packet);
            (6u8, header)
        }
    };
    let len = transport.len() as u16;
    let mut bytes = match (packet.from, packet.to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let total = (20 + len).to_be_bytes();
            let mut header = vec![0x45, 0, total[0], total[1], 0, 0, 0, 0, 64, number, 0, 0];
            header.extend(from.octets());
            header.extend(to.octets());
            header
        }
        (from, to) => {
            let octets = |address: IpAddr| match address {
                IpAddr::V6(a) => a.octets(),
                IpAddr::V4(a) => a.to_ipv6_mapped().octets(),
            };
            let length = len.to_be_bytes();
            let mut header = vec![0x60, 0, 0, 0, length[0], length[1], number, 64];
            header.extend(octets(from));
            header.extend(octets(to));
            header
        }
    };
    bytes.extend(transport);
    bytes
}
