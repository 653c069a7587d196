//! The blast radius: how much of the fleet may be hurt at once.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::ids::{ExperimentId, HostName};

/// The share of the fleet that one experiment may target where its file names none, in millionths.
pub const DEFAULT_EXPERIMENT_PPM: u32 = 300_000;
/// The share that all running experiments together may target, in millionths.
pub const FLEET_PPM: u32 = 500_000;
/// Experiments that may run at once.
pub const MAX_RUNNING: usize = 5;
/// The share of registered hosts that must be healthy before anything starts, in millionths.
pub const HEALTHY_PPM: u32 = 700_000;

/// What a radius is a share of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Scope {
    /// The fleet, for one experiment by its own limit.
    Experiment,
    /// The fleet, for all that runs.
    Fleet,
    /// The group of this name.
    Group(String),
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Scope::Experiment => f.write_str("experiment"),
            Scope::Fleet => f.write_str("fleet"),
            Scope::Group(name) => write!(f, "group {name}"),
        }
    }
}

/// A refusal by the radius, with all its numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OverRadius {
    /// What is exceeded.
    pub scope: Scope,
    /// Hosts that would be targeted.
    pub targeted: u32,
    /// Hosts that count.
    pub of: u32,
    /// The limit in millionths.
    pub limit_ppm: u32,
    /// Who holds the hosts that are targeted already.
    pub holders: Vec<(ExperimentId, String, Vec<HostName>)>,
}

impl std::fmt::Display for OverRadius {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "blast radius of the {}: {}, more than {}: {}",
            self.scope,
            part(self.targeted as usize, self.of as usize),
            share(self.limit_ppm),
            match most(self.of as usize, self.limit_ppm) {
                0 => "no host at all".to_owned(),
                1 => "at most 1 host".to_owned(),
                n => format!("at most {n} hosts"),
            }
        )?;
        for (id, name, hosts) in &self.holders {
            let hosts: Vec<_> = hosts.iter().map(HostName::as_str).collect();
            write!(f, "; {} ({name}) holds {}", id.short(), hosts.join(", "))?;
        }
        Ok(())
    }
}

/// Millionths as a share, `0.34`.
#[must_use]
pub fn share(ppm: u32) -> String {
    format!("{}", f64::from(ppm) / 1_000_000.0)
}

/// Hosts of so many with their share, `2 of 5 hosts = 0.4`.
#[must_use]
pub fn part(targeted: usize, of: usize) -> String {
    let thousandths = (targeted as f64 / of.max(1) as f64 * 1_000.0).round();
    format!("{targeted} of {of} hosts = {}", thousandths / 1_000.0)
}

/// Why one host may be targeted although it is more than the limit.
pub const ALONE: &str = "one host of three or more is always allowed";

/// How many of `of` hosts are within `limit_ppm`. One of three or more always is.
fn most(of: usize, limit_ppm: u32) -> usize {
    let whole = u128::from(limit_ppm) * of as u128 / 1_000_000;
    usize::try_from(whole).unwrap_or(of).max(usize::from(of >= 3))
}

/// Whether `targeted` of `of` hosts is within `limit_ppm`. One host of three or more always is.
#[must_use]
pub fn within(targeted: usize, of: usize, limit_ppm: u32) -> bool {
    targeted <= most(of, limit_ppm)
}

/// The limit for people, and where `targeted` is within it all the same, why.
#[must_use]
pub fn limit(targeted: usize, of: usize, limit_ppm: u32) -> String {
    let over = targeted as u128 * 1_000_000 > u128::from(limit_ppm) * of as u128;
    let why =
        if over && within(targeted, of, limit_ppm) { format!(": {ALONE}") } else { String::new() };
    format!("{}{why}", share(limit_ppm))
}

/// A group that the request, or an experiment that runs, counts within instead of the fleet. All that
/// runs, together, may target half of it as of the fleet, or what the most daring of them allows itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its hosts.
    pub members: BTreeSet<HostName>,
    /// How many of them the limit is a share of.
    pub counted: usize,
    /// The largest share that one of those who count within it may target alone, in millionths.
    pub most_ppm: u32,
}

