//! The task behind the gossip socket: beats, and foca's membership over the same datagrams.
//!
//! The socket carries no mark: what cuts the workload off must cut this off too, or the views would
//! lie. It is also why everything here takes drops in its stride.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use foca::{AccumulatingRuntime, Foca, Member, NoCustomBroadcast, PeriodicParams, State, Timer};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde::{Deserialize, Serialize};
use squall_core::ids::HostName;
use squall_core::message::PeerHost;
use squall_core::views::{Liveness, watched};
use squall_faults::clock;
use squall_wire::codec;
use squall_wire::seal::{MAX_DATAGRAM, OVERHEAD, Opener, SealError, Sealer};
use tokio::net::UdpSocket;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::member::{GossipCodec, MemberId};
use super::{Settings, Shared, warn_at_times};

/// Between two beats to the same host, at rest and while an experiment runs.
const BEAT: Duration = Duration::from_millis(1_000);
const BEAT_FAST: Duration = Duration::from_millis(200);
/// A beat and its envelope take so much at most; foca's packets get the rest of what every path
/// carries (1280 bytes of IPv6, less its and UDP's headers).
const ENVELOPE: usize = 64 + 16;
const MAX_GOSSIP: usize = 1_280 - 48 - OVERHEAD - ENVELOPE;
/// Unknown peers that are greeted at each beat, at most: an answer brings all others along.
const GREETINGS: usize = 3;
/// Datagrams that are looked at in one [`WINDOW`], at most; the kernel drops what is beyond. The
/// largest cohort sends 320 a second. A flood costs a share of one core, never the agent's work.
const WINDOW_BUDGET: u32 = 256;
const WINDOW: Duration = Duration::from_millis(20);
/// Suspicions that wait for their end, at most. One that finds no room is raised again by the next
/// probe that fails.
const MAX_TIMERS: usize = 16_384;

/// What one datagram carries, under the cluster's seal. The addressee stands inside: a datagram that
/// was recorded on its way to one host says nothing to another.
#[derive(Serialize, Deserialize)]
pub(super) struct Envelope {
    pub to: HostName,
    pub what: What,
}

#[derive(Serialize, Deserialize)]
pub(super) enum What {
    /// I can send to you. Never answered: an answer would hide which way is cut.
    Beat,
    /// A packet of foca.
    Gossip(Vec<u8>),
}

type Membership = Foca<MemberId, GossipCodec, StdRng, NoCustomBroadcast>;

pub(super) struct Gossip {
    socket: UdpSocket,
    me: HostName,
    cohort: String,
    sealer: Sealer,
    opener: Opener,
    foca: Membership,
    work: AccumulatingRuntime<MemberId>,
    timers: BTreeMap<(Instant, u64), Timer<MemberId>>,
    timer_seq: u64,
    settings: watch::Receiver<Settings>,
    shared: Arc<Shared>,
    next_beat: Instant,
    window: (Instant, u32),
    buffer: Vec<u8>,
}

fn config() -> foca::Config {
    let some = |n: usize| NonZeroUsize::new(n).expect("not zero");
    let every = |ms: u64, n| {
        Some(PeriodicParams { frequency: Duration::from_millis(ms), num_members: some(n) })
    };
    foca::Config {
        probe_period: Duration::from_millis(1_000),
        probe_rtt: Duration::from_millis(400),
        num_indirect_probes: some(3),
        suspect_to_down_after: Duration::from_secs(4),
        // Names are the addresses, so that memory is bounded by hosts, not by their lives.
        remove_down_after: None,
        max_packet_size: some(MAX_GOSSIP),
        // Partitions are our business: both sides must find each other again soon after the heal.
        notify_down_members: true,
        periodic_announce_to_down_members: every(2_000, 3),
        periodic_announce: every(30_000, 1),
        periodic_gossip: every(300, 3),
        ..foca::Config::simple()
    }
}

