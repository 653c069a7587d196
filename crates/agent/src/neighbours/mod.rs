//! The hosts around this one: whom it hears, what the gossip says of them, and stops from hand to
//! hand.
//!
//! Two UDP sockets. The one for gossip and beats carries no mark and feels every fault; the one for
//! relayed stops is marked and spared.

mod gossip;
mod member;
mod relay;
mod run;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use squall_core::hold::CONTROL_MARK;
use squall_core::ids::{HostName, Leadership, StopId};
use squall_core::message::PeerHost;
use squall_core::time::Time;
use squall_core::views::{Liveness, Row, STALE_MS, watched};
use squall_faults::clock;
use squall_wire::seal::{Opener, SealCounts, Sealer};
use squall_wire::transport::{Seldom, marked_udp};
use squall_wire::{GossipKey, Identity};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::config::Config;
use gossip::Gossip;
use member::MemberId;
use relay::Relay;
pub(crate) use relay::SignedStop;

/// Hosts that one host knows of, at most; coordinators tell of 64.
const MAX_PEERS: usize = 256;
/// Hosts to which a stop is passed on, at most.
const MAX_RELAY_PEERS: usize = MAX_PEERS;
/// Stops that wait to be spread, at most.
const MAX_ORDERS: usize = 64;

/// What the driver wants of the tasks.
#[derive(Clone, Default)]
struct Settings {
    peers: Arc<[PeerHost]>,
    fast: bool,
}

/// What arrived, and what was refused and why. Refused datagrams change nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// By the seal.
    pub sealed: SealCounts,
    /// Under a good seal, but no message.
    pub malformed: u64,
    /// Under a good seal, but meant for another host, or our own come back.
    pub misdirected: u64,
    /// Not sent for want of room, or because the kernel refused.
    pub unsent: u64,
    /// Relayed records that are no stop of a coordinator.
    pub bad_stops: u64,
    /// Relayed stops that the driver had no room for; they come again.
    pub unread_stops: u64,
}

impl Counts {
    /// Gossip datagrams that were refused.
    fn refused(&self) -> u64 {
        let sealed = &self.sealed;
        let by_seal = sealed.forged + sealed.replayed + sealed.older_run;
        by_seal + self.misdirected + self.malformed
    }
}

/// What the tasks have seen.
#[derive(Default)]
struct Seen {
    heard: BTreeMap<HostName, Time>,
    /// Since when each peer is known.
    known: BTreeMap<HostName, Time>,
    members: BTreeMap<HostName, Liveness>,
    counts: Counts,
}

impl Seen {
    /// A beat arrived. Its sender may be unknown yet: the list of peers can be on its way.
    fn hear(&mut self, sender: HostName, now: Time) {
        if self.heard.len() >= MAX_PEERS && !self.heard.contains_key(&sender) {
            // A peer goes before whoever is none.
            let strange = self.heard.keys().find(|name| !self.known.contains_key(*name)).cloned();
            match strange.filter(|_| self.known.contains_key(&sender)) {
                Some(strange) => drop(self.heard.remove(&strange)),
                None => return,
            }
        }
        self.heard.insert(sender, now);
    }

    /// These are the peers, from now on if not before.
    fn know(&mut self, peers: &[PeerHost], now: Time) {
        let named = |name: &HostName| peers.iter().any(|p| p.name == *name);
        self.heard.retain(|name, _| named(name));
        self.known.retain(|name, _| named(name));
        for peer in peers {
            self.known.entry(peer.name.clone()).or_insert(now);
        }
    }

    /// Milliseconds since a peer was heard. The outer one is `None` as long as nothing can be said of
    /// it: so long after either of the two has started it may be that one hears the other and the
    /// other not yet, or has not said so yet.
    fn heard_ms(&self, peer: &HostName, now: Time) -> Option<Option<u64>> {
        let known = self.known.get(peer)?;
        let heard = self.heard.get(peer).map(|at| now.since(*at));
        (now.since(*known) > STALE_MS).then_some(heard)
    }
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    warned_gossip: Mutex<Seldom>,
    warned_relay: Mutex<Seldom>,
}

