//! What one probe has seen, stage by stage.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use squall_core::probe::{Stage, Tally};
use squall_core::time::Time;

/// The longest latency that is told from longer ones, in microseconds; a sample's time-out ends it
/// sooner.
const MAX_LATENCY_US: u64 = 600_000_000;
/// Decimal digits of a latency that are kept.
const DIGITS: u8 = 2;
/// Characters of an error that are kept.
const MAX_ERROR: usize = 200;
/// A sample that is outstanding for less than this does not hang, however fast others were.
const HANGS_MS: u64 = 1_000;

/// A sample that is due and not decided.
pub(super) struct Ticket(u64);

/// How a sample went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Good after so many microseconds, counted from when it was due.
    Good(u64),
    /// Bad, in words.
    Bad(String),
    /// Not sent: too many were outstanding.
    Overrun,
    /// Not taken in its time.
    Missed,
}

struct OfStage {
    stage: Stage,
    first_due: Time,
    /// When the samples began to count to another stage.
    left: Option<Time>,
    latencies: Histogram<u32>,
    ok: u64,
    failed: u64,
    overrun: u64,
    missed: u64,
    last_error: String,
    /// When each sample was due that is not decided.
    outstanding: BTreeMap<u64, Time>,
}

impl OfStage {
    /// Samples that are outstanding for twice as long as any good one took.
    fn hanging(&self, now: Time) -> u64 {
        let longest_ms = if self.ok == 0 { 0 } else { self.latencies.max() / 1_000 };
        let limit_ms = HANGS_MS.max(2 * longest_ms);
        self.outstanding.values().filter(|due| now.since(**due) > limit_ms).count() as u64
    }
}

/// All stages so far.
#[derive(Default)]
pub(super) struct Tallies {
    stages: Vec<OfStage>,
    tickets: u64,
}

impl Tallies {
    /// From now on samples count to `stage`. What is outstanding when faults begin is hurt or not by them.
    pub(super) fn enter(&mut self, now: Time, stage: Stage) {
        for other in self.stages.iter_mut().filter(|s| s.stage != stage) {
            other.left.get_or_insert(now);
        }
        if stage == Stage::During {
            let before = self.stages.iter_mut().find(|s| s.stage == Stage::Before);
            let late = before.map(|b| std::mem::take(&mut b.outstanding)).unwrap_or_default();
            if !late.is_empty() {
                self.of(now, stage).outstanding.extend(late);
            }
        }
    }

    /// A sample of `stage` is due.
    pub(super) fn due(&mut self, now: Time, stage: Stage) -> Ticket {
        self.tickets += 1;
        self.enter(now, stage);
        let ticket = self.tickets;
        let of = self.of(now, stage);
        of.left = None;
        of.outstanding.insert(ticket, now);
        Ticket(ticket)
    }

    fn of(&mut self, now: Time, stage: Stage) -> &mut OfStage {
        let place = self.stages.iter().position(|s| s.stage == stage).unwrap_or_else(|| {
            self.stages.push(OfStage {
                stage,
                first_due: now,
                left: None,
                latencies: Histogram::new_with_bounds(1, MAX_LATENCY_US, DIGITS)
                    .expect("constant bounds that hdrhistogram allows"),
                ok: 0,
                failed: 0,
                overrun: 0,
                missed: 0,
                last_error: String::new(),
                outstanding: BTreeMap::new(),
            });
            self.stages.len() - 1
        });
        &mut self.stages[place]
    }

    /// What is outstanding will not be decided.
    pub(super) fn forget_outstanding(&mut self) {
        self.stages.iter_mut().for_each(|of| of.outstanding.clear());
    }

