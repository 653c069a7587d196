//! Links, addresses and neighbours of virtual hosts, by rtnetlink.
//!
//! Source: `linux/rtnetlink.h`, `linux/if_link.h`, `linux/if_addr.h`, `linux/neighbour.h`, `linux/veth.h`.

use std::io;
use std::net::IpAddr;

use rustix::process::Pid;

use super::netlink::{ACK, CREATE, EXCL, Message, Payload, Socket};

const NETLINK_ROUTE: u32 = 0;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWNEIGH: u16 = 28;
const IFF_UP: u32 = 1;
/// Attributes of a link: `IFLA_*`.
const LINK_ADDRESS: u16 = 1;
const LINK_NAME: u16 = 3;
const LINK_MASTER: u16 = 10;
const LINK_INFO: u16 = 18;
const LINK_NETNS_PID: u16 = 19;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;
const BRIDGE_MCAST_SNOOPING: u16 = 23;
/// Attributes of an address: `IFA_*`.
const ADDR_ADDRESS: u16 = 1;
const ADDR_LOCAL: u16 = 2;
const ADDR_FLAGS: u16 = 8;
/// No duplicate address detection: such an address can be used at once.
const NODAD: u32 = 0x02;
/// Attributes of a neighbour: `NDA_*`.
const NEIGHBOUR_ADDRESS: u16 = 1;
const NEIGHBOUR_MAC: u16 = 2;
/// Never asked for again, and never forgotten.
const NUD_PERMANENT: u16 = 0x80;
/// Messages of one datagram, at most.
const BATCH: usize = 32;

/// A hardware address.
pub type Mac = [u8; 6];

/// A pair of virtual Ethernet devices to be made.
#[derive(Clone, Debug)]
pub struct Veth {
    /// The near end, in this network namespace.
    pub name: String,
    /// Index of the bridge to which the near end belongs.
    pub bridge: u32,
    /// The far end's name.
    pub peer: String,
    /// The far end's hardware address.
    pub peer_mac: Mac,
    /// The process whose network namespace gets the far end.
    pub peer_pid: Pid,
}

/// The links of the network namespace in which this was opened.
#[derive(Debug)]
pub struct Links(Socket);

impl Links {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> io::Result<Links> {
        Ok(Links(Socket::open(NETLINK_ROUTE)?))
    }

    /// The index of a link.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn index(&self, name: &str) -> io::Result<u32> {
        Ok(rustix::net::netdevice::name_to_index(&self.0, name)?)
    }

    /// Makes a bridge and sets it up. It floods multicast: neighbour discovery must not wait for a
    /// querier that nobody runs.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_bridge(&mut self, name: &str, mac: Mac) -> io::Result<()> {
        let mut payload = link(0, true);
        payload.text(LINK_NAME, name).attr(LINK_ADDRESS, &mac).nest(LINK_INFO, |info| {
            info.text(INFO_KIND, "bridge");
            info.nest(INFO_DATA, |data| {
                data.attr(BRIDGE_MCAST_SNOOPING, &[0]);
            });
        });
        self.0.request(&[new(RTM_NEWLINK, payload)])
    }

    /// Makes pairs; the near ends are up and in their bridges when this returns.
    ///
    /// # Errors
    /// The kernel's refusal of the first that could not be made.
    pub fn add_veths(&mut self, veths: &[Veth]) -> io::Result<()> {
        let messages: Vec<Message> = veths.iter().map(|v| new(RTM_NEWLINK, veth(v))).collect();
        messages.chunks(BATCH).try_for_each(|chunk| self.0.request(chunk))
    }

    /// Sets a link up.
    ///
    /// # Errors
    /// The kernel's.
    pub fn up(&mut self, index: u32) -> io::Result<()> {
        let flags = ACK;
        self.0.request(&[Message { kind: RTM_NEWLINK, flags, payload: link(index, true) }])
    }

    /// Gives a link an address that can be used at once.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        let (family, octets) = octets(address);
        // `struct ifaddrmsg`: family, prefix, flags, scope (0: everywhere), index.
        let mut header = vec![family, prefix, 0, 0];
        header.extend(index.to_ne_bytes());
        let mut payload = Payload::new(&header);
        payload.attr(ADDR_LOCAL, &octets).attr(ADDR_ADDRESS, &octets).u32(ADDR_FLAGS, NODAD);
        self.0.request(&[new(RTM_NEWADDR, payload)])
    }

    /// Tells a link for good where its neighbours are, so that it asks for none of them. The kernel bounds
    /// those that it found out itself, over all network namespaces together (`gc_thresh3`, 1,024 mostly);
    /// these do not count.
    ///
    /// # Errors
    /// The kernel's.
    pub fn add_neighbours(&mut self, index: u32, all: &[(IpAddr, Mac)]) -> io::Result<()> {
        let neighbour = |(address, mac): &(IpAddr, Mac)| {
            let (family, octets) = octets(*address);
            // `struct ndmsg`: family, padding, index, state, flags, type.
            let mut header = vec![family, 0, 0, 0];
            header.extend(index.to_ne_bytes());
            header.extend(NUD_PERMANENT.to_ne_bytes());
            header.extend([0, 0]);
            let mut payload = Payload::new(&header);
            payload.attr(NEIGHBOUR_ADDRESS, &octets).attr(NEIGHBOUR_MAC, mac);
            new(RTM_NEWNEIGH, payload)
        };
        let messages: Vec<Message> = all.iter().map(neighbour).collect();
        messages.chunks(BATCH).try_for_each(|chunk| self.0.request(chunk))
    }
}

/// The family of an address, and its bytes.
fn octets(address: IpAddr) -> (u8, Vec<u8>) {
    match address {
        IpAddr::V4(a) => (libc::AF_INET as u8, a.octets().to_vec()),
        IpAddr::V6(a) => (libc::AF_INET6 as u8, a.octets().to_vec()),
    }
}

fn new(kind: u16, payload: Payload) -> Message {
    Message { kind, flags: ACK | CREATE | EXCL, payload }
}

/// `struct ifinfomsg`: family, padding, type, index, flags, which flags to change.
fn link(index: u32, up: bool) -> Payload {
    let flags = if up { IFF_UP } else { 0 };
    let mut header = vec![0; 4];
    header.extend(index.to_ne_bytes());
    header.extend(flags.to_ne_bytes());
    header.extend(flags.to_ne_bytes());
    Payload::new(&header)
}

fn veth(veth: &Veth) -> Payload {
    let mut peer = link(0, false);
    peer.text(LINK_NAME, &veth.peer)
        .attr(LINK_ADDRESS, &veth.peer_mac)
        .u32(LINK_NETNS_PID, veth.peer_pid.as_raw_nonzero().get().cast_unsigned());
    let mut payload = link(0, true);
    payload.text(LINK_NAME, &veth.name).u32(LINK_MASTER, veth.bridge).nest(LINK_INFO, |info| {
        info.text(INFO_KIND, "veth");
        info.nest(INFO_DATA, |data| {
            data.attr(VETH_PEER, peer.bytes());
        });
    });
    payload
}