impl Shared {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Nothing is left half done under this lock.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Logs `what` with the number of times it happened, at times.
fn warn_at_times(warned: &Mutex<Seldom>, times: u64, what: &str) {
    let mut warned = warned.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(times) = warned.count(times) {
        tracing::warn!(times, "{what}");
    }
}

/// The host's place among the others. Dropping it ends its tasks.
pub(crate) struct Neighbours {
    me: HostName,
    cohort: String,
    ports: (u16, u16),
    settings: watch::Sender<Settings>,
    orders: mpsc::Sender<SignedStop>,
    shared: Arc<Shared>,
    leader: Option<(Leadership, Time)>,
    tasks: [JoinHandle<()>; 2],
}

impl Neighbours {
    /// Opens both sockets and starts beating. Stops that others relay come out of `heard`, each
    /// once, verified. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// A port is taken, or the state directory cannot be written.
    pub(crate) fn start(
        config: &Config,
        identity: Identity,
        key: GossipKey,
        heard: mpsc::Sender<SignedStop>,
    ) -> io::Result<Neighbours> {
        let run = run::next_run(&config.state_dir).map_err(|e| {
            io::Error::new(e.kind(), format!("{}: {e}", config.state_dir.display()))
        })?;
        let (gossip, gossip_port) = bind(config.address, config.gossip_port, None)?;
        let (relay, relay_port) = bind(config.address, config.relay_port, Some(CONTROL_MARK))?;
        let me = MemberId {
            name: config.name.clone(),
            at: SocketAddr::new(config.address, gossip_port),
            run,
        };
        let cohort = config.labels.get("group").cloned().unwrap_or_default();
        let (settings, setting) = watch::channel(Settings::default());
        let (orders, inbox) = mpsc::channel(MAX_ORDERS);
        let shared = Arc::new(Shared::default());
        let seals = (Sealer::new(key.clone(), config.name.clone(), run), Opener::new(key));
        let gossip =
            Gossip::new(gossip, me, cohort.clone(), seals, setting.clone(), shared.clone());
        let relay = Relay {
            socket: relay,
            identity,
            settings: setting,
            shared: shared.clone(),
            orders: inbox,
            heard,
        };
        Ok(Neighbours {
            me: config.name.clone(),
            cohort,
            ports: (gossip_port, relay_port),
            settings,
            orders,
            shared,
            leader: None,
            tasks: [tokio::spawn(gossip.run()), tokio::spawn(relay.run())],
        })
    }

    /// The port that gossip and beats arrive at.
    pub(crate) fn gossip_port(&self) -> u16 {
        self.ports.0
    }

    /// The port that relayed stops arrive at.
    pub(crate) fn relay_port(&self) -> u16 {
        self.ports.1
    }

    /// Whom this host sees now.
    pub(crate) fn row(&self, now: Time) -> Row {
        let peers = self.settings.borrow().peers.clone();
        let seen = self.shared.seen();
        let watched = watched(&self.me, &self.cohort, &peers);
        let heard = watched
            .iter()
            .filter_map(|p| Some((p.name.clone(), seen.heard_ms(&p.name, now)?)))
            .collect();
        let members = peers
            .iter()
            .filter_map(|p| seen.members.get(&p.name).map(|l| (p.name.clone(), *l)))
            .collect();
        Row {
            cohort: self.cohort.clone(),
            members,
            heard,
            authority: self.leader.map(|(leadership, at)| (leadership, now.since(at))),
        }
    }

    /// A leader whom this host obeys has spoken.
    pub(crate) fn heard_leader(&mut self, now: Time, leadership: Leadership) {
        self.leader = Some((leadership, now));
    }

    /// Whether an experiment runs, so that beats go out five times as often.
    pub(crate) fn set_fast(&self, fast: bool) {
        self.settings.send_if_modified(|s| std::mem::replace(&mut s.fast, fast) != fast);
    }

    /// The other hosts. Whoever is no longer named is no longer watched.
    pub(crate) fn set_peers(&self, peers: &[PeerHost]) {
        let peers: Arc<[PeerHost]> =
            peers.iter().filter(|p| p.name != self.me).take(MAX_PEERS).cloned().collect();
        self.shared.seen().know(&peers, clock::now());
        self.settings.send_if_modified(|s| {
            let changed = s.peers != peers;
            s.peers = peers;
            changed
        });
    }

    /// Passes a stop on to every host that is known.
    pub(crate) fn spread(&self, stop: StopId, record: Vec<u8>) {
        if self.orders.try_send((stop, record)).is_err() {
            tracing::warn!(%stop, "too many stops at once: this one is not relayed from here");
        }
    }

    /// What arrived and what was refused so far.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> Counts {
        self.shared.seen().counts
    }
}

impl Drop for Neighbours {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

/// A socket at the host's own address, so that others see datagrams come from where they expect
/// them; at any address where that one is not on this host (behind a translation).
fn bind(address: IpAddr, port: u16, mark: Option<u32>) -> io::Result<(UdpSocket, u16)> {
    let at = SocketAddr::new(address, port);
    let socket = match marked_udp(at, mark) {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
            tracing::warn!(%address, "no interface has this address now: listening on all");
            let any: IpAddr = match address {
                IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
                IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
            };
            marked_udp(SocketAddr::new(any, port), mark)
        }
        result => result,
    };
    let socket = socket.map_err(|e| io::Error::new(e.kind(), format!("UDP {at}: {e}")))?;
    let port = socket.local_addr()?.port();
    Ok((UdpSocket::from_std(socket)?, port))
}
