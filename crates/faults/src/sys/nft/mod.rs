//! nf_tables by netlink: tables that go when their socket closes, sets whose elements time out.
//!
//! Source: `linux/netfilter/nf_tables.h`, `nfnetlink.h`. Every change is one batch: all of it or
//! nothing.

mod expr;

use std::io;

pub use expr::{Base, Compare, Meta, Rule};

use super::netlink::{
    ACK, APPEND, Answer, CREATE, MAX_OBJECTS, Message, Payload, Socket, attributes,
};

const NETLINK_NETFILTER: u32 = 12;
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DEL_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const DEL_CHAIN: u16 = 5;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const DEL_ELEMENT: u16 = 14;
/// `NFT_TABLE_F_OWNER`.
const OWNER: u32 = 2;
/// `NFT_SET_TIMEOUT`.
const SET_TIMEOUT: u32 = 0x10;

/// An address family of tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4 and IPv6 together.
    Inet = 1,
    /// A network device's own hooks.
    Netdev = 5,
}

/// Where a base chain hooks in.
#[derive(Clone, Debug)]
pub enum Hook {
    /// Before routing, for all that arrives.
    Prerouting,
    /// What this host's own processes send. A drop here is told to the sender.
    Output,
    /// What leaves through these devices; netdev tables only.
    Egress(Vec<String>),
}

/// One change; several make a batch.
#[derive(Clone, Debug)]
pub struct Change(Message);

/// A table under construction, by its family and name.
#[derive(Clone, Debug)]
pub struct Table {
    family: Family,
    name: String,
}

impl Table {
    /// A handle; nothing is made yet.
    #[must_use]
    pub fn new(family: Family, name: &str) -> Table {
        Table { family, name: name.to_owned() }
    }

    fn change(&self, kind: u16, flags: u16, fill: impl FnOnce(&mut Payload)) -> Change {
        let mut payload = header(self.family as u8, 0);
        payload.text(1, &self.name);
        fill(&mut payload);
        Change(Message { kind: SUBSYSTEM << 8 | kind, flags, payload })
    }

    /// Its family.
    #[must_use]
    pub fn family(&self) -> Family {
        self.family
    }

    /// Makes the table, owned by the socket that sends this.
    #[must_use]
    pub fn create(&self) -> Change {
        self.change(NEW_TABLE, CREATE, |p| {
            p.u32_be(2, OWNER);
        })
    }

    /// Deletes it with all that it holds.
    #[must_use]
    pub fn delete(&self) -> Change {
        self.change(DEL_TABLE, 0, |_| {})
    }

    /// Adds a chain that packets come to from a hook.
    #[must_use]
    pub fn base_chain(&self, name: &str, hook: &Hook, priority: i32) -> Change {
        let number = match hook {
            Hook::Prerouting => 0,
            Hook::Output => 3,
            Hook::Egress(_) => 1,
        };
        self.change(NEW_CHAIN, CREATE, |p| {
            p.text(3, name).nest(4, |h| {
                h.u32_be(1, number).attr(2, &priority.to_be_bytes());
                if let Hook::Egress(devices) = hook {
                    h.nest(4, |list| {
                        for device in devices {
                            list.text(1, device);
                        }
                    });
                }
            });
            p.u32_be(5, 1).text(7, "filter");
        })
    }

    /// Adds a chain that rules jump to; leaves one of that name as it is.
    #[must_use]
    pub fn chain(&self, name: &str) -> Change {
        self.change(NEW_CHAIN, CREATE, |p| {
            p.text(3, name);
        })
    }

    /// Deletes a chain with its rules.
    #[must_use]
    pub fn delete_chain(&self, name: &str) -> Change {
        self.change(DEL_CHAIN, 0, |p| {
            p.text(3, name);
        })
    }

    /// Adds a rule at a chain's end.
    #[must_use]
    pub fn rule(&self, chain: &str, rule: &Rule) -> Change {
        self.change(NEW_RULE, CREATE | APPEND, |p| {
            p.text(2, chain).nest(4, |list| rule.fill(list));
        })
    }

    /// Adds an empty set of addresses of `key_len` bytes whose elements may time out. `number` tells
    /// sets of one batch apart.
    #[must_use]
    pub fn address_set(&self, name: &str, key_len: u32, number: u32) -> Change {
        // What `nft` calls the key's type; the kernel only keeps it.
        let key_type = if key_len == 4 { 7 } else { 8 };
        self.change(NEW_SET, CREATE, |p| {
            p.text(2, name).u32_be(3, SET_TIMEOUT).u32_be(4, key_type).u32_be(5, key_len);
            p.u32_be(10, number);
        })
    }

    /// Adds elements that go by themselves after `timeout_ms`.
    #[must_use]
    pub fn add(&self, set: &str, keys: &[Vec<u8>], timeout_ms: u64) -> Change {
        self.change(NEW_ELEMENT, CREATE, |p| {
            p.text(2, set).nest(3, |list| elements(list, keys, Some(timeout_ms)));
        })
    }

    /// Adds elements that stay.
    #[must_use]
    pub fn keep(&self, set: &str, keys: &[Vec<u8>]) -> Change {
        self.change(NEW_ELEMENT, CREATE, |p| {
            p.text(2, set).nest(3, |list| elements(list, keys, None));
        })
    }