    /// A sample is decided. It counts to the stage in which it was due; one that was due before anything
    /// was injected and is decided afterwards, to the time of the faults.
    pub(super) fn decide(&mut self, ticket: &Ticket, outcome: Outcome) {
        let of = self.stages.iter_mut().find_map(|of| of.outstanding.remove(&ticket.0).map(|_| of));
        let Some(of) = of else { return };
        match outcome {
            Outcome::Good(us) => {
                of.ok += 1;
                of.latencies.saturating_record(us.max(1));
            }
            Outcome::Bad(why) => {
                of.failed += 1;
                of.last_error = why.chars().take(MAX_ERROR).collect();
            }
            Outcome::Overrun => {
                of.missed += 1;
                of.overrun += 1;
            }
            Outcome::Missed => of.missed += 1,
        }
    }

    pub(super) fn report(&self, now: Time) -> Vec<(Stage, Tally)> {
        let tally = |of: &OfStage| Tally {
            sent: of.ok + of.failed,
            ok: of.ok,
            failed: of.failed,
            overrun: of.overrun,
            missed: of.missed,
            hanging: of.hanging(now),
            p50_us: of.latencies.value_at_quantile(0.5),
            p99_us: of.latencies.value_at_quantile(0.99),
            max_us: if of.ok == 0 { 0 } else { of.latencies.max() },
            last_error: of.last_error.clone(),
            elapsed_ms: of.left.unwrap_or(now).since(of.first_due),
        };
        self.stages.iter().map(|of| (of.stage, tally(of))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_count_to_the_stage_in_which_they_were_due() {
        let mut tallies = Tallies::default();
        let before = tallies.due(Time(1_000), Stage::Before);
        let late = tallies.due(Time(1_500), Stage::Before);
        tallies.decide(&before, Outcome::Good(1_500));
        // Decided before another one is due.
        let reset = tallies.due(Time(1_600), Stage::Before);
        tallies.enter(Time(2_000), Stage::During);
        tallies.decide(&reset, Outcome::Bad("reset by what is held now".into()));
        let during = [2_000, 3_000].map(|t| tallies.due(Time(t), Stage::During));
        tallies.decide(&late, Outcome::Bad("hurt by what was held meanwhile".into()));
        tallies.decide(&during[0], Outcome::Bad("refused".into()));
        tallies.decide(&during[1], Outcome::Overrun);
        let missed = tallies.due(Time(3_500), Stage::During);
        tallies.decide(&missed, Outcome::Missed);
        let report = tallies.report(Time(5_000));
        let (before, during) = (&report[0].1, &report[1].1);
        assert_eq!((before.sent, before.ok, before.elapsed_ms), (1, 1, 1_000));
        assert!(before.p50_us.abs_diff(1_500) <= 15 && before.max_us >= 1_500, "{before:?}");
        assert_eq!((during.sent, during.ok, during.failed), (3, 0, 3));
        assert_eq!((during.missed, during.overrun), (2, 1), "what is not taken says nothing");
        assert_eq!((during.elapsed_ms, during.max_us), (3_000, 0));
    }

    #[test]
    fn what_is_outstanding_for_longer_than_good_ones_take_hangs_until_it_is_decided() {
        let mut tallies = Tallies::default();
        let quick = tallies.due(Time(0), Stage::After);
        tallies.decide(&quick, Outcome::Good(900_000));
        let slow = tallies.due(Time(100), Stage::After);
        tallies.due(Time(200), Stage::After);
        let hanging = |tallies: &Tallies, t| tallies.report(Time(t))[0].1.hanging;
        assert_eq!([1_800, 1_950, 3_000].map(|t| hanging(&tallies, t)), [0, 1, 2]);
        tallies.decide(&slow, Outcome::Good(2_900_000));
        assert_eq!(hanging(&tallies, 3_000), 0, "others are that slow");
        tallies.forget_outstanding();
        assert_eq!(hanging(&tallies, 60_000), 0);
    }

    #[test]
    fn errors_are_cut() {
        let mut tallies = Tallies::default();
        let ticket = tallies.due(Time(0), Stage::After);
        tallies.decide(&ticket, Outcome::Bad("ä".repeat(10_000)));
        assert_eq!(tallies.report(Time(0))[0].1.last_error.chars().count(), MAX_ERROR);
    }
}
