//! One page of text about one experiment.

use squall_core::radius::ALONE;

use super::experiment::{ExperimentView, StageView};
use super::table::{NONE, blocks, or_none, table};
use super::words;

/// Timeline entries on the page; the rest is in `-o json`.
const TIMELINE: usize = 30;

/// The page. What may still be wrong stands last and plainly.
#[must_use]
pub fn page(view: &ExperimentView) -> String {
    blocks([
        heading(view),
        faults(view),
        probes(view),
        list("incidents", view.incidents.iter().map(|i| format!("{} {}", i.severity, i.what))),
        timeline(view),
        last(view),
    ])
}

fn heading(view: &ExperimentView) -> String {
    let id: String = view.id.chars().take(8).collect();
    let mut lines = vec![format!("{} ({id}): {}", view.name, view.r#type)];
    if !view.objective.is_empty() {
        lines.push(format!("objective: {}", words::indented(&view.objective, 11)));
    }
    let over = view.total_targets == 1 && view.blast_radius > view.max_blast_radius;
    let why = if over { format!(": {ALONE}") } else { String::new() };
    lines.push(format!(
        "targets:   {} of {} hosts affected, blast radius {} of at most {}{why}",
        view.targets_affected, view.total_targets, view.blast_radius, view.max_blast_radius
    ));
    if !view.touched.is_empty() {
        lines.push(format!("touched:   {}", view.touched.join(", ")));
    }
    if !view.confirmed {
        lines.push(words::unconfirmed(view.as_of));
    }
    lines.join("\n")
}

fn faults(view: &ExperimentView) -> String {
    let rows = view.faults.iter().map(|f| {
        let achieved = f.achieved.as_ref();
        let bit = achieved.map_or(NONE, |a| if a.bit { "yes" } else { "NOT SEEN" });
        let measured = achieved.map_or(String::new(), |a| {
            if a.note.is_empty() {
                a.measured.clone()
            } else {
                format!("{} ({})", a.measured, a.note)
            }
        });
        [
            f.host.clone(),
            format!("{} {}", f.kind, f.short),
            state(view.verdict.is_some(), &f.state).to_owned(),
            bit.to_owned(),
            or_none(&measured),
            f.lift_ms.map_or(NONE.into(), words::length),
            or_none(&f.why),
        ]
    });
    table(["HOST", "FAULT", "STATE", "BIT", "MEASURED", "LIFTED IN", "ENDED BY"], rows.collect())
}

/// What waits in an experiment that is over never begins.
fn state(is_over: bool, state: &str) -> &str {
    if is_over && state == "pending" { "not begun" } else { state }
}

fn probes(view: &ExperimentView) -> String {
    let rows = view.metrics.iter().map(|m| {
        let stage = |name: &str| m.stages.get(name).map_or(NONE.to_owned(), stage);
        [
            m.probe.clone(),
            m.from.clone(),
            m.expect.clone(),
            stage("before"),
            stage("during"),
            stage("after"),
        ]
    });
    table(["PROBE", "FROM", "EXPECTED", "BEFORE", "DURING", "AFTER"], rows.collect())
}

fn stage(stage: &StageView) -> String {
    let missed =
        if stage.missed > 0 { format!(", {} missed", stage.missed) } else { String::new() };
    let p99 = stage.p99_us.map(|us| format!(", p99 {}", words::millis(us))).unwrap_or_default();
    format!("{}: {}/{} ok{missed}{p99}", stage.finding, stage.ok, stage.sent)
}

fn timeline(view: &ExperimentView) -> String {
    let hidden = view.timeline.len().saturating_sub(TIMELINE);
    let steps = view.timeline.iter().skip(hidden).map(|s| format!("{}  {}", s.at, s.what));
    let more = (hidden > 0).then(|| format!("… {hidden} earlier steps: -o json"));
    list("timeline", more.into_iter().chain(steps))
}

fn list(name: &str, lines: impl Iterator<Item = String>) -> String {
    let lines: Vec<String> = lines.map(|l| format!("  {l}")).collect();
    if lines.is_empty() { String::new() } else { format!("{name}:\n{}", lines.join("\n")) }
}

fn last(view: &ExperimentView) -> String {
    let mut lines: Vec<String> = match &view.verdict {
        Some(verdict) => vec![format!("VERDICT: {verdict}")],
        None => vec![format!("STATE: {}, no verdict yet", view.state)],
    };
    lines.extend(view.reasons.iter().map(|r| format!("  {r}")));
    let lapsed = view.faults.iter().filter(|f| f.state == "lapsed");
    lines.extend(lapsed.map(|f| format!("NOT SEEN: {} {} lapsed by time", f.host, f.kind)));
    lines.extend(view.residue.iter().map(|r| format!("NOT CLEAN: {r}")));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_waits_in_what_is_over() {
        assert_eq!(state(false, "pending"), "pending");
        assert_eq!(state(true, "pending"), "not begun");
        assert_eq!(state(true, "clean"), "clean");
    }
}