    /// Removes elements.
    #[must_use]
    pub fn remove(&self, set: &str, keys: &[Vec<u8>]) -> Change {
        self.change(DEL_ELEMENT, 0, |p| {
            p.text(2, set).nest(3, |list| elements(list, keys, None));
        })
    }
}

fn elements(list: &mut Payload, keys: &[Vec<u8>], timeout_ms: Option<u64>) {
    for key in keys {
        list.nest(1, |e| {
            e.nest(1, |k| {
                k.attr(1, key);
            });
            if let Some(ms) = timeout_ms {
                e.u64_be(4, ms);
            }
        });
    }
}

fn header(family: u8, resource: u16) -> Payload {
    let [high, low] = resource.to_be_bytes();
    Payload::new(&[family, 0, high, low])
}

/// A connection to nf_tables. The tables that it makes go when it closes.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
}

impl Nft {
    /// Opens one in the network namespace of the calling thread.
    ///
    /// # Errors
    /// The kernel's.
    pub fn open() -> io::Result<Nft> {
        Ok(Nft { socket: Socket::open(NETLINK_NETFILTER)? })
    }

    /// Carries out all changes or none.
    ///
    /// # Errors
    /// The first refusal; then nothing was changed.
    pub fn commit(&mut self, changes: Vec<Change>) -> io::Result<()> {
        self.send(changes, true)
    }

    /// Asks whether the kernel would carry out these changes. Nothing is changed: a batch that has
    /// no end is looked at and given up, as `nft --check` has it.
    ///
    /// # Errors
    /// The first refusal.
    pub fn check(&mut self, changes: Vec<Change>) -> io::Result<()> {
        self.send(changes, false)
    }

    fn send(&mut self, changes: Vec<Change>, ends: bool) -> io::Result<()> {
        let frame = |kind| Message { kind, flags: 0, payload: header(0, SUBSYSTEM) };
        let mut messages = vec![frame(BATCH_BEGIN)];
        messages.extend(changes.into_iter().map(|c| c.0));
        // Refusals come unasked; more acknowledgements than one would overrun the socket.
        if let Some(last) = messages.last_mut() {
            last.flags |= ACK;
        }
        if ends {
            messages.push(frame(BATCH_END));
        }
        self.socket.request(&messages)
    }

    /// The family and the name of every table in this network namespace, whoever made it.
    ///
    /// # Errors
    /// The kernel's.
    pub fn tables(&mut self) -> io::Result<Vec<(&'static str, String)>> {
        let tables = self.socket.dump(SUBSYSTEM << 8 | GET_TABLE, header(0, 0), MAX_OBJECTS)?;
        let named = |table: &Answer| {
            let name = attributes(&table.payload, 4).find(|(kind, _)| *kind == 1)?.1;
            let name = String::from_utf8_lossy(text_of(name)).into_owned();
            Some((family_name(*table.payload.first()?), name))
        };
        Ok(tables.iter().filter_map(named).collect())
    }

    /// The packet counts of every counter in `chain`, in the order of the rules.
    ///
    /// # Errors
    /// The kernel's.
    pub fn counters(&mut self, table: &Table, chain: &str) -> io::Result<Vec<Vec<u64>>> {
        let mut payload = header(table.family as u8, 0);
        payload.text(1, &table.name).text(2, chain);
        let rules = self.socket.dump(SUBSYSTEM << 8 | GET_RULE, payload, MAX_OBJECTS)?;
        Ok(rules.iter().filter(|r| is_of(r, &table.name, chain)).map(counters_of).collect())
    }
}

/// As `nft` writes it. Source: `linux/netfilter.h`.
fn family_name(number: u8) -> &'static str {
    match number {
        1 => "inet",
        2 => "ip",
        3 => "arp",
        5 => "netdev",
        7 => "bridge",
        10 => "ip6",
        _ => "unknown",
    }
}

fn text_of(data: &[u8]) -> &[u8] {
    data.strip_suffix(&[0]).unwrap_or(data)
}

fn is_of(rule: &Answer, table: &str, chain: &str) -> bool {
    let has = |kind, text: &str| {
        attributes(&rule.payload, 4).any(|(k, data)| k == kind && text_of(data) == text.as_bytes())
    };
    has(1, table) && has(2, chain)
}

fn counters_of(rule: &Answer) -> Vec<u64> {
    let list = attributes(&rule.payload, 4).find(|(kind, _)| *kind == 4).map(|(_, data)| data);
    let mut counts = Vec::new();
    for (_, expression) in attributes(list.unwrap_or_default(), 0) {
        let part = |kind| attributes(expression, 0).find(|(k, _)| *k == kind).map(|(_, data)| data);
        if part(1).map(text_of) != Some(b"counter") {
            continue;
        }
        let packets = attributes(part(2).unwrap_or_default(), 0).find(|(k, _)| *k == 2);
        if let Some(bytes) = packets.and_then(|(_, data)| data.first_chunk::<8>()) {
            counts.push(u64::from_be_bytes(*bytes));
        }
    }
    counts
}
