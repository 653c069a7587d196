//! What ends a fault, or what is done to those who hold it.

use std::time::Instant;

use crate::fleet::Fleet;

/// How long the faults are watched standing, in seconds, where that is the event.
const IDLE_S: u64 = 15;
/// How long a fault lasts whose own deadline is to end it, in seconds.
const SHORT_S: u64 = 6;
/// How long all others would last, in seconds.
const LONG_S: u64 = 60;
/// What a dead process, or an order, may take.
const PROMPT_MS: u64 = 1_000;
/// What a stop may take: an order, a lift, a proof and an answer, seen from the command line.
const STOP_MS: u64 = 2_000;
/// Beyond the lease.
const LEASE_MS: u64 = 500;

/// One way for a fault to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Event {
    /// `pkill -9 squall` on the host.
    Pkill,
    /// `pkill squall`: SIGTERM, as a service manager sends it.
    Term,
    /// SIGSTOP to everything of Squall's on the host.
    Freeze,
    /// SIGKILL to the agent alone.
    Agent,
    /// The same, and another agent at once; a second host holds the same faults.
    Restart,
    /// SIGKILL to the holders alone.
    Holder,
    /// SIGSTOP to the agent alone.
    FreezeAgent,
    /// SIGSTOP to the holders alone, and their children.
    FreezeHolder,
    /// SIGKILL to all coordinators.
    Coordinators,
    /// `squall stop`.
    Stop,
    /// Their own deadline.
    Deadline,
    /// `squall stop-all`.
    StopAll,
    /// Nothing, for a quarter of a minute; then `squall stop`.
    Idle,
}

impl Event {
    /// All of them, in the order of the table.
    pub const ALL: [Event; 13] = [
        Event::Pkill,
        Event::Term,
        Event::Freeze,
        Event::Agent,
        Event::Restart,
        Event::Holder,
        Event::FreezeAgent,
        Event::FreezeHolder,
        Event::Coordinators,
        Event::Stop,
        Event::Deadline,
        Event::StopAll,
        Event::Idle,
    ];

    /// Its name in the table, in JSON and on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Event::Pkill => "pkill",
            Event::Term => "term",
            Event::Freeze => "freeze",
            Event::Agent => "agent",
            Event::Restart => "restart",
            Event::Holder => "holder",
            Event::FreezeAgent => "freeze-agent",
            Event::FreezeHolder => "freeze-holder",
            Event::Coordinators => "coordinators",
            Event::Stop => "stop",
            Event::Deadline => "deadline",
            Event::StopAll => "stop-all",
            Event::Idle => "idle",
        }
    }

    /// How long the effect may last after it.
    #[must_use]
    pub fn limit_ms(self, lease_ms: u64) -> u64 {
        match self {
            Event::Pkill
            | Event::Term
            | Event::Agent
            | Event::Restart
            | Event::Holder
            | Event::Deadline => PROMPT_MS,
            Event::Freeze | Event::FreezeAgent | Event::FreezeHolder | Event::Coordinators => {
                lease_ms + LEASE_MS
            }
            Event::Stop | Event::StopAll | Event::Idle => STOP_MS,
        }
    }

    /// The only verdict that would be true.
    #[must_use]
    pub fn verdict(self) -> &'static str {
        match self {
            Event::Pkill
            | Event::Term
            | Event::Freeze
            | Event::Agent
            | Event::Restart
            | Event::Holder
            | Event::FreezeAgent
            | Event::FreezeHolder
            | Event::Coordinators => "unknown",
            Event::Stop | Event::StopAll | Event::Idle => "stopped",
            Event::Deadline => "held",
        }
    }

    /// The experiment's duration, in seconds.
    #[must_use]
    pub fn duration_s(self) -> u64 {
        if self == Event::Deadline { SHORT_S } else { LONG_S }
    }

    /// How long the faults are watched standing before the event, in milliseconds, beyond the first
    /// look at them.
    #[must_use]
    pub fn stand_ms(self) -> u64 {
        if self == Event::Idle { IDLE_S * 1_000 } else { 0 }
    }

    /// On which hosts the faults are held.
    #[must_use]
    pub fn hosts(self) -> &'static [&'static str] {
        if self == Event::Restart { &["h1", "h2"] } else { &["h1"] }
    }

    /// Lets it happen; returns the moment before it did. Holders of `h1` were there.
    pub(super) fn strike(self, fleet: &Fleet, id: &str, held: Instant) -> Instant {
        let now = Instant::now();
        let some = |count: usize, what: &str| assert!(count > 0, "no {what} was there");
        match self {
            Event::Pkill => drop(fleet.on("h1", &["pkill", "-9", "squall"]).ended(0)),
            Event::Term => drop(fleet.on("h1", &["pkill", "squall"]).ended(0)),
            Event::Freeze => drop(fleet.on("h1", &["pkill", "-STOP", "squall"]).ended(0)),
            Event::Agent => some(fleet.signal("h1", "agent", "KILL"), "agent"),
            Event::Restart => {
                some(fleet.signal("h1", "agent", "KILL"), "agent");
                fleet.revive("h1", "agent");
            }
            Event::Holder => some(fleet.signal("h1", "hold", "KILL"), "holder"),
            Event::FreezeAgent => some(fleet.signal("h1", "agent", "STOP"), "agent"),
            Event::FreezeHolder => {
                some(fleet.signal("h1", "hold", "STOP"), "holder");
                let _ = fleet.signal("h1", "burn", "STOP");
            }
            Event::Coordinators => {
                for host in COORDINATORS {
                    some(fleet.signal(host, "coordinator", "KILL"), "coordinator");
                }
            }
            Event::Stop | Event::Idle => drop(fleet.squall(&["stop", id]).ended(0)),
            Event::StopAll => drop(fleet.squall(&["stop-all"]).ended(0)),
            Event::Deadline => return held + std::time::Duration::from_secs(SHORT_S),
        }
        now
    }

    /// Makes whole what was broken, so that what could come back may try.
    pub(super) fn mend(self, fleet: &Fleet) {
        match self {
            Event::Pkill | Event::Term | Event::Agent => fleet.revive("h1", "agent"),
            Event::Freeze | Event::FreezeAgent => drop(fleet.signal("h1", "agent", "CONT")),
            Event::Coordinators => {
                for host in COORDINATORS {
                    fleet.revive(host, "coordinator");
                }
            }
            Event::StopAll => {
                let status = fleet.json(&["status"]);
                let stops = status["cluster"]["stops"].as_array().cloned().unwrap_or_default();
                let ids: Vec<&str> = stops.iter().filter_map(|s| s.as_str()).collect();
                let _ = fleet.squall(&[&["resume"], ids.as_slice()].concat()).ended(0);
            }
            Event::Restart
            | Event::Holder
            | Event::FreezeHolder
            | Event::Stop
            | Event::Deadline
            | Event::Idle => {}
        }
    }
}

const COORDINATORS: [&str; 3] = ["c1", "c2", "c3"];
