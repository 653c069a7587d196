//! Packets of chosen peers, lost on their way: what `partition` and `loss` share.
//!
//! One owner table in the family `inet` for what arrives, before connection tracking, so that
//! established flows are hurt too; one in the family `netdev` for what leaves, so that the sender
//! sees plain loss. Where a kernel has no netdev egress the output hook stands in, and its senders
//! see EPERM. Peers are elements of sets, each with the lease as its own time-out. What a host says
//! to itself passes, whatever network its addresses are in.

mod follow;
mod layout;
mod probe;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};
use squall_core::fault::{Direction, Kind, Traffic};
use squall_core::hold::{Achieved, Capability, Failure, Hold, Holding, Protect};
use squall_core::time::Time;

use crate::clock;
use crate::held::HeldFault;
use crate::holder::Lease;
use crate::sys::nft::{Change, Family, Hook, Nft, Table};
use follow::{Devices, Own};
use layout::{Layout, PeerSet};

/// Runs before connection tracking (-200) and the raw table (-300).
const PRIORITY: i32 = -350;
/// The chain in which packets are counted and lost.
const LOST: &str = "lost";
/// The chain that looks whether a packet is one of peers.
const CUT: &str = "cut";
/// Behind the tag, in the name of the second table of the family `inet`.
pub(crate) const OUT_SUFFIX: char = 'o';
/// The chain that looks whether a packet is one of severed coordinators.
const SEVER: &str = "sever";

const LOOPBACK_V4: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8));

/// What is to happen to the packets that match.
#[derive(Clone, Debug)]
pub(crate) struct Loss<'a> {
    pub traffic: &'a Traffic,
    /// Of a million packets; all of them where `None`.
    pub per_million: Option<u32>,
    /// The coordinators, cut off both ways whatever is exempt; empty where control is exempt.
    pub severed: &'a [IpNet],
    /// In words, with units.
    pub requested: String,
}

/// How often it is looked whether devices or own addresses have changed, in milliseconds.
const FOLLOW_MS: u64 = 1_000;

/// One direction's table.
#[derive(Debug)]
struct Side {
    table: Table,
    inbound: bool,
    sets: Vec<PeerSet>,
    /// Those that it hangs on, where it does.
    devices: Option<Devices>,
    /// Packets were seen lost on it.
    bit: bool,
    /// Counted as lost when the probes had ended, ours among them.
    before: u64,
}

impl Side {
    fn new(table: Table, inbound: bool, layout: &Layout) -> Side {
        Side { table, inbound, sets: layout.sets(inbound), devices: None, bit: false, before: 0 }
    }
}

/// Packets that vanish.
#[derive(Debug)]
pub(crate) struct Lost {
    nft: Nft,
    sides: Vec<Side>,
    own: Own,
    requested: String,
    note: String,
    /// What of the host's changes could not be followed; empty where all could.
    missed: String,
    /// What the last measurement was, so that only news is told.
    told: (u64, String),
    /// What the probes showed.
    probes: String,
    look_at: Time,
}

/// Puts the tables in place and proves that they lose packets.
pub(crate) fn apply(
    hold: &Hold,
    lease: &Lease,
    loss: &Loss<'_>,
) -> Result<(Box<dyn HeldFault>, Achieved), Failure> {
    let mut nft = Nft::open().map_err(|e| unsupported("nf_tables", &e))?;
    let own = Own::find().map_err(|e| Failure::System(format!("list of addresses: {e}")))?;
    let mut protect = with_loopback(&hold.protect);
    let own_addresses = own.addresses().iter().copied().map(IpNet::from);
    let spared = Protect {
        peers: protect.peers.iter().copied().chain(own_addresses).collect(),
        ..Protect::default()
    };
    let layout = Layout::new(&protect, own.addresses(), loss);
    let lease_ms = clock::now().until(lease.until()).max(1);
    let mut sides = Vec::new();
    let mut note = String::new();
    // A coordinator on this host itself is none that could be cut off.
    let severs = probe::far_ends(loss.severed, &spared).next().is_some();
    if severs || loss.traffic.direction.covers(true) {
        let table = Table::new(Family::Inet, &hold.id.tag());
        commit(&mut nft, &layout, &table, &Hook::Prerouting, lease_ms)
            .map_err(|e| unsupported("an owner table at the prerouting hook", &e))?;
        sides.push(Side::new(table, true, &layout));
    }
    if severs || loss.traffic.direction.covers(false) {
        let (side, said) = leaving(&mut nft, hold, &layout, lease_ms)?;
        sides.push(side);
        note = said;
    }
    let mut lost = Lost {
        nft,
        sides,
        own,
        requested: loss.requested.clone(),
        note,
        missed: String::new(),
        told: Default::default(),
        probes: String::new(),
        look_at: clock::now().plus(FOLLOW_MS),
    };
    protect.peers.extend(lost.own.addresses().iter().copied().map(IpNet::from));
    let achieved = lost.prove(&protect, &hold.protect.peers, loss)?;
    Ok((Box::new(lost), achieved))
}

