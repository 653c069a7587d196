//! Network devices and what is set up around them, by rtnetlink. Source: `linux/rtnetlink.h`,
//! `linux/if_link.h`, `linux/if_addr.h`, `linux/fib_rules.h`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::netlink::{Answer, MAX_OBJECTS, Payload, Socket, attributes};

const NETLINK_ROUTE: u32 = 0;
const RTM_GETLINK: u16 = 18;
const RTM_GETADDR: u16 = 22;
const RTM_GETROUTE: u16 = 26;
const RTM_GETRULE: u16 = 34;
const RTM_GETQDISC: u16 = 38;
/// `IFLA_IFNAME`.
const NAME: u16 = 3;
/// `IFLA_MTU`.
const MTU: u16 = 4;
/// `IFA_ADDRESS`: the far end's own where a device has one far end.
const ADDRESSED: u16 = 1;
/// `IFA_LOCAL`; left out where it is the same.
const LOCAL: u16 = 2;
/// Lengths of `struct ifinfomsg`, `ifaddrmsg`, `rtmsg` (and `fib_rule_hdr`), `tcmsg`.
const INFO: usize = 16;
const ADDRESS: usize = 8;
const ROUTE: usize = 12;
const QDISC: usize = 20;
/// Routes that are compared; a host that carries more has them from a routing daemon, and they
/// change all the time.
const MAX_ROUTES: usize = 4_096;

fn links(socket: &mut Socket) -> io::Result<Vec<Answer>> {
    socket.dump(RTM_GETLINK, Payload::new(&[0; INFO]), MAX_OBJECTS)
}

fn part(payload: &[u8], header: usize, kind: u16) -> Option<&[u8]> {
    attributes(payload, header).find(|(k, _)| *k == kind).map(|(_, data)| data)
}

fn text(payload: &[u8], header: usize, kind: u16) -> Option<String> {
    let data = part(payload, header, kind)?;
    Some(String::from_utf8_lossy(data.strip_suffix(&[0]).unwrap_or(data)).into_owned())
}

fn number(payload: &[u8], header: usize, kind: u16) -> Option<u32> {
    part(payload, header, kind)?.first_chunk::<4>().map(|b| u32::from_ne_bytes(*b))
}

fn address(payload: &[u8], header: usize, kind: u16) -> Option<IpAddr> {
    let data = part(payload, header, kind)?;
    let v4 = <[u8; 4]>::try_from(data).ok().map(|b| IpAddr::from(Ipv4Addr::from(b)));
    v4.or_else(|| <[u8; 16]>::try_from(data).ok().map(|b| IpAddr::from(Ipv6Addr::from(b))))
}

fn word(payload: &[u8], at: usize) -> u32 {
    let bytes = payload.get(at..).and_then(|p| p.first_chunk::<4>());
    bytes.map_or(0, |b| u32::from_ne_bytes(*b))
}

fn byte(payload: &[u8], at: usize) -> u8 {
    payload.get(at).copied().unwrap_or(0)
}

/// Every device of the calling thread's network namespace: its index, which no other device gets
/// while the namespace lives, and its name.
///
/// # Errors
/// The kernel's.
pub fn names() -> io::Result<BTreeMap<u32, String>> {
    let links = links(&mut Socket::open(NETLINK_ROUTE)?)?;
    let named = |link: &Answer| Some((word(&link.payload, 4), text(&link.payload, INFO, NAME)?));
    Ok(links.iter().filter_map(named).collect())
}

fn own(found: &[u8]) -> Option<IpAddr> {
    address(found, ADDRESS, LOCAL).or_else(|| address(found, ADDRESS, ADDRESSED))
}

/// Every address of every device of the calling thread's network namespace.
///
/// # Errors
/// The kernel's.
pub fn addresses() -> io::Result<BTreeSet<IpAddr>> {
    let mut socket = Socket::open(NETLINK_ROUTE)?;
    let found = socket.dump(RTM_GETADDR, Payload::new(&[0; ADDRESS]), MAX_OBJECTS)?;
    Ok(found.iter().filter_map(|f| own(&f.payload)).collect())
}

/// What is set up in the calling thread's network namespace, a line each: devices, addresses,
/// routes, rules and queueing disciplines. Nothing that changes by itself (counters, ages) is in it.
///
/// # Errors
/// The kernel's.
pub fn setup() -> io::Result<BTreeSet<String>> {
    let mut socket = Socket::open(NETLINK_ROUTE)?;
    let mut lines = BTreeSet::new();
    let mut names = BTreeMap::new();
    for link in links(&mut socket)? {
        let link = &link.payload;
        let name = text(link, INFO, NAME).unwrap_or_default();
        let state = if word(link, 8) & 1 == 1 { "up" } else { "down" };
        lines.insert(format!("link {name} {state} mtu {}", number(link, INFO, MTU).unwrap_or(0)));
        names.insert(word(link, 4), name);
    }
    let on = |index: u32| names.get(&index).map_or("nowhere", String::as_str);
    for found in socket.dump(RTM_GETADDR, Payload::new(&[0; ADDRESS]), MAX_OBJECTS)? {
        let found = &found.payload;
        let ours = own(found).map(|a| a.to_string()).unwrap_or_default();
        lines.insert(format!("address {ours}/{} on {}", byte(found, 1), on(word(found, 4))));
    }
    for rule in socket.dump(RTM_GETRULE, Payload::new(&[0; ROUTE]), MAX_OBJECTS)? {
        let rule = &rule.payload;
        let [family, action] = [byte(rule, 0), byte(rule, 7)];
        let [priority, mark, table] = [6, 10, 15].map(|k| number(rule, ROUTE, k).unwrap_or(0));
        lines.insert(format!(
            "rule family {family} priority {priority} mark {mark} action {action} table {table}"
        ));
    }
    for qdisc in socket.dump(RTM_GETQDISC, Payload::new(&[0; QDISC]), MAX_OBJECTS)? {
        let qdisc = &qdisc.payload;
        let kind = text(qdisc, QDISC, 1).unwrap_or_default();
        let [index, handle, parent] = [4, 8, 12].map(|at| word(qdisc, at));
        lines.insert(format!("qdisc {kind} {handle:x} at {parent:x} on {}", on(index)));
    }
    match socket.dump(RTM_GETROUTE, Payload::new(&[0; ROUTE]), MAX_ROUTES) {
        Ok(routes) => lines.extend(routes.iter().map(|r| route(&r.payload, on))),
        Err(error) if error.kind() == ErrorKind::QuotaExceeded => {}
        Err(error) => return Err(error),
    }
    Ok(lines)
}

fn route<'a>(route: &[u8], on: impl Fn(u32) -> &'a str) -> String {
    let target = address(route, ROUTE, 1).map_or("default".to_owned(), |a| a.to_string());
    let via = address(route, ROUTE, 5).map(|a| format!(" via {a}")).unwrap_or_default();
    let device = number(route, ROUTE, 4).map(|i| format!(" on {}", on(i))).unwrap_or_default();
    let [metric, table] = [6, 15].map(|k| number(route, ROUTE, k).unwrap_or(0));
    let [family, len, kind] = [0, 1, 7].map(|at| byte(route, at));
    format!(
        "route {target}/{len}{via}{device} family {family} type {kind} metric {metric} table {table}"
    )
}
