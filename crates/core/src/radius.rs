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
            "blast radius of the {}: {} of {} hosts is more than {}",
            self.scope,
            self.targeted,
            self.of,
            share(self.limit_ppm)
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

/// Whether `targeted` of `of` hosts is within `limit_ppm`. One host of three or more always is.
#[must_use]
pub fn within(targeted: usize, of: usize, limit_ppm: u32) -> bool {
    (targeted == 1 && of >= 3) || targeted as u128 * 1_000_000 <= u128::from(limit_ppm) * of as u128
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
            "blast radius of the fleet: 3 of 5 hosts is more than 0.5; 00000000 (first) holds h1, h2"
        );
    }

    #[test]
    fn hosts_shared_by_two_experiments_count_once() {
        let id = ExperimentId(uuid::Uuid::from_u128(7));
        let taken = vec![(id, "first".to_owned(), names(&["h1", "h2"]).into_iter().collect())];
        assert_eq!(check(&names(&["h2"]), (Scope::Experiment, 4), 300_000, &taken, &[], 4), Ok(()));
    }
}
