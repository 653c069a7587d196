//! Chance: delays, losses, gusts; and the queue of what will happen.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::rc::Rc;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use squall_core::ids::{FaultId, StopId};
use squall_core::message::ToAgent;
use squall_core::registry::Entry;

use super::coordinators::Words;
use super::{NODES, Simulation};

/// A control stream between a host and a coordinator: its coordinator, and which of all the streams
/// between the two it is. What an older one still carries is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    pub node: usize,
    pub number: u32,
}

/// What a holder says or does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Says {
    Held,
    Failed,
    /// It let go by order, and is no more.
    Lifted,
    /// It is no more, and the kernel has taken back what it stood on.
    Gone,
    /// The agent notices that.
    Noticed,
}

/// What ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mend {
    Disk(usize),
    Link(usize, usize),
    Peers(usize, usize),
}

/// Something that will happen.
#[derive(Clone, Debug)]
pub(super) enum What {
    Start {
        host: usize,
    },
    HostTimer {
        host: usize,
    },
    ToHost {
        host: usize,
        link: Link,
        message: Rc<ToAgent>,
    },
    Relayed {
        host: usize,
        stop: StopId,
    },
    Disk {
        host: usize,
        life: u128,
    },
    Holder {
        host: usize,
        life: u128,
        id: FaultId,
        says: Says,
    },
    Proof {
        host: usize,
        life: u128,
        id: FaultId,
    },
    LinkUp {
        host: usize,
        node: usize,
    },
    ToNode {
        host: usize,
        link: Link,
        words: Box<Words>,
    },
    NodeTimer {
        node: usize,
    },
    NodeStops {
        node: usize,
        stops: Vec<StopId>,
    },
    StopAll {
        node: usize,
        stop: StopId,
    },
    Acks {
        node: usize,
        term: u64,
        token: u64,
    },
    RoundEnds {
        node: usize,
        term: u64,
        token: u64,
        ok: bool,
        read: usize,
    },
    /// What a node proposes, that led (or only believed so) when it did.
    Commit {
        node: usize,
        term: u64,
        led: bool,
        entry: Box<Entry>,
    },
    Learns {
        node: usize,
    },
    Leads {
        node: usize,
        term: u64,
    },
    StepsDown {
        node: usize,
        term: u64,
    },
    StartNode {
        node: usize,
    },
    Election,
    Gust,
    Person,
    Mend {
        mend: Mend,
    },
    Calm,
}

/// What will happen, in order of time; at the same time in the order in which it was queued.
#[derive(Debug, Default)]
pub(super) struct Queue {
    order: BinaryHeap<Reverse<(u64, u64)>>,
    what: BTreeMap<u64, What>,
    count: u64,
}

impl Queue {
    pub(super) fn push(&mut self, at: u64, what: What) {
        self.count += 1;
        self.order.push(Reverse((at, self.count)));
        self.what.insert(self.count, what);
    }

    pub(super) fn next_at(&self) -> Option<u64> {
        self.order.peek().map(|Reverse((at, _))| *at)
    }

    pub(super) fn pop(&mut self) -> Option<What> {
        self.order.pop().and_then(|Reverse((_, number))| self.what.remove(&number))
    }
}

/// The source of all chance.
#[derive(Debug)]
pub(super) struct Weather {
    rng: SmallRng,
    /// The storm has passed: nothing is lost, nothing dies, nobody starts anything.
    pub calm: bool,
    /// How bad the network is in this run, in percent.
    loss: u32,
    /// How slow it is at worst, in milliseconds.
    slow_ms: u64,
    /// The mean time between two gusts.
    gust_ms: u64,
}

impl Weather {
    pub(super) fn new(seed: u64) -> Weather {
        let mut rng = SmallRng::seed_from_u64(seed);
        let loss = rng.random_range(0..30);
        let slow_ms = rng.random_range(5..2_000);
        let gust_ms = rng.random_range(100..3_000);
        Weather { rng, calm: false, loss, slow_ms, gust_ms }
    }

