//! From a file to an experiment.

use std::collections::BTreeSet;

use super::problem::Problems;
use super::{
    DEFAULT_BASELINE, DEFAULT_EVERY, DEFAULT_RECOVERY, FaultForm, File, Fleet, MAX_FAULTS,
    MAX_NAME, MAX_PROBES, Millis, OnLoss, Problem, RadiusOf, faults, probes, targets,
};
use crate::experiment::{DEFAULT_LEASE_MS, Experiment, LEASE_MS, MAX_DURATION_MS, Safety};
use crate::fault::Fault;
use crate::ids::HostName;
use crate::probe::MIN_SAMPLES;
use crate::radius::DEFAULT_EXPERIMENT_PPM;
use crate::seed::Dice;

/// Looks every name of `file` up in `fleet` and checks what can be checked without asking a host.
/// What is drawn by chance is drawn by `seed` alone: the same arguments give the same experiment.
///
/// # Errors
/// Every problem there is, in the order of the file, as far as one does not hide another.
pub fn resolve(file: &File, fleet: &Fleet, seed: u128) -> Result<Experiment, Vec<Problem>> {
    let mut problems = Problems::default();
    check_names(file, &mut problems);
    let mut dice = Dice::new(seed);
    let alone = |h: &HostName| file.faults.iter().any(|form| faults::no_peer_but(h, form, fleet));
    let targets = targets::choose(&file.targets, fleet, alone, &mut dice, &mut problems);
    if file.faults.is_empty() {
        problems.add("faults", "there is none", "write at least one");
    }
    if file.faults.len() > MAX_FAULTS {
        let what = format!("{} faults are too many", file.faults.len());
        problems.add("faults", what, format!("write at most {MAX_FAULTS}"));
    }
    let mut placements = Vec::new();
    let mut touched = BTreeSet::new();
    for (index, form) in (0_u16..).zip(file.faults.iter().take(MAX_FAULTS)) {
        // Each fault draws from the seed by its position, whatever the others draw.
        let seed = seed.wrapping_add(u128::from(index) + 1);
        let around = faults::Place { fleet, targets: &targets, seed, duration_ms: file.duration.0 };
        let (placed, reached) = faults::place(index, form, &around, &mut problems);
        placements.extend(placed);
        touched.extend(reached);
    }
    for placement in &placements {
        touched.remove(&placement.host);
    }
    if file.duration.0 > MAX_DURATION_MS {
        let what = format!("{} is too long", file.duration);
        problems.add("duration", what, format!("write at most {}", Millis(MAX_DURATION_MS)));
    }
    let holders: BTreeSet<_> = placements.iter().map(|p| p.host.clone()).collect();
    let holders: Vec<_> = if holders.is_empty() { targets } else { holders.into_iter().collect() };
    let probes = probes::resolve(
        &file.steady_state[..file.steady_state.len().min(MAX_PROBES)],
        fleet,
        &probes::Hurt { holders: &holders, touched: &touched },
        &mut problems,
    );
    let (baseline_ms, recovery_ms) = sampling(file, &mut problems);
    let safety = safety(file, &mut problems);
    problems.into_result(Some(Experiment {
        name: file.name.clone(),
        objective: file.objective.clone(),
        faults: placements,
        duration_ms: file.duration.0,
        probes,
        baseline_ms,
        recovery_ms,
        safety,
        touched,
    }))
}

/// One fault for one host that belongs to no fleet, held for `length` at most.
///
/// # Errors
/// Every problem; names of hosts and groups, shapes and severed control are among them.
pub fn resolve_local(form: &FaultForm, length: Millis) -> Result<Fault, Vec<Problem>> {
    let mut problems = Problems::default();
    let fault = faults::alone(form, &mut problems);
    let fault = problems.into_result(fault)?;
    match fault.validate().and_then(|()| fault.check_length(length.0)) {
        Ok(()) => Ok(fault),
        Err(invalid) => Err(vec![Problem {
            path: invalid.fault.to_string(),
            what: invalid.what,
            remedy: String::new(),
            passing: false,
        }]),
    }
}

