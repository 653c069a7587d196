//! Raft, as far as the protocol can tell: one log; in one term one leader, elected by a quorum; a
//! round that succeeds only where the asker led, and a quorum could answer it, after it began; and a
//! committed entry that every node applies sooner or later. Everything else is chance: when a leader
//! is unseated, when it notices, and what becomes of what it proposed.

use squall_core::ids::{HostName, Leadership, NodeId, StopId};
use squall_core::registry::{Command, Entry, Outcome};

use super::weather::What;
use super::{NODES, Simulation};
use crate::world::{Leading, entry};

/// The shortest and the longest time between an election that is due and the next look.
const ELECTION_MS: (u64, u64) = (100, 800);
/// How long a leader without a quorum believes that it leads, at most.
const BELIEF_MS: u64 = 4_000;

#[derive(Debug)]
pub(super) struct Raft {
    /// The leader that the last quorum elected, and in which term.
    elected: Option<(usize, u64)>,
    term: u64,
    /// Which nodes hear each other.
    peers: Vec<Vec<bool>>,
    /// Every committed entry.
    pub entries: Vec<Entry>,
}

impl Raft {
    pub(super) fn new(nodes: usize) -> Raft {
        let peers = vec![vec![true; nodes]; nodes];
        Raft { elected: None, term: 0, peers, entries: Vec::new() }
    }

    pub(super) fn set_peers(&mut self, a: usize, b: usize, hear: bool) {
        self.peers[a][b] = hear;
        self.peers[b][a] = hear;
    }

    pub(super) fn hear(&self, a: usize, b: usize) -> bool {
        self.peers[a][b]
    }

    /// The leader is unseated for no reason.
    pub(super) fn unseat(&mut self) {
        self.elected = None;
    }

    /// A node is down, and leads no more.
    pub(super) fn unseat_node(&mut self, node: usize) {
        self.elected.take_if(|(leader, _)| *leader == node);
    }

    pub(super) fn leads(&self, node: usize, term: u64) -> bool {
        self.elected == Some((node, term))
    }

    /// Whether the log had the host when it came to have the stop.
    pub(super) fn registered_before(&self, host: &HostName, stop: StopId) -> bool {
        let mut before = self.entries.iter().take_while(|e| e.command != Command::Stop(stop));
        before.any(|e| matches!(&e.command, Command::Register(record) if record.name == *host))
    }
}

impl Simulation {
    fn has_quorum(&self, node: usize) -> bool {
        let heard = (0..NODES).filter(|d| self.nodes[*d].alive && self.raft.hear(node, *d));
        self.nodes[node].alive && 2 * heard.count() > NODES
    }

    /// The node that may write now, and its term.
    pub(super) fn leader(&self) -> Option<(usize, u64)> {
        self.raft.elected.filter(|(node, _)| self.has_quorum(*node))
    }

    /// Looks whether somebody must be elected.
    pub(super) fn election(&mut self) {
        let next = self.weather.between(ELECTION_MS.0, ELECTION_MS.1);
        self.after(next, What::Election);
        if self.leader().is_some() {
            return;
        }
        let first = self.weather.index(NODES);
        let candidate = (0..NODES).map(|n| (first + n) % NODES).find(|n| self.has_quorum(*n));
        let Some(node) = candidate else { return };
        self.raft.term += 1;
        let term = self.raft.term;
        self.raft.elected = Some((node, term));
        let soon = self.weather.between(0, 50);
        self.after(soon, What::Leads { node, term });
        for other in (0..NODES).filter(|n| *n != node) {
            if let Some(old) = self.nodes[other].leading.as_ref().map(|l| l.machine.leadership()) {
                let late = self.weather.between(0, BELIEF_MS);
                self.after(late, What::StepsDown { node: other, term: old.term });
            }
        }
    }

