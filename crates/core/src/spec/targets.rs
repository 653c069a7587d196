//! Which hosts hold the faults.

use std::collections::BTreeMap;

use super::problem::{Problems, suggest};
use super::{Fleet, Percent, Targets};
use crate::ids::HostName;
use crate::registry::HostRecord;
use crate::seed::Dice;

/// The smallest share that may be asked for, in millionths: less is a share that was written as percent.
const LEAST_PPM: u32 = 10_000;

/// The targets by name, in order; empty where a problem says why. Whoever is `alone`, without any far end
/// but itself, is not drawn.
pub(super) fn choose(
    targets: &Targets,
    fleet: &Fleet,
    alone: impl Fn(&HostName) -> bool,
    dice: &mut Dice,
    problems: &mut Problems,
) -> Vec<HostName> {
    let Some(base) = base(targets, fleet, problems) else { return Vec::new() };
    let drawn = targets.count.is_some() || targets.percent.is_some();
    // Drawn by chance or by `all`, nobody has asked for the coordinators' own hosts.
    let by_chance = drawn || targets.all;
    let matching: BTreeMap<&HostName, &HostRecord> =
        base.into_iter().filter(|h| fleet.in_service(h)).map(|h| (&h.name, h)).collect();
    let (spared, from): (Vec<_>, Vec<_>) =
        matching.into_values().partition(|h| by_chance && h.coordinator);
    let [spared, from] = [spared, from].map(|hosts| names(&hosts));
    if from.is_empty() {
        nobody(targets, &spared, fleet, problems);
        return Vec::new();
    }
    let count = match (targets.count, targets.percent) {
        (Some(_), Some(_)) => {
            problems.add("targets", "both `count` and `percent` say how many", "leave one out");
            return Vec::new();
        }
        (Some(0), None) => {
            problems.add("targets.count", "0 hosts hold nothing", "write at least 1");
            return Vec::new();
        }
        (Some(n), None) if n as usize > from.len() => {
            let mut what = format!("{n} hosts are asked for and {} match in service", from.len());
            if !spared.is_empty() {
                what += &format!(", without those where a coordinator lives: {}", listed(&spared));
            }
            problems.add_passing("targets.count", what, format!("write at most {}", from.len()));
            return Vec::new();
        }
        (Some(n), None) => n as usize,
        (None, Some(percent)) if percent.0 < LEAST_PPM => {
            let meant = Percent(percent.0 * 100).to_string();
            let what = format!("{percent} of the hosts are less than {}", Percent(LEAST_PPM));
            let number = meant.trim_end_matches('%');
            let remedy = match percent.0 * 100 < LEAST_PPM {
                true => "for one host write count: 1".to_owned(),
                false => format!("for {meant} write {number}, for one host count: 1"),
            };
            problems.add("targets.percent", what, remedy);
            return Vec::new();
        }
        (None, Some(percent)) => share(from.len(), percent.0),
        (None, None) => return from,
    };
    let (alone, from): (Vec<_>, Vec<_>) = from.into_iter().partition(alone);
    if from.len() < count {
        let names = listed(&alone);
        let what =
            format!("{count} hosts are asked for, and {names} would have no peer but itself");
        problems.add_passing("targets", what, "name other peers, or ask for fewer hosts");
        return Vec::new();
    }
    dice.pick(&from, count)
}

fn names(hosts: &[&HostRecord]) -> Vec<HostName> {
    hosts.iter().map(|h| h.name.clone()).collect()
}

fn listed(hosts: &[HostName]) -> String {
    hosts.iter().map(HostName::as_str).collect::<Vec<_>>().join(", ")
}

/// Why none of those that match is left: a coordinator lives on each of the `spared`, which match and are
/// in service.
fn nobody(targets: &Targets, spared: &[HostName], fleet: &Fleet, problems: &mut Problems) {
    let Some(first) = spared.first() else {
        let hosts = fleet.hosts.values();
        let idle = hosts.filter(|h| fleet.in_service(h) && !h.coordinator).count();
        problems.add_passing(
            "targets",
            "no host that matches is in service",
            format!("{idle} of {} hosts can be drawn: see `squall nodes`", fleet.hosts.len()),
        );
        return;
    };
    let (many, each) = if spared.len() == 1 { ("matches", "it") } else { ("match", "each") };
    let what = format!(
        "{} {many} in service, but a coordinator lives on {each}, and such hosts are never drawn",
        listed(spared)
    );
    let drawn = match (targets.all, targets.count) {
        (true, _) => "all",
        (false, Some(_)) => "count",
        (false, None) => "percent",
    };
    let remedy = format!("name those that are meant, without `{drawn}`: hosts: [{first}]");
    problems.add_passing("targets", what, remedy);
}