impl Gossip {
    pub(super) fn new(
        socket: UdpSocket,
        me: MemberId,
        cohort: String,
        (sealer, opener): (Sealer, Opener),
        settings: watch::Receiver<Settings>,
        shared: Arc<Shared>,
    ) -> Gossip {
        let now = Instant::now();
        Gossip {
            socket,
            me: me.name.clone(),
            cohort,
            sealer,
            opener,
            foca: Foca::new(me, config(), rand::make_rng(), GossipCodec::default()),
            work: AccumulatingRuntime::new(),
            timers: BTreeMap::new(),
            timer_seq: 0,
            settings,
            shared,
            next_beat: now,
            window: (now, WINDOW_BUDGET),
            buffer: vec![0; MAX_DATAGRAM],
        }
    }

    /// Runs until the settings' sender is dropped. What is due goes before what arrives, so that a
    /// flood cannot silence this host.
    pub(super) async fn run(mut self) {
        loop {
            let timer = self.timers.first_key_value().map(|((at, _), _)| *at);
            let due = timer.map_or(self.next_beat, |at| at.min(self.next_beat));
            let rested = self.window.0 + WINDOW;
            tokio::select! {
                biased;
                changed = self.settings.changed() => match changed {
                    Ok(()) => self.next_beat = Instant::now(),
                    Err(_) => return,
                },
                () = sleep_until(due) => self.handle_due(),
                ready = self.socket.readable(), if self.window.1 > 0 => match ready {
                    Ok(()) => self.receive(),
                    Err(error) => {
                        tracing::error!(%error, "the gossip socket is of no more use");
                        return;
                    }
                },
                () = sleep_until(rested), if self.window.1 == 0 => self.refill(),
            }
        }
    }

    fn refill(&mut self) {
        self.window = (Instant::now(), WINDOW_BUDGET);
    }

    fn handle_due(&mut self) {
        let now = Instant::now();
        while let Some(entry) = self.timers.first_entry()
            && entry.key().0 <= now
        {
            let timer = entry.remove();
            let suspected = match &timer {
                Timer::ChangeSuspectToDown { member_id, incarnation, .. } => {
                    Some(Member::new(member_id.clone(), *incarnation, State::Suspect))
                }
                _ => None,
            };
            if let Err(error) = self.foca.handle_timer(timer, &mut self.work) {
                tracing::debug!(%error, "gossip timer");
            }
            if let Some(suspected) = suspected {
                self.end_suspicion(&suspected);
            }
            self.carry_out();
        }
        if now >= self.next_beat {
            self.beat(now);
        }
    }

    /// Foca forgets the ends of its suspicions when this host comes back under a new identity, after others
    /// had taken it for down. Whoever has not refuted one by its end is down all the same, and then told of
    /// it: it comes back too.
    fn end_suspicion(&mut self, suspected: &Member<MemberId>) {
        if self.foca.iter_membership_state().any(|member| member == suspected) {
            let down = Member::down(suspected.id().clone());
            if let Err(error) = self.foca.apply_many([down].into_iter(), true, &mut self.work) {
                tracing::debug!(%error, "gossip suspicion");
            }
        }
    }

    /// One beat to each host of the cohort, and a greeting to some that the gossip does not know.
    fn beat(&mut self, now: Instant) {
        let settings = self.settings.borrow_and_update().clone();
        self.next_beat = now + if settings.fast { BEAT_FAST } else { BEAT };
        for peer in watched(&self.me, &self.cohort, &settings.peers) {
            let to = SocketAddr::new(peer.address, peer.gossip_port);
            self.send(to, peer.name.clone(), What::Beat);
        }
        let known: BTreeSet<&HostName> =
            self.foca.iter_membership_state().map(|m| &m.id().name).collect();
        let unknown: Vec<&PeerHost> = settings
            .peers
            .iter()
            .filter(|p| p.name != self.me && !known.contains(&p.name))
            .collect();
        let greeted: Vec<MemberId> = unknown
            .sample(&mut rand::rng(), GREETINGS)
            .map(|p| MemberId {
                name: p.name.clone(),
                at: SocketAddr::new(p.address, p.gossip_port),
                run: 0,
            })
            .collect();
        for member in greeted {
            if let Err(error) = self.foca.announce(member, &mut self.work) {
                tracing::debug!(%error, "gossip greeting");
            }
        }
        self.carry_out();
        self.publish();
    }

