//! Probes: how the steady state is asked after, and what counts as steady.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::HostName;
use crate::message::{ProbeOrder, ProbeReport};
use crate::spec::{ErrorRate, Latency};
use crate::time::Time;

/// Samples that a stage needs before it says anything but unknown.
pub const MIN_SAMPLES: u64 = 5;

/// Samples that a percentile needs before it may end an experiment early.
pub const MIN_PERCENTILE: u64 = 100;

/// How an experiment file names the coordinators as those who run a probe.
pub const COORDINATOR: &str = "coordinator";

/// Who runs a probe.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Vantage {
    /// This host's agent.
    Host(HostName),
    /// Every coordinator, so that one that begins to lead has seen what the last one saw; the samples of
    /// the one that leads count.
    Coordinators,
}

impl fmt::Display for Vantage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Vantage::Host(name) => name.fmt(f),
            Vantage::Coordinators => f.write_str(COORDINATOR),
        }
    }
}

/// Whoever runs probes.
pub trait Prober: Send {
    /// What is wanted, `as_of` this moment: those named run, the others end.
    fn set(&mut self, as_of: Time, orders: &[ProbeOrder]);

    /// What they have seen. Those that nobody has named for long end and are forgotten.
    fn reports(&mut self, now: Time) -> Vec<ProbeReport>;
}

/// One probe, run open-loop: a sample is due each `every_ms` whatever became of the
/// one before, and its latency counts from when it was due.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProbeSpec {
    /// Its name, unique in the experiment.
    pub name: String,
    /// Who runs it.
    pub from: Vantage,
    /// What a sample does.
    pub kind: ProbeKind,
    /// The schedule, at least 10 ms.
    pub every_ms: u64,
    /// A sample that takes longer has failed.
    pub timeout_ms: u64,
    /// What counts as steady.
    pub expect: Expect,
}

/// What one sample does.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ProbeKind {
    /// GET of an `http://` URL; good when the status is `status` and the answer has come to its end (or, of
    /// a long one, its first MiB).
    Http {
        /// The URL.
        url: String,
        /// The status that is good.
        status: u16,
    },
    /// A TCP connection to `host:port`; good when it is established.
    Tcp {
        /// Address and port.
        address: String,
    },
    /// A program, no shell; good when it exits with 0.
    Exec {
        /// Path and arguments.
        argv: Vec<String>,
    },
}

/// The bounds of steady; a latency that is `None` is not judged. The default forgives no error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Expect {
    /// Failed samples of a million sent, at most.
    pub max_errors_per_million: u32,
    /// The 99th percentile of good samples' latency in microseconds, at most.
    pub max_p99_us: Option<u64>,
    /// The median of good samples' latency in microseconds, at most.
    pub max_p50_us: Option<u64>,
}

/// When a sample was taken, as seen from the experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Before anything was injected.
    Before,
    /// While faults were held or being held.
    During,
    /// After they were lifted.
    After,
}

impl Stage {
    /// Its one name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Before => "before",
            Stage::During => "during",
            Stage::After => "after",
        }
    }
}

/// All samples of one probe in one stage so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tally {
    /// Samples that were due and are decided.
    pub sent: u64,
    /// Good ones.
    pub ok: u64,
    /// The others: refused, timed out, wrong answer.
    pub failed: u64,
    /// Those of `missed` that were not sent because too many were outstanding.
    pub overrun: u64,
    /// Samples that were due and not taken, because whoever takes them did not run just then, or had no
    /// room: they say nothing of who is asked, and are in none of the others.
    pub missed: u64,
    /// Those that are not decided, and outstanding for longer than any good one took: not in `sent`,
    /// and bad unless shown good.
    pub hanging: u64,
    /// Median latency of the good ones, in microseconds.
    pub p50_us: u64,
    /// 99th percentile of it.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
    /// What the last bad sample said; empty where none was bad.
    pub last_error: String,
    /// Milliseconds since the first sample of this stage was due.
    pub elapsed_ms: u64,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} samples failed", self.failed, self.sent)?;
        // Of none that answered there is no latency.
        if self.ok > 0 {
            let ms = |us: u64| us as f64 / 1000.0;
            write!(f, ", p50 {:.1} ms, p99 {:.1} ms", ms(self.p50_us), ms(self.p99_us))?;
        }
        if self.sent < MIN_SAMPLES {
            write!(f, ", and fewer than {MIN_SAMPLES} samples say nothing")?;
        }
        if self.missed > 0 {
            write!(f, ", {} missed by whoever takes them", self.missed)?;
        }
        if self.hanging > 0 {
            write!(f, ", {} without an answer yet", self.hanging)?;
        }
        if !self.last_error.is_empty() {
            write!(f, " (last: {})", self.last_error)?;
        }
        Ok(())
    }
}

