//! What the driver does while this node leads: it carries out what the leader's machine asks for.

use openraft::ServerState;
use squall_core::ids::{CommandId, HostName, Leadership, NodeId};
use squall_core::leader::{Action, Leader};
use squall_core::message::ToAgent;
use squall_core::registry::{Command, HostRecord};
use squall_core::time::Time;
use squall_core::views;

use super::{Driver, Event};
use crate::clock;
use crate::raft::{self, Metrics};
use crate::sessions::policy_of;
use crate::store::types::Proposal;

/// How often the views are judged.
const JUDGE_MS: u64 = 1_000;

/// One leadership of this node.
pub(super) struct Leading {
    pub machine: Leader,
    next_judgement: Time,
    /// A quorum answered its last round.
    pub(super) backed: bool,
}

/// The leadership that raft's metrics show, where it is this node's.
pub(crate) fn leadership(metrics: &Metrics) -> Option<Leadership> {
    let leads = metrics.state == ServerState::Leader && metrics.current_leader == Some(metrics.id);
    leads.then_some(Leadership { term: metrics.current_term, node: NodeId(metrics.id) })
}

impl Driver {
    pub(super) fn leadership_changed(&mut self, metrics: &Metrics) {
        let now_leads = leadership(metrics);
        if now_leads == self.leading.as_ref().map(|l| l.machine.leadership()) {
            return;
        }
        let now = clock::now();
        self.leading = now_leads.map(|leadership| {
            tracing::info!(term = leadership.term, "this coordinator leads");
            let mut machine = Leader::new(leadership, now);
            for (host, session) in self.node.sessions().iter() {
                let hello = &session.hello;
                machine.handle_hello(host.clone(), hello.capabilities.clone(), policy_of(hello));
                if let Some((report, _)) = &session.report {
                    machine.handle_report(now, host, report.clone());
                }
            }
            machine.handle_own_probes(self.node.prober().reports(now));
            let lacking = self.node.stops().lacking();
            machine.handle_stops(now, &lacking);
            // A quorum has just elected it.
            Leading { machine, next_judgement: now, backed: true }
        });
        // Before any verdict of this leadership.
        self.judge_views(now);
        if now_leads.is_some() {
            self.push_lacking();
        } else {
            tracing::info!("this coordinator does not lead");
        }
    }

    pub(super) fn drain_leader(&mut self, now: Time) {
        let Some(leading) = &mut self.leading else { return };
        if leading.machine.poll_timeout() <= now {
            leading.machine.handle_timeout(now);
        }
        let mut proposals = Vec::new();
        let mut sends = Vec::new();
        let mut rounds = Vec::new();
        while let Some(action) = leading.machine.poll_action() {
            match action {
                Action::Round { token } => rounds.push(token),
                Action::Send { host, message } => sends.push((host, message)),
                Action::Propose(command) => proposals.push(command),
            }
        }
        for (host, message) in sends {
            self.send_to_host(&host, &message);
        }
        self.propose_all(proposals);
        for token in rounds {
            self.begin_round(token);
        }
    }

    fn send_to_host(&mut self, host: &HostName, message: &ToAgent) {
        let connection = self.node.sessions().get(host).map(|s| s.connection);
        if let Some(connection) = connection {
            self.send(connection, message);
        }
    }

    /// Proposes, in order, and does not wait: the registry shows what came of it, and the machine
    /// asks again for what did not come to be.
    fn propose_all(&self, commands: Vec<Command>) {
        if commands.is_empty() {
            return;
        }
        let node = self.node.clone();
        tokio::spawn(async move {
            for command in commands {
                let entry = raft::entry(new_command(), &node.me(), command);
                // One that no message can carry would hold up the log for ever.
                if let Err(too_large) = raft::check_size(&entry) {
                    tracing::error!(too_large, "a proposal was dropped");
                    continue;
                }
                if let Err(error) = node.raft.client_write_ff(Proposal(entry), None).await {
                    tracing::debug!(%error, "a proposal was dropped");
                    return;
                }
            }
        });
    }

    /// One quorum round for all reports that have arrived: does this node still lead, in this term?
    fn begin_round(&self, token: u64) {
        let (node, own) = (self.node.clone(), self.own.clone());
        let led = self.leading.as_ref().map(|l| l.machine.leadership());
        tokio::spawn(async move {
            let ok = raft::confirm(&node.raft).await.is_ok() && node.leadership() == led;
            let _ = own.send(Event::Round { token, ok }).await;
        });
    }

    pub(super) fn round_ended(&mut self, token: u64, ok: bool) {
        let unknown = if ok { self.registrations() } else { Vec::new() };
        let Some(leading) = &mut self.leading else { return };
        let (now, wall) = (clock::now(), clock::wall());
        leading.backed = ok;
        self.node.applied.read(|registry| {
            leading.machine.handle_round(now, wall, token, ok, registry);
        });
        leading.machine.handle_unknown(now, unknown);
    }

    pub(super) fn tick_leader(&mut self) {
        if self.leading.is_some() {
            self.judge_views(clock::now());
        }
    }

    fn judge_views(&mut self, now: Time) {
        if let Some(leading) = &mut self.leading
            && now >= leading.next_judgement
        {
            leading.next_judgement = now.plus(JUDGE_MS);
            let evidence = self.node.evidence(now);
            let spoke = views::spoke(&evidence);
            leading.machine.handle_judgement(now, &views::judge(&evidence), &spoke);
            self.node.refresh_statuses();
        }
    }

    /// Connected hosts that the registry does not know as they are now.
    fn registrations(&self) -> Vec<HostRecord> {
        let sessions = self.node.sessions();
        self.node.applied.read(|registry| {
            let stale = |host: &&HostRecord| {
                registry.hosts.get(&host.name).is_none_or(|known| {
                    *known != HostRecord { drained: known.drained, ..(*host).clone() }
                })
            };
            sessions.iter().map(|(_, s)| &s.hello.host).filter(stale).cloned().collect()
        })
    }
}

/// The id of a command that nobody repeats.
pub(crate) fn new_command() -> CommandId {
    CommandId(uuid::Uuid::from_u128(rand::random()))
}
