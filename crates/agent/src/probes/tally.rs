//! What one probe has seen, stage by stage.

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

/// How a sample went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Good after so many microseconds, counted from when it was due.
    Good(u64),
    /// Bad, in words.
    Bad(String),
    /// Not sent: too many were outstanding.
    Overrun,
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
    last_error: String,
}

/// All stages so far.
#[derive(Default)]
pub(super) struct Tallies {
    stages: Vec<OfStage>,
}

impl Tallies {
    /// A sample of `stage` is due.
    pub(super) fn due(&mut self, now: Time, stage: Stage) {
        for other in self.stages.iter_mut().filter(|s| s.stage != stage) {
            other.left.get_or_insert(now);
        }
        match self.stages.iter_mut().find(|s| s.stage == stage) {
            Some(known) => known.left = None,
            None => self.stages.push(OfStage {
                stage,
                first_due: now,
                left: None,
                latencies: Histogram::new_with_bounds(1, MAX_LATENCY_US, DIGITS)
                    .expect("constant bounds that hdrhistogram allows"),
                ok: 0,
                failed: 0,
                overrun: 0,
                last_error: String::new(),
            }),
        }
    }

    /// A sample that was due in `stage` is decided.
    pub(super) fn decide(&mut self, stage: Stage, outcome: Outcome) {
        let Some(of) = self.stages.iter_mut().find(|s| s.stage == stage) else { return };
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
                of.failed += 1;
                of.overrun += 1;
                of.last_error = "too many samples are outstanding".to_owned();
            }
        }
    }

    pub(super) fn report(&self, now: Time) -> Vec<(Stage, Tally)> {
        let tally = |of: &OfStage| Tally {
            sent: of.ok + of.failed,
            ok: of.ok,
            failed: of.failed,
            overrun: of.overrun,
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
        tallies.due(Time(1_000), Stage::Before);
        tallies.due(Time(2_000), Stage::During);
        tallies.decide(Stage::Before, Outcome::Good(1_500));
        tallies.decide(Stage::During, Outcome::Bad("refused".into()));
        tallies.decide(Stage::During, Outcome::Overrun);
        let report = tallies.report(Time(5_000));
        let (before, during) = (&report[0].1, &report[1].1);
        assert_eq!((before.sent, before.ok, before.elapsed_ms), (1, 1, 1_000));
        assert!(before.p50_us.abs_diff(1_500) <= 15 && before.max_us >= 1_500, "{before:?}");
        assert_eq!((during.sent, during.ok, during.failed, during.overrun), (2, 0, 2, 1));
        assert_eq!((during.elapsed_ms, during.max_us), (3_000, 0));
    }

    #[test]
    fn errors_are_cut() {
        let mut tallies = Tallies::default();
        tallies.due(Time(0), Stage::After);
        tallies.decide(Stage::After, Outcome::Bad("ä".repeat(10_000)));
        assert_eq!(tallies.report(Time(0))[0].1.last_error.chars().count(), MAX_ERROR);
    }
}