/// Whether a stage was steady.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Steadiness {
    /// Every bound was kept.
    Steady,
    /// Too few samples to say.
    Unknown,
    /// A bound was broken.
    Deviated,
}

impl Steadiness {
    /// Its one name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Steadiness::Steady => "steady",
            Steadiness::Unknown => "unknown",
            Steadiness::Deviated => "deviated",
        }
    }
}

impl Expect {
    /// Judges one stage. No data is never steady, and neither is what would be off were every hanging
    /// sample a bad one.
    #[must_use]
    pub fn judge(&self, tally: &Tally) -> Steadiness {
        let with = |n: u64| n.saturating_add(tally.hanging);
        let (sent, failed) = (with(tally.sent), with(tally.failed));
        let at_worst = self.judge_decided(&Tally { sent, failed, ..tally.clone() });
        match (self.judge_decided(tally), at_worst) {
            (Steadiness::Steady, Steadiness::Deviated) => Steadiness::Unknown,
            (decided, _) => decided,
        }
    }

    fn judge_decided(&self, tally: &Tally) -> Steadiness {
        if tally.sent < MIN_SAMPLES {
            return Steadiness::Unknown;
        }
        // failed / sent > limit, without floats
        let limit = u128::from(self.max_errors_per_million);
        let errors_over = u128::from(tally.failed) * 1_000_000 > limit * u128::from(tally.sent);
        let slow = |limit: Option<u64>, us: u64| limit.is_some_and(|limit| us > limit);
        let all_failed = tally.ok == 0;
        if errors_over
            || all_failed
            || slow(self.max_p99_us, tally.p99_us)
            || slow(self.max_p50_us, tally.p50_us)
        {
            Steadiness::Deviated
        } else {
            Steadiness::Steady
        }
    }

    /// Whether hanging samples decide how a stage is judged: they will be decided themselves, by their
    /// time-out at the latest.
    #[must_use]
    pub fn waits_for_more(&self, tally: &Tally) -> bool {
        tally.hanging > 0 && self.judge(tally) == Steadiness::Unknown
    }

    /// Whether so many samples, one each `every_ms`, cover a stage that was to last `wanted_ms`: all but
    /// a tenth, and what a host may go without orders, and two thirds of it at least. A probe whose host
    /// was not heard, did not run, or began anew, has seen only a part of it.
    #[must_use]
    pub fn covers(tally: &Tally, every_ms: u64, wanted_ms: u64) -> bool {
        let seen_ms = tally.sent.saturating_add(tally.hanging).saturating_mul(every_ms);
        let spare_ms = (wanted_ms / 10 + crate::leader::FRESH_MS).min(wanted_ms / 3);
        seen_ms.saturating_add(spare_ms) >= wanted_ms
    }

    /// Whether a stage of `planned` samples in all, less what was missed, is lost already. Errors are a budget:
    /// a burst at the moment of the cut, which the rest of the stage can make up for, ends nothing; one that
    /// no rest can make up for ends it at once. Percentiles count from [`MIN_PERCENTILE`] samples on.
    #[must_use]
    pub fn is_lost(&self, tally: &Tally, planned: u64) -> bool {
        let seen = tally.sent.saturating_add(tally.hanging);
        let all = u128::from(planned.saturating_sub(tally.missed).max(seen));
        let spent = u128::from(tally.failed) * 1_000_000;
        let over_budget = spent > u128::from(self.max_errors_per_million) * all;
        let latency = Expect { max_errors_per_million: 1_000_000, ..*self };
        let slow = tally.sent >= MIN_PERCENTILE
            && tally.ok > 0
            && latency.judge_decided(tally) == Steadiness::Deviated;
        tally.sent >= MIN_SAMPLES && (over_budget || slow)
    }

    /// The bounds in words.
    fn bounds(&self) -> Vec<String> {
        let errors = format!("error-rate {}", ErrorRate(self.max_errors_per_million));
        let slower = |name, limit: Option<u64>| limit.map(|us| format!("{name} {}", Latency(us)));
        let [p50, p99] = [slower("p50", self.max_p50_us), slower("p99", self.max_p99_us)];
        [Some(errors), p50, p99].into_iter().flatten().collect()
    }
}