fn check_names(file: &File, problems: &mut Problems) {
    let remedy = format!("write 1 to {MAX_NAME} printable characters");
    if file.name.trim().is_empty() {
        problems.add("name", "it is empty", remedy);
    } else if file.name.chars().count() > MAX_NAME {
        problems.add("name", "it is too long", remedy);
    } else if file.name.chars().any(char::is_control) {
        problems.add("name", "it is not printable", remedy);
    }
    if file.objective.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        problems.add("objective", "it is not printable", "write text and lines");
    }
    if file.objective.chars().count() > 10 * MAX_NAME {
        problems.add("objective", "it is too long", format!("write at most {}", 10 * MAX_NAME));
    }
}

/// How long before and after the steady state is sampled: not at all where there is none.
fn sampling(file: &File, problems: &mut Problems) -> (u64, u64) {
    let stages = [("baseline", file.baseline), ("recovery", file.recovery)];
    if file.steady_state.is_empty() {
        for (path, _) in stages.iter().filter(|(_, asked)| asked.is_some()) {
            let remedy = "write steady-state, or leave it out";
            problems.add(*path, "there is no probe to sample", remedy);
        }
        return (0, 0);
    }
    if file.steady_state.len() > MAX_PROBES {
        let what = format!("{} probes are too many", file.steady_state.len());
        problems.add("steady-state", what, format!("write at most {MAX_PROBES}"));
    }
    for (path, asked) in stages {
        if let Some(asked) = asked.filter(|a| a.0 > MAX_DURATION_MS) {
            let remedy = format!("write at most {}", Millis(MAX_DURATION_MS));
            problems.add(path, format!("{asked} is too long"), remedy);
        }
    }
    let baseline = file.baseline.unwrap_or(DEFAULT_BASELINE);
    let recovery = file.recovery.unwrap_or(DEFAULT_RECOVERY);
    let stages = [("baseline", baseline), ("duration", file.duration), ("recovery", recovery)];
    for (n, probe) in file.steady_state.iter().enumerate() {
        let every = probe.every.unwrap_or(DEFAULT_EVERY);
        // The first is due at once.
        let least = Millis(every.0.saturating_mul(MIN_SAMPLES - 1));
        let few = |stage: &&(&str, Millis)| least.0 > stage.1.0;
        if let Some((stage, length)) = stages.iter().filter(few).min_by_key(|(_, l)| l.0) {
            let what = format!(
                "{every} gives fewer than {MIN_SAMPLES} samples in a {stage} of {length}, which say \
                 nothing"
            );
            let remedy = format!("write less, or {stage}: {least} at least");
            problems.add(format!("steady-state[{n}].every"), what, remedy);
        }
    }
    (baseline.0, recovery.0)
}

fn safety(file: &File, problems: &mut Problems) -> Safety {
    let asked = &file.safety;
    let lease_ms = asked.lease.map_or(DEFAULT_LEASE_MS, |l| l.0);
    if !LEASE_MS.contains(&lease_ms) {
        let (least, most) = (Millis(*LEASE_MS.start()), Millis(*LEASE_MS.end()));
        let what = format!("{} is no lease", Millis(lease_ms));
        problems.add("safety.lease", what, format!("write {least} to {most}"));
    }
    let of_group = match asked.of {
        RadiusOf::Fleet => None,
        RadiusOf::Group => file.targets.group.clone(),
    };
    if asked.of == RadiusOf::Group && of_group.is_none() {
        let remedy = "write targets: {group: …}, or leave it out";
        problems.add("safety.of", "the targets name no group", remedy);
    }
    Safety {
        max_radius_ppm: asked.max_blast_radius.map_or(DEFAULT_EXPERIMENT_PPM, |s| s.0),
        of_group,
        auto_rollback: asked.auto_rollback,
        lease_ms,
        continue_on_loss: asked.on_loss == OnLoss::Continue,
        expects_split: asked.expects_split,
    }
}