/// Checks one request against its own limit, and what would run together against the groups' and the
/// fleet's.
///
/// `own` are the request's targets, `own_of` the number of hosts of `scope`, which its own limit counts,
/// `taken` what running experiments have reserved, `fleet` all registered hosts that are not drained.
///
/// # Errors
/// The limit that is exceeded, with the numbers and who holds the rest.
pub fn check(
    own: &BTreeSet<HostName>,
    (scope, own_of): (Scope, usize),
    own_limit_ppm: u32,
    taken: &[(ExperimentId, String, Vec<HostName>)],
    groups: &[Group],
    fleet: usize,
) -> Result<(), OverRadius> {
    let over = |scope, targeted: usize, of: usize, limit_ppm, holders| OverRadius {
        scope,
        targeted: u32::try_from(targeted).unwrap_or(u32::MAX),
        of: u32::try_from(of).unwrap_or(u32::MAX),
        limit_ppm,
        holders,
    };
    if !within(own.len(), own_of, own_limit_ppm) {
        return Err(over(scope, own.len(), own_of, own_limit_ppm, Vec::new()));
    }
    let all: BTreeSet<&HostName> =
        own.iter().chain(taken.iter().flat_map(|(_, _, hosts)| hosts)).collect();
    for group in groups.iter().filter(|g| !g.members.is_disjoint(own)) {
        let inside = |host: &HostName| group.members.contains(host);
        let targeted = all.iter().filter(|h| inside(h)).count();
        let limit_ppm = group.most_ppm.max(FLEET_PPM);
        if !within(targeted, group.counted, limit_ppm) {
            let mut holders = taken.to_vec();
            holders.iter_mut().for_each(|(_, _, hosts)| hosts.retain(inside));
            holders.retain(|(_, _, hosts)| !hosts.is_empty());
            let scope = Scope::Group(group.name.clone());
            return Err(over(scope, targeted, group.counted, limit_ppm, holders));
        }
    }
    if !within(all.len(), fleet, FLEET_PPM) {
        return Err(over(Scope::Fleet, all.len(), fleet, FLEET_PPM, taken.to_vec()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<HostName> {
        names.iter().map(|n| n.parse().expect("a host name")).collect()
    }

    #[test]
    fn one_host_of_three_is_always_allowed_and_of_two_is_not() {
        assert!(within(1, 3, 1));
        assert!(!within(1, 2, 300_000));
        assert!(within(3, 10, 300_000));
        assert!(!within(4, 10, 300_000));
    }

    #[test]
    fn a_sum_over_the_fleet_is_refused_with_who_holds_the_rest() {
        let id = ExperimentId(uuid::Uuid::from_u128(7));
        let taken = vec![(id, "first".to_owned(), names(&["h1", "h2"]).into_iter().collect())];
        let refusal = check(&names(&["h3"]), (Scope::Experiment, 5), 300_000, &taken, &[], 5)
            .expect_err("3 of 5 is more than half");
        assert_eq!((refusal.targeted, refusal.of, refusal.limit_ppm), (3, 5, FLEET_PPM));
        assert_eq!(
            refusal.to_string(),
            "blast radius of the fleet: 3 of 5 hosts = 0.6, more than 0.5: at most 2 hosts; 00000000 (first) holds h1, h2"
        );
    }

    #[test]
    fn the_words_say_the_share_how_many_are_allowed_and_why_one_is() {
        for (targeted, of, limit_ppm, says) in [
            (2, 5, 300_000, "2 of 5 hosts = 0.4, more than 0.3: at most 1 host"),
            (2, 3, 300_000, "2 of 3 hosts = 0.667, more than 0.3: at most 1 host"),
            (1, 2, 300_000, "1 of 2 hosts = 0.5, more than 0.3: no host at all"),
        ] {
            let over = OverRadius {
                scope: Scope::Experiment,
                targeted,
                of,
                limit_ppm,
                holders: Vec::new(),
            };
            assert_eq!(over.to_string(), format!("blast radius of the experiment: {says}"));
        }
        assert_eq!(limit(1, 3, 300_000), "0.3: one host of three or more is always allowed");
        for (targeted, of) in [(1, 2), (1, 4), (2, 3), (0, 3)] {
            assert_eq!(limit(targeted, of, 300_000), "0.3", "{targeted} of {of}");
        }
    }

    #[test]
    fn hosts_shared_by_two_experiments_count_once() {
        let id = ExperimentId(uuid::Uuid::from_u128(7));
        let taken = vec![(id, "first".to_owned(), names(&["h1", "h2"]).into_iter().collect())];
        assert_eq!(check(&names(&["h2"]), (Scope::Experiment, 4), 300_000, &taken, &[], 4), Ok(()));
    }
}