    pub(super) fn between(&mut self, from: u64, to: u64) -> u64 {
        self.rng.random_range(from..=to)
    }

    pub(super) fn index(&mut self, len: usize) -> usize {
        self.rng.random_range(0..len.max(1))
    }

    pub(super) fn odds(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }

    /// Odds that are none once the storm has passed.
    pub(super) fn bad_luck(&mut self, percent: u32) -> bool {
        !self.calm && self.odds(percent)
    }

    /// Whether a message is lost.
    pub(super) fn loses(&mut self) -> bool {
        let loss = self.loss;
        self.bad_luck(loss)
    }

    /// How long a message travels: mostly not long.
    pub(super) fn travel(&mut self) -> u64 {
        let slow = if self.calm { 20 } else { self.slow_ms };
        if self.odds(80) { self.between(0, 20.min(slow)) } else { self.between(0, slow) }
    }
}

impl Simulation {
    pub(super) fn after(&mut self, ms: u64, what: What) {
        self.queue.push(self.now + ms, what);
    }

    /// Sends something over the network: late, twice, or not at all.
    pub(super) fn travel(&mut self, what: What) {
        if self.weather.loses() {
            return;
        }
        if self.weather.bad_luck(10) {
            let ms = self.weather.travel();
            self.after(ms, what.clone());
        }
        let ms = self.weather.travel();
        self.after(ms, what);
    }

    /// Something goes wrong.
    pub(super) fn gust(&mut self) {
        if self.weather.calm {
            return;
        }
        let next = self.weather.between(1, 2 * self.weather.gust_ms);
        self.after(next, What::Gust);
        let (h, c) = (self.weather.index(self.agents.len()), self.weather.index(NODES));
        match self.weather.between(0, 11) {
            0 | 1 => self.crash_agent(h),
            2 => self.crash_node(c),
            3 | 4 => self.cut_link(h, c),
            5 => (0..NODES).for_each(|c| self.cut_link(h, c)),
            6 => {
                let other = (c + 1) % NODES;
                self.raft.set_peers(c, other, false);
                let ms = self.weather.between(100, 8_000);
                self.after(ms, What::Mend { mend: Mend::Peers(c, other) });
            }
            7 => self.raft.unseat(),
            8 => {
                self.agents[h].disk_full = true;
                let ms = self.weather.between(10, 12_000);
                self.after(ms, What::Mend { mend: Mend::Disk(h) });
            }
            9 => {
                let ms =
                    if self.weather.odds(50) { 3_600_000 } else { self.weather.between(1, 9_000) };
                let dead = self.world.hosts[h].pass(ms);
                self.world.hosts[h].truth.asleep = true;
                self.holders_died(h, dead);
            }
            _ => self.kill_holder(h),
        }
    }

    pub(super) fn mend(&mut self, mend: Mend) {
        match mend {
            Mend::Disk(h) => self.agents[h].disk_full = false,
            Mend::Link(h, c) => {
                self.agents[h].cut[c] = false;
                self.after(10, What::LinkUp { host: h, node: c });
            }
            Mend::Peers(a, b) => self.raft.set_peers(a, b, true),
        }
    }

    /// The storm passes: what is broken is whole from now on.
    pub(super) fn calm(&mut self) {
        self.weather.calm = true;
        for h in 0..self.agents.len() {
            self.agents[h].disk_full = false;
            self.agents[h].dirty = false;
            if self.world.hosts[h].machine.is_none() {
                self.after(0, What::Start { host: h });
            }
            for c in 0..NODES {
                self.mend(Mend::Link(h, c));
            }
        }
        for c in 0..NODES {
            self.raft.set_peers(c, (c + 1) % NODES, true);
            if !self.nodes[c].alive {
                self.after(0, What::StartNode { node: c });
            }
        }
    }
}