/// Rounded down, but at least one.
fn share(of: usize, ppm: u32) -> usize {
    let whole = of as u128 * u128::from(ppm) / 1_000_000;
    usize::try_from(whole).unwrap_or(of).max(1)
}

/// The hosts that are asked for by name or label, in service or not.
fn base<'a>(
    targets: &Targets,
    fleet: &'a Fleet,
    problems: &mut Problems,
) -> Option<Vec<&'a HostRecord>> {
    let by_label = targets.group.is_some() || targets.labels.is_some();
    let ways = [targets.hosts.is_some(), by_label, targets.all];
    if ways.iter().filter(|w| **w).count() > 1 {
        problems.add(
            "targets",
            "more than one of `hosts`, `group` with `labels`, and `all`",
            "keep the one that is meant",
        );
        return None;
    }
    if let Some(names) = &targets.hosts {
        return by_name(&names.0, targets, fleet, problems);
    }
    if by_label {
        return by_labels(targets, fleet, problems);
    }
    if !targets.all && targets.count.is_none() && targets.percent.is_none() {
        problems.add(
            "targets",
            "no host is asked for",
            "write hosts: [h1], group: etcd, labels: {zone: a}, count: 1, percent: 34 or all: true",
        );
        return None;
    }
    Some(fleet.hosts.values().collect())
}

fn by_name<'a>(
    names: &[String],
    targets: &Targets,
    fleet: &'a Fleet,
    problems: &mut Problems,
) -> Option<Vec<&'a HostRecord>> {
    if names.is_empty() {
        problems.add("targets.hosts", "the list is empty", "name at least one host");
        return None;
    }
    let by_chance = targets.count.is_some() || targets.percent.is_some();
    let mut found = Vec::new();
    let mut whole = true;
    for (i, name) in names.iter().enumerate() {
        let path = format!("targets.hosts[{i}]");
        let Some(host) = fleet.host(name) else {
            let what = format!("no host `{name}` is registered");
            problems.add(path, what, suggest(name, fleet.names()));
            whole = false;
            continue;
        };
        if !by_chance && !fleet.in_service(host) {
            whole = false;
            if host.drained {
                let what = format!("host `{name}` is drained");
                let remedy = format!("squall agent drain --undo {name}, or leave it out");
                problems.add_passing(path, what, remedy);
            } else {
                let what = format!("host `{name}` does not report now");
                problems.add_passing(path, what, "see that its agent runs, or leave it out");
            }
        }
        found.push(host);
    }
    whole.then_some(found)
}

fn by_labels<'a>(
    targets: &Targets,
    fleet: &'a Fleet,
    problems: &mut Problems,
) -> Option<Vec<&'a HostRecord>> {
    let group = targets.group.as_ref().map(|g| ("targets.group".to_owned(), "group", g));
    if targets.labels.as_ref().is_some_and(BTreeMap::is_empty) {
        problems.add(
            "targets.labels",
            "no label is named",
            "write labels: {zone: a}, or leave it out",
        );
        return None;
    }
    let labels = targets.labels.iter().flatten();
    let labels = labels.map(|(k, v)| (format!("targets.labels.{k}"), k.as_str(), v));
    let mut hosts: Vec<&HostRecord> = fleet.hosts.values().collect();
    let mut known = true;
    for (path, label, value) in group.into_iter().chain(labels) {
        known &= check_label(&path, label, value, fleet, problems);
        hosts.retain(|h| h.labels.get(label) == Some(value));
    }
    if known && hosts.is_empty() {
        problems.add("targets", "no host has all of these labels", "leave some of them out");
        return None;
    }
    known.then_some(hosts)
}

/// Whether some host wears this label with this value; a problem where none does.
pub(super) fn check_label(
    path: &str,
    label: &str,
    value: &str,
    fleet: &Fleet,
    problems: &mut Problems,
) -> bool {
    if fleet.values(label).any(|v| v == value) {
        return true;
    }
    if fleet.values(label).next().is_some() || label == "group" {
        let what = match label {
            "group" => format!("no host is in a group `{value}`"),
            _ => format!("no host has the label {label}={value}"),
        };
        problems.add(path, what, suggest(value, fleet.values(label)));
    } else {
        let labels = fleet.hosts.values().flat_map(|h| h.labels.keys().map(String::as_str));
        problems.add(path, format!("no host has a label `{label}`"), suggest(label, labels));
    }
    false
}
