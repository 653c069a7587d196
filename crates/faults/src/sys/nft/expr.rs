//! Expressions of nf_tables rules. Source: `linux/netfilter/nf_tables.h`.

use crate::sys::netlink::Payload;

/// `NFT_REG_1`: sixteen bytes, wide enough for an IPv6 address.
const REG: u32 = 1;
/// `NFT_REG_VERDICT`.
const REG_VERDICT: u32 = 0;

/// An interface number that no device has: a packet forwarded to it is freed, and its sender is told
/// that it went. That is what loss on the wire looks like, where a drop verdict would tell it.
const NO_DEVICE: u32 = 0x7fff_ffff;

/// Where in a packet.
#[derive(Clone, Copy, Debug)]
pub enum Base {
    /// `NFT_PAYLOAD_NETWORK_HEADER`.
    Network = 1,
    /// `NFT_PAYLOAD_TRANSPORT_HEADER`.
    Transport = 2,
}

/// How two values compare, byte by byte.
#[derive(Clone, Copy, Debug)]
pub enum Compare {
    /// `NFT_CMP_EQ`.
    Equal = 0,
    /// `NFT_CMP_NEQ`.
    Other = 1,
    /// `NFT_CMP_LT`.
    Less = 2,
}

/// What of a packet's surroundings.
#[derive(Clone, Copy, Debug)]
pub enum Meta {
    /// The Ethernet protocol, network order.
    Protocol = 1,
    /// `skb->mark`, host order.
    Mark = 3,
    /// The address family of an `inet` table, one byte.
    Family = 15,
    /// The transport protocol, one byte.
    Transport = 16,
}

/// One rule's expressions, in order.
#[derive(Clone, Debug, Default)]
pub struct Rule(Vec<(&'static str, Payload)>);

impl Rule {
    /// A rule that matches everything and does nothing.
    #[must_use]
    pub fn new() -> Rule {
        Rule::default()
    }

    fn add(mut self, name: &'static str, fill: impl FnOnce(&mut Payload)) -> Rule {
        let mut payload = Payload::default();
        fill(&mut payload);
        self.0.push((name, payload));
        self
    }

    /// Loads what surrounds the packet.
    #[must_use]
    pub fn meta(self, key: Meta) -> Rule {
        self.add("meta", |p| {
            p.u32_be(1, REG).u32_be(2, key as u32);
        })
    }

    /// Loads bytes of the packet.
    #[must_use]
    pub fn payload(self, base: Base, offset: u32, len: u32) -> Rule {
        self.add("payload", |p| {
            p.u32_be(1, REG).u32_be(2, base as u32).u32_be(3, offset).u32_be(4, len);
        })
    }

    /// Loads bytes of an IPv6 extension header; ends the rule where there is none.
    #[must_use]
    pub fn extension(self, header: u8, offset: u32, len: u32) -> Rule {
        self.add("exthdr", |p| {
            p.u32_be(1, REG).attr(2, &[header]).u32_be(3, offset).u32_be(4, len);
        })
    }

    /// Goes on only where what was loaded compares so with `value`.
    #[must_use]
    pub fn cmp(self, how: Compare, value: &[u8]) -> Rule {
        self.add("cmp", |p| {
            p.u32_be(1, REG).u32_be(2, how as u32).nest(3, |d| {
                d.attr(1, value);
            });
        })
    }

    /// Goes on only where what was loaded lies from `low` to `high`, both included.
    #[must_use]
    pub fn range(self, low: &[u8], high: &[u8]) -> Rule {
        self.add("range", |p| {
            p.u32_be(1, REG).u32_be(2, 0);
            p.nest(3, |d| {
                d.attr(1, low);
            });
            p.nest(4, |d| {
                d.attr(1, high);
            });
        })
    }

    /// Keeps the bits of `mask` of what was loaded.
    #[must_use]
    pub fn mask(self, mask: &[u8]) -> Rule {
        let zeroes = vec![0; mask.len()];
        self.add("bitwise", |p| {
            p.u32_be(1, REG).u32_be(2, REG).u32_be(3, mask.len() as u32);
            p.nest(4, |d| {
                d.attr(1, mask);
            });
            p.nest(5, |d| {
                d.attr(1, &zeroes);
            });
        })
    }

    /// Goes on only where what was loaded is in the set.
    #[must_use]
    pub fn lookup(self, set: &str) -> Rule {
        self.add("lookup", |p| {
            p.text(1, set).u32_be(2, REG);
        })
    }

    /// Loads the mark of the local socket that the packet is for; ends the rule where there is none.
    #[must_use]
    pub fn socket_mark(self) -> Rule {
        self.add("socket", |p| {
            p.u32_be(1, 1).u32_be(2, REG);
        })
    }

    /// Goes on for `per_million` of a million packets, by chance.
    #[must_use]
    pub fn by_chance(self, per_million: u32) -> Rule {
        self.add("numgen", |p| {
            p.u32_be(1, REG).u32_be(2, 1_000_000).u32_be(3, 1).u32_be(4, 0);
        })
        .add("byteorder", |p| {
            p.u32_be(1, REG).u32_be(2, REG).u32_be(3, 1).u32_be(4, 4).u32_be(5, 4);
        })
        .cmp(Compare::Less, &per_million.to_be_bytes())
    }

    /// Counts the packets that come so far.
    #[must_use]
    pub fn counter(self) -> Rule {
        self.add("counter", |p| {
            p.u64_be(1, 0).u64_be(2, 0);
        })
    }

    /// Ends the packet's way through this chain well.
    #[must_use]
    pub fn accept(self) -> Rule {
        self.verdict(1, None)
    }

    /// Drops the packet. On its sender's way out the sender is told.
    #[must_use]
    pub fn drop(self) -> Rule {
        self.verdict(0, None)
    }

    /// Goes on in another chain, and does not come back.
    #[must_use]
    pub fn goto(self, chain: &str) -> Rule {
        self.verdict(-4, Some(chain))
    }

    /// Goes on in another chain, and comes back where that decides nothing.
    #[must_use]
    pub fn jump(self, chain: &str) -> Rule {
        self.verdict(-3, Some(chain))
    }

    /// Loses the packet without a word to its sender; netdev chains only.
    #[must_use]
    pub fn lose(self) -> Rule {
        self.add("immediate", |p| {
            p.u32_be(1, REG).nest(2, |d| {
                d.attr(1, &NO_DEVICE.to_ne_bytes());
            });
        })
        .add("fwd", |p| {
            p.u32_be(1, REG);
        })
    }

    fn verdict(self, code: i32, chain: Option<&str>) -> Rule {
        self.add("immediate", |p| {
            p.u32_be(1, REG_VERDICT).nest(2, |d| {
                d.nest(2, |v| {
                    v.attr(1, &code.to_be_bytes());
                    if let Some(chain) = chain {
                        v.text(2, chain);
                    }
                });
            });
        })
    }

    /// As the attribute list of a rule.
    pub(super) fn fill(&self, list: &mut Payload) {
        for (name, data) in &self.0 {
            list.nest(1, |e| {
                e.text(1, name);
                e.nest(2, |d| d.append(data));
            });
        }
    }
}
