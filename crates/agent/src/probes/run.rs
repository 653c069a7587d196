//! The schedule of one probe.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use squall_core::leader::FRESH_MS;
use squall_core::policy::Policy;
use squall_core::probe::{ProbeKind, ProbeSpec, Stage};
use squall_core::time::Time;
use squall_faults::clock;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, interval_at, timeout_at};

use super::sample;
use super::tally::{Outcome, Tallies};

/// Samples of all probes of one host that may be outstanding.
const MAX_PLACES: usize = 256;
/// Samples of one probe that may be outstanding; more are counted as overrun.
const MAX_OUTSTANDING: usize = 128;
/// The same for programs, which cost a process each.
const MAX_PROGRAMS: usize = 16;
/// The shortest schedule that is kept, whatever an order says.
const MIN_EVERY_MS: u64 = 10;

/// What all probes of this host share.
#[derive(Clone)]
pub(super) struct Means {
    /// Places for samples of all probes together: descriptors that the agent needs for lifting
    /// faults must not run out.
    pub places: Arc<Semaphore>,
    /// Places for names that are looked up.
    pub lookups: Arc<Semaphore>,
    /// The host's, which says what programs may be run.
    pub policy: Arc<Policy>,
}

impl Means {
    /// Of a host with this policy, all of them free.
    pub(super) fn new(policy: Policy) -> Means {
        Means {
            places: Arc::new(Semaphore::new(MAX_PLACES)),
            lookups: Arc::new(Semaphore::new(sample::MAX_LOOKUPS)),
            policy: Arc::new(policy),
        }
    }
}

/// What a probe's task and its owner share.
pub(super) struct Shared {
    /// And when an order said so last.
    stage: Mutex<(Stage, Time)>,
    tallies: Mutex<Tallies>,
}

impl Shared {
    pub(super) fn new(now: Time, stage: Stage) -> Shared {
        Shared { stage: Mutex::new((stage, now)), tallies: Mutex::default() }
    }

    pub(super) fn set_stage(&self, now: Time, stage: Stage) {
        let before = {
            let mut known = self.stage.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *known, (stage, now)).0
        };
        if before != stage {
            self.tallies().enter(now, stage);
        }
    }

    /// To which stage a sample counts that is due now; none where no order has said so lately: the
    /// experiment may have gone on without this host.
    fn stage(&self, now: Time) -> Option<Stage> {
        let (stage, said) = *self.stage.lock().unwrap_or_else(PoisonError::into_inner);
        (now.since(said) < FRESH_MS).then_some(stage)
    }

    pub(super) fn tallies(&self) -> MutexGuard<'_, Tallies> {
        // Counting cannot be left half done.
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this process runs. What was due, or under way, while it stood still says more of this host than
/// of who is asked.
struct Pulse {
    /// The last beat, and the end of the last time that it stood still.
    beats: Mutex<(Instant, Option<Instant>)>,
}

impl Pulse {
    const EVERY: Duration = Duration::from_millis(50);
    /// A beat may be so late on a busy host.
    const LATE: Duration = Duration::from_millis(150);

    fn new() -> Pulse {
        Pulse { beats: Mutex::new((Instant::now(), None)) }
    }

    fn beats(&self) -> MutexGuard<'_, (Instant, Option<Instant>)> {
        // Two moments cannot be left half set.
        self.beats.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn beat(&self) {
        let now = Instant::now();
        let mut beats = self.beats();
        if now.duration_since(beats.0) > Pulse::EVERY + Pulse::LATE {
            beats.1 = Some(now);
        }
        beats.0 = now;
    }

    /// Also where nobody has noticed yet.
    fn stood_still_since(&self, due: Instant) -> bool {
        let (last, woke) = *self.beats();
        last.elapsed() > Pulse::EVERY + Pulse::LATE || woke.is_some_and(|woke| woke > due)
    }
}

/// Takes samples for as long as orders say to which stage, open-loop: one is due each `every_ms`
/// whatever became of those before, and each one's latency counts from when it was due. Dropping the
/// future ends all samples that are outstanding; they are not counted. The timer's grain adds up to a
/// millisecond to each latency.
pub(super) async fn run(spec: ProbeSpec, shared: Arc<Shared>, means: Means) {
    let limit = match spec.kind {
        ProbeKind::Http { .. } | ProbeKind::Tcp { .. } => MAX_OUTSTANDING,
        ProbeKind::Exec { .. } => MAX_PROGRAMS,
    };
    let spec = Arc::new(spec);
    let every = Duration::from_millis(spec.every_ms.max(MIN_EVERY_MS));
    let mut schedule = interval_at(Instant::now(), every);
    schedule.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut outstanding = JoinSet::new();
    let pulse = Arc::new(Pulse::new());
    let mut beat = interval(Pulse::EVERY);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let due = tokio::select! {
            biased;
            _ = beat.tick() => {
                pulse.beat();
                continue;
            }
            due = schedule.tick() => due,
        };
        while outstanding.try_join_next().is_some() {}
        let now = clock::now();
        let Some(stage) = shared.stage(now) else { continue };
        let ticket = shared.tallies().due(now, stage);
        if pulse.stood_still_since(due) {
            shared.tallies().decide(&ticket, Outcome::Missed);
            continue;
        }
        let place = match means.places.clone().try_acquire_owned() {
            Ok(place) if outstanding.len() < limit => place,
            Ok(_) | Err(_) => {
                shared.tallies().decide(&ticket, Outcome::Overrun);
                continue;
            }
        };
        let (spec, shared, means) = (spec.clone(), shared.clone(), means.clone());
        let pulse = pulse.clone();
        outstanding.spawn(async move {
            let until = due + Duration::from_millis(spec.timeout_ms);
            let outcome = match timeout_at(until, sample::take(&spec.kind, &means)).await {
                Ok(Ok(())) => {
                    let us = due.elapsed().as_micros();
                    Outcome::Good(u64::try_from(us).unwrap_or(u64::MAX))
                }
                Ok(Err(why)) => Outcome::Bad(why),
                Err(_) => Outcome::Bad(format!("no answer within {} ms", spec.timeout_ms)),
            };
            let outcome = if pulse.stood_still_since(due) { Outcome::Missed } else { outcome };
            shared.tallies().decide(&ticket, outcome);
            drop(place);
        });
    }
}