    fn publish(&mut self) {
        let members = self.foca.iter_membership_state().map(|member| {
            let liveness = match member.state() {
                State::Alive => Liveness::Alive,
                State::Suspect => Liveness::Suspect,
                State::Down => Liveness::Down,
            };
            (member.id().name.clone(), liveness)
        });
        let members = members.filter(|(name, _)| *name != self.me).collect();
        let counts = self.opener.counts();
        let mut seen = self.shared.seen();
        seen.members = members;
        let refused = seen.counts.refused();
        seen.counts.sealed = counts;
        let new = seen.counts.refused() - refused;
        drop(seen);
        if new > 0 {
            let what = "gossip datagrams were refused: forged, replayed or not for this host";
            warn_at_times(&self.shared.warned_gossip, new, what);
        }
    }

    /// What foca wants done.
    fn carry_out(&mut self) {
        while let Some((to, packet)) = self.work.to_send() {
            self.send(to.at, to.name, What::Gossip(packet.to_vec()));
        }
        while let Some((after, timer)) = self.work.to_schedule() {
            let may_wait = matches!(timer, Timer::ChangeSuspectToDown { .. });
            if may_wait && self.timers.len() >= MAX_TIMERS {
                continue;
            }
            self.timer_seq += 1;
            self.timers.insert((Instant::now() + after, self.timer_seq), timer);
        }
        while let Some(news) = self.work.to_notify() {
            tracing::debug!(?news, "gossip");
        }
    }

    /// Sends, or drops where there is no room: a beat that waits is no beat.
    fn send(&mut self, to: SocketAddr, name: HostName, what: What) {
        let Ok(payload) = codec::encode(&Envelope { to: name, what }) else { return };
        let datagram = self.sealer.seal(&payload);
        // A refusal is how our own network faults show to their victim.
        if let Err(error) = self.socket.try_send_to(&datagram, to) {
            tracing::trace!(%error, %to, "gossip not sent");
            self.shared.seen().counts.unsent += 1;
        }
    }

    /// Takes what has arrived, as far as the window's budget goes.
    fn receive(&mut self) {
        if self.window.0.elapsed() >= WINDOW {
            self.refill();
        }
        while self.window.1 > 0 {
            let mut buffer = std::mem::take(&mut self.buffer);
            let got = self.socket.try_recv_from(&mut buffer);
            self.window.1 -= 1;
            if let Ok((length, _)) = &got {
                self.handle_datagram(&buffer[..*length]);
            }
            self.buffer = buffer;
            if got.is_err() {
                return; // nothing more, or an error that the next wait reports again
            }
        }
    }

    fn handle_datagram(&mut self, datagram: &[u8]) {
        let now = clock::now();
        let (sender, payload) = match self.opener.open(datagram) {
            Ok(opened) => opened,
            // Counted by the opener.
            Err(SealError::Forged | SealError::Replayed | SealError::OlderRun) => return,
        };
        let Ok(envelope) = codec::decode::<Envelope>(&payload) else {
            self.shared.seen().counts.malformed += 1;
            return;
        };
        if envelope.to != self.me || sender == self.me {
            self.shared.seen().counts.misdirected += 1;
            return;
        }
        match envelope.what {
            What::Beat => self.shared.seen().hear(sender, now),
            What::Gossip(packet) => {
                if let Err(error) = self.foca.handle_data(&packet, &mut self.work) {
                    tracing::debug!(%error, %sender, "gossip packet");
                    self.shared.seen().counts.malformed += 1;
                }
                self.carry_out();
            }
        }
    }
}
