//! The cells as a person reads them.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use squall_core::fault::Kind;

use super::{Cell, Event};

/// Lines of residue that are told of one trial; all of them are in the JSON.
const MAX_LINES: usize = 8;

/// Fault by event: the median and the longest time to lift in milliseconds, and what is wrong.
#[must_use]
pub fn table(cells: &[Cell]) -> String {
    let mut groups: BTreeMap<(&str, &str), Vec<&Cell>> = BTreeMap::new();
    for cell in cells {
        groups.entry((cell.fault, cell.event)).or_default().push(cell);
    }
    let mut text = format!("{:14}", "ms to lift");
    for kind in Kind::ALL {
        let _ = write!(text, "{:>16}", kind.name());
    }
    text.push_str("   allowed\n");
    for event in Event::ALL {
        let of = |kind: Kind| groups.get(&(kind.name(), event.name()));
        let Some(limit) = Kind::ALL.iter().find_map(|k| Some(of(*k)?.first()?.limit_ms)) else {
            continue;
        };
        let _ = write!(text, "{:14}", event.name());
        for kind in Kind::ALL {
            let _ = write!(text, "{:>16}", of(kind).map_or_else(String::new, |c| summary(c)));
        }
        let _ = writeln!(text, "{limit:>10}");
    }
    let residue: usize = cells.iter().map(|c| c.residue.len()).sum();
    let bad: Vec<&Cell> = cells.iter().filter(|c| !c.is_good()).collect();
    let _ = writeln!(
        text,
        "{} cells (median/longest, of how many), {residue} lines of residue, {} failed",
        cells.len(),
        bad.len()
    );
    // All cells of a trial share most of what is wrong.
    let mut told = BTreeMap::new();
    for cell in bad {
        let residue: Vec<&str> = cell.residue.iter().map(String::as_str).take(MAX_LINES).collect();
        let what = format!(
            "{} (round {}): {} lines of residue: {residue:?}; {}",
            cell.event,
            cell.round,
            cell.residue.len(),
            cell.wrong.join("; ")
        );
        let lifted = cell.lift_ms.map_or_else(|| "never".to_owned(), |ms| format!("{ms} ms"));
        let bit = if cell.bit { "" } else { ", did not bite" };
        let who = format!("{} ({lifted}{bit})", cell.fault);
        told.entry(what).or_insert_with(Vec::new).push(who);
    }
    for (what, who) in told {
        let _ = writeln!(text, "FAILED {} × {what}", who.join(", "));
    }
    text
}

fn summary(cells: &[&Cell]) -> String {
    let mut times: Vec<u64> = cells.iter().filter_map(|c| c.lift_ms).collect();
    times.sort_unstable();
    let bad = if cells.iter().all(|c| c.is_good()) { "" } else { " !" };
    match (times.get(times.len() / 2), times.last()) {
        (Some(median), Some(longest)) => format!("{median}/{longest} of {}{bad}", cells.len()),
        _ => format!("never{bad}"),
    }
}