impl ProbeSpec {
    /// What is asked, and what counts as steady, in words.
    #[must_use]
    pub fn expected(&self) -> String {
        let answer = match &self.kind {
            ProbeKind::Http { url, status } => format!("GET {url}: status {status}"),
            ProbeKind::Tcp { address } => format!("TCP {address}: a connection"),
            ProbeKind::Exec { argv } => format!("{}: exit code 0", argv.join(" ")),
        };
        let parts = [vec![answer], self.expect.bounds()].concat();
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(sent: u64, failed: u64, p99_us: u64) -> Tally {
        Tally { sent, ok: sent - failed, failed, p99_us, ..Tally::default() }
    }

    #[test]
    fn no_data_is_unknown_and_no_success_is_a_deviation() {
        assert_eq!(Expect::default().judge(&tally(0, 0, 0)), Steadiness::Unknown);
        assert_eq!(Expect::default().judge(&tally(4, 0, 0)), Steadiness::Unknown);
        assert_eq!(Expect::default().judge(&tally(50, 50, 0)), Steadiness::Deviated);
        let lenient = Expect { max_errors_per_million: 1_000_000, ..Expect::default() };
        assert_eq!(lenient.judge(&tally(50, 50, 0)), Steadiness::Deviated);
        assert_eq!(lenient.judge(&tally(50, 49, 0)), Steadiness::Steady);
        assert_eq!(Expect::default().judge(&tally(50, 1, 0)), Steadiness::Deviated);
    }

    #[test]
    fn a_burst_that_the_rest_can_make_up_for_ends_nothing() {
        let expect = Expect { max_errors_per_million: 200_000, ..Expect::default() };
        assert_eq!(expect.judge(&tally(10, 10, 0)), Steadiness::Deviated);
        assert!(!expect.is_lost(&tally(10, 10, 0), 100), "10 of 100 is within a fifth");
        assert!(!expect.is_lost(&tally(30, 20, 0), 100));
        assert!(expect.is_lost(&tally(30, 21, 0), 100), "no success could mend it");
        assert!(expect.is_lost(&tally(200, 41, 0), 100), "more were sent than planned");
        assert!(!Expect::default().is_lost(&tally(50, 0, 0), 100));
        assert!(Expect::default().is_lost(&tally(50, 1, 0), 100), "none may fail");
        let expect = Expect { max_p99_us: Some(250_000), ..Expect::default() };
        assert!(!expect.is_lost(&tally(99, 0, 250_001), 1_000));
        assert!(expect.is_lost(&tally(100, 0, 250_001), 1_000));
    }

    #[test]
    fn what_hangs_is_bad_unless_shown_good() {
        let expect = Expect { max_errors_per_million: 100_000, ..Expect::default() };
        let hangs = |failed, hanging| Tally { hanging, ..tally(90, failed, 0) };
        for (failed, hanging, judged) in [
            (0, 10, Steadiness::Steady),
            (0, 11, Steadiness::Unknown),
            (10, 0, Steadiness::Deviated),
        ] {
            let seen = hangs(failed, hanging);
            assert_eq!(expect.judge(&seen), judged, "{seen:?}");
            assert_eq!(expect.waits_for_more(&seen), judged == Steadiness::Unknown);
            assert!(!expect.is_lost(&hangs(0, hanging), 100), "they may still be good");
        }
    }

    #[test]
    fn bounds_are_kept_to_the_sample() {
        let expect = Expect { max_errors_per_million: 10_000, ..Expect::default() };
        assert_eq!(expect.judge(&tally(100, 1, 0)), Steadiness::Steady);
        assert_eq!(expect.judge(&tally(100, 2, 0)), Steadiness::Deviated);
        let expect = Expect { max_p99_us: Some(250_000), ..Expect::default() };
        assert_eq!(expect.judge(&tally(100, 0, 250_000)), Steadiness::Steady);
        assert_eq!(expect.judge(&tally(100, 0, 250_001)), Steadiness::Deviated);
        let expect = Expect { max_p50_us: Some(100), ..Expect::default() };
        let median = |p50_us| Tally { p50_us, ..tally(100, 0, 250_001) };
        assert_eq!(expect.judge(&median(100)), Steadiness::Steady);
        assert_eq!(expect.judge(&median(101)), Steadiness::Deviated);
    }

    #[test]
    fn what_was_missed_makes_up_for_nothing() {
        let half = Expect { max_errors_per_million: 500_000, ..Expect::default() };
        let missed = |missed| Tally { missed, ..tally(100, 100, 0) };
        assert!(!half.is_lost(&missed(0), 300), "two hundred may yet be good");
        assert!(!half.is_lost(&missed(100), 300));
        assert!(half.is_lost(&missed(101), 300));
    }

    #[test]
    fn a_short_stage_is_covered_by_two_thirds_of_it_and_not_by_nothing() {
        assert!(!Expect::covers(&tally(0, 0, 0), 100, 3_000));
        assert!(!Expect::covers(&tally(19, 0, 0), 100, 3_000));
        assert!(Expect::covers(&tally(20, 0, 0), 100, 3_000));
    }
}