/// What the policy protects, and the loopback's addresses: with this host's own, those of packets that
/// it says to itself.
fn with_loopback(protect: &Protect) -> Protect {
    let mut protect = protect.clone();
    protect.peers.extend([LOOPBACK_V4, IpAddr::from(Ipv6Addr::LOCALHOST).into()]);
    protect
}

fn unsupported(what: &str, error: &io::Error) -> Failure {
    Failure::Unsupported(format!("{what}: {error}"))
}

/// The egress hook of every device, or the output hook where there is none.
fn leaving(
    nft: &mut Nft,
    hold: &Hold,
    layout: &Layout,
    lease_ms: u64,
) -> Result<(Side, String), Failure> {
    let devices = devices().map_err(|e| Failure::System(format!("list of devices: {e}")))?;
    if devices.is_empty() {
        return Err(Failure::NoTarget("this host has no network device but lo".into()));
    }
    let table = Table::new(Family::Netdev, &hold.id.tag());
    let names = devices.values().cloned().collect();
    let refused = match commit(nft, layout, &table, &Hook::Egress(names), lease_ms) {
        Ok(()) => {
            let devices = Some(Devices::new(devices));
            return Ok((Side { devices, ..Side::new(table, false, layout) }, String::new()));
        }
        Err(error) => error,
    };
    let table = Table::new(Family::Inet, &format!("{}{OUT_SUFFIX}", hold.id.tag()));
    commit(nft, layout, &table, &Hook::Output, lease_ms)
        .map_err(|e| unsupported(&format!("netdev egress ({refused}), and the output hook"), &e))?;
    let note = format!("visible: EPERM (netdev egress: {refused})");
    Ok((Side::new(table, false, layout), note))
}

fn commit(
    nft: &mut Nft,
    layout: &Layout,
    table: &Table,
    hook: &Hook,
    lease_ms: u64,
) -> io::Result<()> {
    nft.commit(layout.build(table, hook, PRIORITY, lease_ms))
}

/// Whether this host could lose packets so, and how. The kernel is shown the very tables, for a peer
/// that does not exist (a documentation address, RFC 5737), and is not asked to make them.
pub(crate) fn capability(fault: Kind, per_million: Option<u32>) -> Capability {
    let peers = vec![IpNet::from(IpAddr::from([192, 0, 2, 1]))];
    let traffic = Traffic { peers, direction: Direction::Both, ports: Vec::new(), protocol: None };
    let loss = Loss { traffic: &traffic, per_million, severed: &[], requested: String::new() };
    let layout = Layout::new(&Protect::default(), &BTreeSet::new(), &loss);
    let check = |family, hook: Hook| {
        let table = Table::new(family, "squall-doctor");
        Nft::open()?.check(layout.build(&table, &hook, PRIORITY, 1_000))
    };
    let arriving = check(Family::Inet, Hook::Prerouting);
    let silent = check(Family::Netdev, Hook::Egress(vec!["lo".into()]));
    let visible = check(Family::Inet, Hook::Output);
    let (silently, visibly) = ("nft owner table, netdev egress", "nft owner table, output hook");
    let (backend, reason) = match (arriving, silent, &visible) {
        (Err(error), _, _) => (None, format!("an owner table at the prerouting hook: {error}")),
        (Ok(()), Ok(()), _) => (Some(silently), String::new()),
        (Ok(()), Err(error), Ok(())) => {
            (Some(visibly), format!("netdev egress: {error}; senders see EPERM"))
        }
        (Ok(()), Err(silent), Err(visible)) => {
            (None, format!("netdev egress: {silent}; the output hook: {visible}"))
        }
    };
    let spare = backend == Some(silently) && visible.is_ok();
    let fallbacks = if spare { vec![format!("{visibly} (senders see EPERM)")] } else { Vec::new() };
    let backend = backend.map(str::to_owned);
    Capability { fault, backend, fallbacks, held: Holding::Held, reason }
}

/// Every device but the loopback.
fn devices() -> io::Result<BTreeMap<u32, String>> {
    let mut names = crate::sys::devices::names()?;
    names.retain(|_, name| name != "lo");
    Ok(names)
}

