//! What coordinators say, and other hosts.

use std::sync::Arc;

use squall_core::fence::MAX_TOLD;
use squall_core::ids::{AgentRun, Leadership, NodeId, StopId};
use squall_core::message::{FromAgent, ToAgent};
use squall_core::probe::Prober;
use squall_core::time::Time;
use squall_faults::clock;

use super::Driver;
use crate::links::LinkEvent;

impl Driver {
    /// A coordinator came, or spoke.
    pub(super) fn handle_link(&mut self, event: LinkEvent) {
        let now = clock::now();
        let (node, arrived, said) = match event {
            LinkEvent::Up(node) => return self.greet(node),
            LinkEvent::Said(node, arrived, said) => (node, arrived, said),
        };
        self.host.handle_heard(arrived);
        match *said {
            ToAgent::Stop { stop, record } => self.heard(stop, record),
            ToAgent::Stops(stops) => {
                self.host.handle_stops(now, &stops);
                let known: Vec<StopId> = self.host.fence().outstanding().collect();
                if let Some(link) = self.links.iter().find(|l| l.node == node) {
                    known.chunks(MAX_TOLD).for_each(|p| link.send(FromAgent::Stops(p.to_vec())));
                }
            }
            ToAgent::Sync(sync) => {
                self.host.handle_sync(now, &sync);
                self.heard_leader(now, sync.run, sync.leadership);
            }
            ToAgent::Orders(orders) => {
                self.host.handle_orders(now, &orders);
                if self.heard_leader(now, orders.run, orders.leadership) {
                    if let Some(near) = &self.neighbours {
                        near.set_fast(orders.beat_fast);
                    }
                    // A host that is stopped runs nothing.
                    let armed = self.host.fence().armed();
                    self.probes.set(now, if armed { &orders.probes } else { &[] });
                }
            }
            ToAgent::Peers(peers) => {
                self.kept.peers.insert(node, peers);
                self.choose_peers(node);
            }
        }
    }

    /// Says to a coordinator who this is, and what it may have missed.
    fn greet(&mut self, node: NodeId) {
        let report = Arc::new(FromAgent::Report(self.full_report()));
        let link = self.links.iter().find(|l| l.node == node);
        let (Some(link), Some(hello)) = (link, &self.hello) else { return };
        link.send(FromAgent::Hello(hello.clone()));
        for receipt in &self.kept.receipts {
            link.send(FromAgent::Receipt(receipt.clone()));
        }
        link.report(report);
    }

    /// Notes that a leader spoke. False where this host does not obey it: then nothing that it says
    /// counts.
    fn heard_leader(&mut self, now: Time, run: AgentRun, leadership: Leadership) -> bool {
        if run != self.run || leadership != self.host.obeys() {
            return false;
        }
        if let Some(near) = &mut self.neighbours {
            near.heard_leader(now, leadership);
        }
        self.choose_peers(leadership.node);
        true
    }

    /// The leader's word on who the other hosts are goes first: a coordinator that has just come
    /// back may know of fewer. Without one, the last word counts.
    fn choose_peers(&self, last: NodeId) {
        let of_leader = self.kept.peers.get(&self.host.obeys().node);
        let peers = of_leader.or_else(|| self.kept.peers.get(&last));
        if let (Some(near), Some(peers)) = (&self.neighbours, peers) {
            near.set_peers(peers);
        }
    }

    /// A stop came with its record. Where the stop was known without one, it can be relayed now.
    fn heard(&mut self, stop: StopId, record: Vec<u8>) {
        let outstanding = self.host.fence().is_outstanding(stop);
        if self.kept.keep_record(stop, record) && outstanding {
            self.relay(stop);
        }
        self.host.handle_stop(clock::now(), stop);
    }

    /// The same from another host, which waits for no answer: a stop that is known needs none. Of one that
    /// was resumed nobody needs to hear any more, whoever repeats it.
    pub(super) fn heard_by_relay(&mut self, stop: StopId, record: Vec<u8>) {
        if self.host.fence().knows(stop) {
            let outstanding = self.host.fence().is_outstanding(stop);
            if outstanding && self.kept.keep_record(stop, record) {
                self.relay(stop);
            }
        } else {
            self.heard(stop, record);
        }
    }
}
