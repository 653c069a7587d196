//! What may happen in the small world, and how it is said.

use std::fmt;

use squall_core::message::{Orders, ToAgent};

/// One choice of the world. Hosts, coordinators, stops and messages are numbered from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// A host's report reaches a coordinator (the first number) that believes it leads; it asks for
    /// a quorum, and answers into the network where it has one.
    Ask(u8, u8),
    /// A message that the network keeps for a host arrives, not for the last time.
    Deliver(u8, u8),
    /// A stop (the second number) reaches a host, from a coordinator or by relay.
    Stop(u8, u8),
    /// A stop reaches the log.
    LogStop(u8),
    /// An operator who was shown these stops (a bit each) resumes, without regard to hosts.
    Resume(u8),
    /// An experiment on all hosts starts.
    Submit,
    /// An operator ends the oldest experiment that runs.
    End,
    /// The other coordinator is elected.
    Elect,
    /// A host's writes under way reach its disk.
    Persist(u8),
    /// An agent dies, and its holders with it. The first so many of its writes are on the disk.
    Crash(u8, u8),
    /// It starts again.
    Restart(u8),
    /// A holder dies by itself.
    HolderDies(u8),
    /// A person injects a fault on one host alone.
    Inject(u8),
    /// Time passes everywhere, and every timer goes off.
    Wait,
    /// A host sleeps for an hour: its clock jumps, and no timer has gone off yet.
    Jump(u8),
}

impl Event {
    /// Whether it makes a difference between hosts that were alike.
    #[must_use]
    pub(super) fn is_of_one_host(self) -> bool {
        match self {
            Event::Ask(..)
            | Event::Deliver(..)
            | Event::Stop(..)
            | Event::Persist(_)
            | Event::Crash(..)
            | Event::Restart(_)
            | Event::HolderDies(_)
            | Event::Inject(_)
            | Event::Jump(_) => true,
            Event::LogStop(_)
            | Event::Resume(_)
            | Event::Submit
            | Event::End
            | Event::Elect
            | Event::Wait => false,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Ask(c, h) => {
                write!(f, "h{} reports to c{}, which believes it leads", h + 1, c + 1)
            }
            Event::Deliver(h, m) => write!(f, "h{} gets message {}", h + 1, m + 1),
            Event::Stop(h, s) => write!(f, "h{} hears stop {}", h + 1, s + 1),
            Event::LogStop(s) => write!(f, "stop {} is committed", s + 1),
            Event::Resume(shown) => {
                let stops = ["none", "stop 1", "stop 2", "stops 1 and 2"];
                write!(f, "an operator resumes, shown {}", stops[usize::from(shown & 3)])
            }
            Event::Submit => write!(f, "an experiment on every host starts"),
            Event::End => write!(f, "an operator ends the oldest experiment"),
            Event::Elect => write!(f, "the other coordinator is elected"),
            Event::Persist(h) => write!(f, "h{}'s writes reach its disk", h + 1),
            Event::Crash(h, 0) => {
                write!(f, "h{}'s agent dies, and its writes under way are lost", h + 1)
            }
            Event::Crash(h, kept) => {
                write!(f, "h{}'s agent dies, after {kept} of its writes under way", h + 1)
            }
            Event::Restart(h) => write!(f, "h{}'s agent starts", h + 1),
            Event::HolderDies(h) => write!(f, "a holder on h{} dies", h + 1),
            Event::Inject(h) => write!(f, "a person injects a fault on h{}", h + 1),
            Event::Wait => write!(f, "{} ms pass", super::WAIT_MS),
            Event::Jump(h) => write!(f, "h{} sleeps for an hour", h + 1),
        }
    }
}

/// A message in short.
pub(super) fn brief(message: &ToAgent) -> String {
    match message {
        ToAgent::Stop { .. } => "a stop".into(),
        ToAgent::Stops(stops) => format!("{} stops", stops.len()),
        ToAgent::Sync(sync) => format!(
            "{} stops and {} resumes, from {} in term {}",
            sync.stops.len(),
            sync.resumes.len(),
            sync.leadership.node,
            sync.leadership.term
        ),
        ToAgent::Orders(orders) => brief_orders(orders),
        ToAgent::Peers(_) => "its peers".into(),
    }
}

fn brief_orders(orders: &Orders) -> String {
    let kinds = [
        ("begin", orders.apply.len()),
        ("renew", orders.grant.len()),
        ("lift", orders.lift.len()),
        ("forget", orders.acknowledged.len()),
    ];
    let said: Vec<String> =
        kinds.iter().filter(|(_, n)| *n > 0).map(|(what, n)| format!("{what} {n}")).collect();
    let what = if said.is_empty() { "nothing to do".to_owned() } else { said.join(", ") };
    let (node, term) = (orders.leadership.node, orders.leadership.term);
    format!("orders of {node} in term {term} to run {}: {what}", orders.run.0.as_u128())
}