impl Lost {
    fn prove(
        &mut self,
        protect: &Protect,
        policy: &[IpNet],
        loss: &Loss<'_>,
    ) -> Result<Achieved, Failure> {
        let sides: Vec<(Table, bool)> =
            self.sides.iter().map(|s| (s.table.clone(), s.inbound)).collect();
        let system = |e: io::Error| Failure::System(format!("probe: {e}"));
        let seen = probe::run(&mut self.nft, &sides, protect, policy, loss).map_err(system)?;
        if seen.wrong {
            return Err(Failure::NoBite(seen.words));
        }
        for (side, bit) in self.sides.iter_mut().zip(&seen.bit) {
            side.bit = *bit;
            side.before = probe::totals(&mut self.nft, &side.table).map_err(system)?.1;
        }
        self.probes.clone_from(&seen.words);
        self.note = joined(&[&self.note, &seen.note]);
        Ok(Achieved {
            bit: self.bites(),
            requested: self.requested.clone(),
            measured: seen.words,
            note: self.note.clone(),
        })
    }

    /// Whether packets were lost each way that was asked for.
    fn bites(&self) -> bool {
        self.sides.iter().all(|side| side.bit)
    }

    /// Packets lost since the probes, all directions.
    fn count(&mut self) -> io::Result<u64> {
        let mut total = 0;
        for side in &mut self.sides {
            let lost = probe::totals(&mut self.nft, &side.table)?.1.saturating_sub(side.before);
            side.bit |= lost > 0;
            total += lost;
        }
        Ok(total)
    }

    /// Keeps up with what has changed on the host; returns what could not be followed. It is tried again
    /// each time; what it means is for whoever reads the measurement.
    fn follow(&mut self) -> String {
        let mut missed = String::new();
        let tables = self.sides.iter().map(|side| &side.table);
        if let Err(error) = self.own.follow(&mut self.nft, tables) {
            missed = format!("own addresses are not followed: {error}");
        }
        for side in &mut self.sides {
            let Some(devices) = &mut side.devices else { continue };
            if let Err(error) = devices.follow(&mut self.nft, &side.table) {
                missed = joined(&[&missed, &format!("a device is not covered: {error}")]);
            }
        }
        missed
    }

    fn probes_and(&self) -> String {
        if self.probes.is_empty() { String::new() } else { format!("{}; ", self.probes) }
    }

    fn achieved(&self, total: u64) -> Achieved {
        let packets = if total == 1 { "packet" } else { "packets" };
        Achieved {
            bit: self.bites(),
            requested: self.requested.clone(),
            measured: format!("{}{total} {packets} lost", self.probes_and()),
            note: joined(&[&self.note, &self.missed]),
        }
    }
}

fn joined(notes: &[&str]) -> String {
    let notes: Vec<&str> = notes.iter().copied().filter(|note| !note.is_empty()).collect();
    notes.join("; ")
}

impl HeldFault for Lost {
    fn renew(&mut self, until: Time) -> Result<(), Failure> {
        let lease_ms = clock::now().until(until).max(1);
        for side in &self.sides {
            let mut changes: Vec<Change> = Vec::new();
            for set in &side.sets {
                // The first add makes the removal legal where an element has just timed out.
                changes.push(side.table.add(&set.name, &set.keys, lease_ms));
                changes.push(side.table.remove(&set.name, &set.keys));
                changes.push(side.table.add(&set.name, &set.keys, lease_ms));
            }
            // A batch a side: that of both, with the most peers, is more than a socket takes that
            // could not be enlarged.
            let done = self.nft.commit(changes);
            done.map_err(|e| Failure::System(format!("renewal: {e}")))?;
        }
        Ok(())
    }

    fn tick(&mut self, now: Time) -> Option<Time> {
        if now >= self.look_at {
            self.look_at = now.plus(FOLLOW_MS);
            self.missed = self.follow();
        }
        Some(self.look_at)
    }

    fn measure(&mut self) -> Option<Achieved> {
        let total = self.count().ok()?;
        let now = (total, self.missed.clone());
        let before = std::mem::replace(&mut self.told, now);
        (before != self.told).then(|| self.achieved(total))
    }

    fn lift(&mut self) -> Achieved {
        let total = self.count().unwrap_or(self.told.0);
        let achieved = self.achieved(total);
        let deletes = self.sides.iter().map(|s| s.table.delete()).collect();
        if let Err(error) = self.nft.commit(deletes) {
            // The socket closes with this process, and the tables with it.
            tracing::warn!(%error, "deleting the tables");
        }
        achieved
    }
}
