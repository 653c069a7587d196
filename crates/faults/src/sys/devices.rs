//! Names of network devices, by rtnetlink. Source: `linux/rtnetlink.h`, `linux/if_link.h`.

use std::io;

use super::netlink::{Payload, Socket, attributes};

const NETLINK_ROUTE: u32 = 0;
const RTM_GETLINK: u16 = 18;
/// `IFLA_IFNAME`.
const NAME: u16 = 3;
/// Length of `struct ifinfomsg`.
const INFO: usize = 16;

/// Every device of the calling thread's network namespace.
///
/// # Errors
/// The kernel's.
pub fn names() -> io::Result<Vec<String>> {
    let links = Socket::open(NETLINK_ROUTE)?.dump(RTM_GETLINK, Payload::new(&[0; INFO]))?;
    let name = |payload: &[u8]| {
        let found = attributes(payload, INFO).find(|(kind, _)| *kind == NAME).map(|(_, d)| d)?;
        let text = found.strip_suffix(&[0]).unwrap_or(found);
        Some(String::from_utf8_lossy(text).into_owned())
    };
    Ok(links.iter().filter_map(|link| name(&link.payload)).collect())
}
