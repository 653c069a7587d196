//! Stops from host to host, on a socket that network faults spare.
//!
//! A relayed stop is a record that a coordinator signed, so that it needs no trust in its carrier.
//! UDP may lose it: each is sent three times.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use squall_core::ids::StopId;
use squall_wire::Identity;
use squall_wire::stop::{MAX_RECORD, StopError};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::{MAX_RELAY_PEERS, Settings, Shared, warn_at_times};

/// How often each stop is sent to each peer.
const TIMES: u32 = 3;
/// Between two times, drawn at random so that a fleet does not send in step.
const GAP_MS: std::ops::RangeInclusive<u64> = 50..=150;
/// Stops that are being spread at once, at most; the oldest gives way.
const MAX_SPREADING: usize = 64;
/// Stops that were passed on and are not passed on again; the oldest is forgotten, upon which a
/// repeat costs one more look and changes nothing.
const MAX_PASSED: usize = 256;
/// Records that are verified in one [`WINDOW`], at most: two signatures take some 200 µs, and a flood
/// of forgeries must not take the host's processor.
const VERIFIED: u32 = 50;
/// What takes some µs: what is no record at all, and repeats. Many more of those are taken, or some hundred
/// datagrams of one byte would keep stops out.
const CHEAP: u32 = 2_000;
const WINDOW: Duration = Duration::from_millis(100);

/// A stop and its signed record.
pub(crate) type SignedStop = (StopId, Vec<u8>);

/// What is still taken until the end of a [`WINDOW`].
struct Window {
    end: Instant,
    verified: u32,
    cheap: u32,
}

impl Window {
    fn new() -> Window {
        Window { end: Instant::now() + WINDOW, verified: VERIFIED, cheap: CHEAP }
    }

    /// One of either may come: which, is known once it is there.
    fn is_open(&self) -> bool {
        self.verified > 0 && self.cheap > 0
    }

    fn close(&mut self) {
        self.cheap = 0;
    }
}

struct Spreading {
    record: Vec<u8>,
    left: u32,
    next: Instant,
}

pub(super) struct Relay {
    pub socket: UdpSocket,
    pub identity: Identity,
    pub settings: watch::Receiver<Settings>,
    pub shared: Arc<Shared>,
    pub orders: mpsc::Receiver<SignedStop>,
    pub heard: mpsc::Sender<SignedStop>,
}

impl Relay {
    /// Runs until the orders' sender is dropped.
    pub(super) async fn run(mut self) {
        let mut spreading: VecDeque<Spreading> = VecDeque::new();
        let mut passed: VecDeque<SignedStop> = VecDeque::new();
        let mut window = Window::new();
        let mut buffer = vec![0; MAX_RECORD + 1];
        loop {
            let next = spreading.iter().map(|s| s.next).min();
            tokio::select! {
                biased;
                order = self.orders.recv() => {
                    let Some((_, record)) = order else { return };
                    spreading.push_back(Spreading { record, left: TIMES, next: Instant::now() });
                    if spreading.len() > MAX_SPREADING {
                        spreading.pop_front();
                    }
                }
                () = sleep_until(next.unwrap_or(window.end)), if next.is_some() => {
                    self.spread(&mut spreading);
                }
                got = self.socket.recv_from(&mut buffer), if window.is_open() => match got {
                    Ok((length, from)) => {
                        if Instant::now() >= window.end {
                            window = Window::new();
                        }
                        let record = &buffer[..length];
                        let known = passed.iter().any(|(_, known)| known == record);
                        if !known && self.take(record, from, &mut passed) {
                            window.verified -= 1;
                        } else {
                            window.cheap -= 1;
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%error, "relay socket");
                        window.close(); // a rest, so that an error that stays does not spin
                    }
                },
                () = sleep_until(window.end), if !window.is_open() => window = Window::new(),
            }
        }
    }

    fn spread(&mut self, spreading: &mut VecDeque<Spreading>) {
        let now = Instant::now();
        let peers = self.settings.borrow().peers.clone();
        for one in spreading.iter_mut().filter(|s| s.next <= now) {
            for peer in peers.iter().take(MAX_RELAY_PEERS) {
                let to = SocketAddr::new(peer.address, peer.relay_port);
                if let Err(error) = self.socket.try_send_to(&one.record, to) {
                    tracing::debug!(%error, %to, "a stop was not relayed to this host");
                }
            }
            one.left -= 1;
            one.next = now + Duration::from_millis(rand::random_range(GAP_MS));
        }
        spreading.retain(|s| s.left > 0);
    }

    /// Judges one record and passes on what is a stop, each stop once. Returns whether that took more than
    /// reading it.
    fn take(&self, record: &[u8], from: SocketAddr, passed: &mut VecDeque<SignedStop>) -> bool {
        let stop = match self.identity.verify_stop(record) {
            Ok((stop, _)) => stop,
            Err(error) => {
                self.shared.seen().counts.bad_stops += 1;
                tracing::debug!(%error, %from, "relayed stop refused");
                warn_at_times(&self.shared.warned_relay, 1, "relayed stops were refused");
                return match error {
                    StopError::TooLong(_) | StopError::Codec(_) => false,
                    StopError::Signer(_) | StopError::Forged => true,
                };
            }
        };
        if passed.iter().any(|(known, _)| *known == stop) {
            return true;
        }
        // Where the driver has no room the repeats get another chance.
        if self.heard.try_send((stop, record.to_vec())).is_ok() {
            tracing::warn!(%stop, %from, "stop, by relay");
            passed.push_back((stop, record.to_vec()));
            if passed.len() > MAX_PASSED {
                passed.pop_front();
            }
        } else {
            self.shared.seen().counts.unread_stops += 1;
        }
        true
    }
}