    /// A node notices that it leads.
    pub(super) fn leads(&mut self, node: usize, term: u64) {
        if !self.raft.leads(node, term) || !self.nodes[node].alive {
            return;
        }
        let side = &mut self.nodes[node];
        let leadership = Leadership { term, node: NodeId(node as u64 + 1) };
        let mut leading = Leading::new(leadership, side.clock);
        for (host, session) in &side.sessions {
            if let Some(said) = &session.report {
                leading.report(host, said.report.clone(), said.stops.clone());
            }
        }
        let lacking: Vec<_> = side.heard.lacking().collect();
        leading.machine.handle_stops(side.clock, &lacking);
        side.leading = Some(leading);
        self.drain_node(node);
    }

    /// A node notices that it leads no more.
    pub(super) fn steps_down(&mut self, node: usize, term: u64) {
        let side = &mut self.nodes[node];
        side.leading.take_if(|leading| leading.machine.leadership().term == term);
    }

    /// The moment at which the last answers to a round's question would be under way.
    pub(super) fn acks(&mut self, node: usize, term: u64, token: u64) {
        let ok = self.leader() == Some((node, term));
        if !ok && self.weather.odds(50) {
            return; // No answer at all.
        }
        let read = self.raft.entries.len();
        let ms = self.weather.travel();
        self.after(ms, What::RoundEnds { node, term, token, ok, read });
    }

    pub(super) fn round_ends(&mut self, node: usize, term: u64, token: u64, ok: bool, read: usize) {
        if ok {
            let newest = self.raft.entries.len();
            let upto = self.weather.between(read as u64, newest as u64) as usize;
            self.apply(node, upto);
        }
        let side = &mut self.nodes[node];
        let Some(leading) = side.leading.as_mut() else { return };
        if leading.machine.leadership().term != term {
            return;
        }
        leading.clock = side.clock;
        let actions = leading.round_ends(token, ok, &side.registry, &mut self.world.facts);
        self.carry_out(node, actions);
    }

    /// A proposal reaches the point where it is committed, or is not.
    pub(super) fn commit_proposed(&mut self, node: usize, term: u64, led: bool, entry: Entry) {
        let now = self.leader() == Some((node, term));
        // The node had spread it before it lost the lead, and who leads now commits it. What it
        // proposed later, nobody took from it.
        let inherited = led && self.leader().is_some() && self.weather.bad_luck(30);
        if now || inherited {
            self.commit(entry);
        }
    }

    /// Commits what somebody proposes under a name of its own.
    pub(super) fn commit_new(&mut self, command: Command) -> Outcome {
        let id = self.command();
        self.commit(entry(id, command))
    }

    pub(super) fn commit(&mut self, entry: Entry) -> Outcome {
        let outcome = self.world.log.commit(&entry, &mut self.world.facts);
        self.note_committed(&entry.command, &outcome);
        self.raft.entries.push(entry);
        for node in 0..NODES {
            let ms = self.weather.travel();
            self.after(ms, What::Learns { node });
        }
        outcome
    }

    /// A node applies what it hears is committed.
    pub(super) fn learns(&mut self, node: usize) {
        let leads = self.leader().map(|(leader, _)| leader);
        let heard = leads.is_some_and(|l| l == node || self.raft.hear(l, node));
        if !self.nodes[node].alive || self.nodes[node].applied == self.raft.entries.len() {
            return;
        }
        if heard {
            self.apply(node, self.raft.entries.len());
        } else {
            self.after(500, What::Learns { node });
        }
    }

    /// Who leads, with all that was committed applied: what a quorum has just confirmed.
    pub(super) fn confirmed_leader(&mut self) -> Option<usize> {
        let (leader, _) = self.leader()?;
        self.apply(leader, self.raft.entries.len());
        Some(leader)
    }

    fn apply(&mut self, node: usize, upto: usize) {
        let side = &mut self.nodes[node];
        if upto <= side.applied {
            return;
        }
        for entry in &self.raft.entries[side.applied..upto] {
            let index = squall_core::ids::LogIndex(side.registry.applied.0 + 1);
            side.registry.apply(index, entry);
        }
        side.applied = upto;
        self.registry_changed(node);
    }
}
