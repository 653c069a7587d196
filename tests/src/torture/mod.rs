//! Torture: every fault, ended in every way that there is, on real hosts, by a watch of its own.
//!
//! One *trial* is a lab, one or more faults on `h1`, and one event. Each fault of it makes a *cell*:
//! whether it bit before the event, how long after the event its effect was gone, and what is left
//! on the host against a snapshot from before. Nothing here asks Squall what it thinks it did, but
//! for the verdict, which is then compared with what was seen.

mod burners;
mod event;
mod probe;
mod snapshot;
mod table;
mod trial;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use squall_cluster::Up;
use squall_core::fault::Kind;

use crate::fleet::Fleet;
pub use event::Event;
pub use probe::{Probe, SPAN, form};
pub use snapshot::Snapshot;
pub use table::table;
use trial::Trial;

/// Characters of a panic that a cell repeats; all of it is on stderr.
const MAX_WORDS: usize = 300;

/// What one trial is to do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The faults that `h1` holds at the same time.
    pub faults: Vec<Kind>,
    /// What ends them.
    pub event: Event,
    /// Counts the repetitions, and is the seed of the moment at which the event strikes.
    pub round: u32,
    /// The lease that the experiment asks for, in milliseconds.
    pub lease_ms: u64,
    /// Added to every limit, for machines that do much else at the same time.
    pub slack_ms: u64,
    /// A lab without IPv4.
    pub ipv6_only: bool,
}

/// What came of one fault in one trial.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Its name.
    pub fault: &'static str,
    /// The event's name.
    pub event: &'static str,
    /// Which repetition.
    pub round: u32,
    /// The effect was seen, all the time until the event.
    pub bit: bool,
    /// What differs on the host from before, one line each.
    pub residue: Vec<String>,
    /// From the event to the last trace of the effect; `None` where it did not go.
    pub lift_ms: Option<u64>,
    /// The longest that this may take.
    pub limit_ms: u64,
    /// What else is wrong. Empty where nothing is.
    pub wrong: Vec<String>,
    /// For whoever reads the table.
    pub note: String,
}

impl Cell {
    fn blank(plan: &Plan, kind: Kind) -> Cell {
        Cell {
            fault: kind.name(),
            event: plan.event.name(),
            round: plan.round,
            bit: false,
            residue: Vec::new(),
            lift_ms: None,
            limit_ms: plan.event.limit_ms(plan.lease_ms) + plan.slack_ms,
            wrong: Vec::new(),
            note: String::new(),
        }
    }

    /// Bit, went in time, left nothing, and nothing else was wrong.
    #[must_use]
    pub fn is_good(&self) -> bool {
        let in_time = self.lift_ms.is_some_and(|ms| ms <= self.limit_ms);
        self.bit && in_time && self.residue.is_empty() && self.wrong.is_empty()
    }

    fn json(&self) -> Value {
        let notes = self.wrong.iter().chain((!self.note.is_empty()).then_some(&self.note));
        json!({
            "fault": self.fault, "event": self.event, "round": self.round, "bit": self.bit,
            "residue": self.residue, "lift_ms": self.lift_ms, "limit_ms": self.limit_ms,
            "good": self.is_good(), "note": notes.cloned().collect::<Vec<_>>().join("; "),
        })
    }
}

/// All cells, as DESIGN 10 says.
#[must_use]
pub fn json(cells: &[Cell]) -> Value {
    json!({ "cells": cells.iter().map(Cell::json).collect::<Vec<_>>() })
}

/// Runs the trials, `jobs` labs at a time, and says what came of each as soon as it is known.
///
/// # Panics
/// `told` does. A trial's own panic is a failed cell.
pub fn run_all(plans: &[Plan], jobs: usize, told: impl Fn(&Plan, &[Cell]) + Sync) -> Vec<Cell> {
    let (next, cells) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, plans.len().max(1)) {
            scope.spawn(|| {
                while let Some(plan) = plans.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = run(plan);
                    told(plan, &found);
                    cells.lock().expect("nobody panics holding it").extend(found);
                }
            });
        }
    });
    cells.into_inner().expect("nobody panics holding it")
}

/// Runs one trial: a cell for each of its faults. What goes wrong is in the cells.
#[must_use]
pub fn run(plan: &Plan) -> Vec<Cell> {
    let said = catch_unwind(AssertUnwindSafe(|| {
        let up = Up { hosts: 5, coordinators: 3, ipv6_only: plan.ipv6_only, ..Default::default() };
        let fleet = Fleet::up(&up);
        let said = catch_unwind(AssertUnwindSafe(|| Trial::new(plan, &fleet).cells()));
        if !said.as_ref().is_ok_and(|cells| cells.iter().all(Cell::is_good)) {
            eprintln!("the logs of this trial: {}", keep_logs(&fleet).display());
        }
        said
    }));
    let panic = match said {
        Ok(Ok(cells)) => return cells,
        Ok(Err(panic)) | Err(panic) => panic,
    };
    let words = panic.downcast_ref::<String>().cloned();
    let words = words.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
    let words = words.unwrap_or_else(|| "a panic without words".to_owned());
    let words: String = words.chars().take(MAX_WORDS).collect();
    let broken = |kind: &Kind| Cell { wrong: vec![words.clone()], ..Cell::blank(plan, *kind) };
    plan.faults.iter().map(broken).collect()
}

fn keep_logs(fleet: &Fleet) -> PathBuf {
    let kept = std::env::temp_dir().join(format!("squall-torture-{}", fleet.lab.name()));
    let mut copy = std::process::Command::new("cp");
    copy.arg("-r").arg(fleet.lab.dir().join("hosts")).arg(&kept);
    let _ = crate::fleet::run(copy);
    kept
}
