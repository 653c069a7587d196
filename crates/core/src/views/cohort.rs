//! One cohort's links.

use std::collections::{BTreeMap, BTreeSet};

use super::{FADING_MS, PartitionKind, Row, STALE_MS};
use crate::ids::HostName;

/// The largest cohort in which each member watches every other; in a larger one each watches some.
pub const FULL_MESH: usize = 64;

/// The fresh rows of one cohort, each with its age in milliseconds.
pub(super) type Rows<'a> = BTreeMap<&'a HostName, (&'a Row, u64)>;

/// What the rows of one cohort show.
pub(super) struct Finding {
    /// The partition that is proven, if one is.
    pub kind: Option<PartitionKind>,
    /// Reporters joined by links that work both ways.
    pub sides: Vec<Vec<HostName>>,
    /// Who is not heard by whom.
    pub edges: Vec<(HostName, HostName)>,
    /// Reporters of which too little is known.
    pub missing: Vec<HostName>,
}

/// Who is heard by whom: (from, to) to whether; a pair that nobody watches is absent.
type Links<'a> = BTreeMap<(&'a HostName, &'a HostName), bool>;

/// Judges the fresh `rows` of one cohort. Entries on hosts that are not `expected` say nothing.
pub(super) fn find(rows: &Rows<'_>, expected: &BTreeSet<HostName>) -> Finding {
    let links = links(rows, expected);
    let reporters = Reporters::new(rows, &links);
    let cut = |a, b| links.get(&(a, b)) == Some(&false);
    let heard = |a, b| links.get(&(a, b)) == Some(&true);

    let mut both_ways = Vec::new();
    let mut proven = false;
    for (&(from, to), _) in links.iter().filter(|(_, heard)| !**heard) {
        // A host that has just started, as its row shows, may have been silent until now.
        proven |= rows.contains_key(from) && reporters.is_full(&links, from);
        if from < to && cut(to, from) {
            both_ways.push((from, to));
        }
    }
    // Joined by anything that is heard, one way or by way of a host whose row is missing.
    let reach = Groups::new(links.iter().filter(|(_, heard)| **heard).map(|(pair, _)| *pair));
    let apart = |(a, b): &(&HostName, &HostName)| !reach.join(a, b);
    // While a link is fading the picture still moves: a complete cut would pass for a one-way one.
    let moving = if proven { fading(rows, expected, &links) } else { Vec::new() };
    let kind =
        match (proven && moving.is_empty(), both_ways.is_empty(), both_ways.iter().any(apart)) {
            (false, _, _) => None,
            (true, _, true) => Some(PartitionKind::Complete),
            (true, false, false) => Some(PartitionKind::Partial),
            (true, true, false) => Some(PartitionKind::Simplex),
        };
    let strong = Groups::new(
        rows.keys().map(|h| (*h, *h)).chain(
            links
                .keys()
                .filter(|(a, b)| rows.contains_key(a) && rows.contains_key(b))
                .filter(|(a, b)| !cut(a, b) && !cut(b, a) && (heard(a, b) || heard(b, a)))
                .copied(),
        ),
    );
    Finding {
        kind,
        sides: strong.into_names(),
        edges: links
            .iter()
            .filter(|(_, heard)| !**heard)
            .map(|((from, to), _)| ((*from).clone(), (*to).clone()))
            .collect(),
        missing: reporters.unknown(&links).into_iter().chain(moving).collect(),
    }
}

/// Members that were heard by the rows' account, but so long ago that they may be silent by now.
fn fading(rows: &Rows<'_>, expected: &BTreeSet<HostName>, links: &Links<'_>) -> Vec<HostName> {
    let mut found = Vec::new();
    for (to, (row, row_age_ms)) in rows {
        for (from, heard_ms) in row.heard.iter().filter(|(from, _)| expected.contains(from)) {
            let age_ms = heard_ms.unwrap_or(0).saturating_add(*row_age_ms);
            if age_ms > FADING_MS && links.get(&(from, *to)) == Some(&true) {
                found.push(from.clone());
            }
        }
    }
    found
}

fn links<'a>(rows: &Rows<'a>, expected: &BTreeSet<HostName>) -> Links<'a> {
    let mut links = Links::new();
    for (to, (row, _)) in rows {
        for (from, age_ms) in &row.heard {
            if from != *to && expected.contains(from) {
                let heard = age_ms.is_some_and(|ms| ms <= STALE_MS);
                *links.entry((from, to)).or_default() |= heard;
            }
        }
    }
    links
}

/// Connected groups of hosts, and the number of each host's group.
struct Groups<'a> {
    all: Vec<BTreeSet<&'a HostName>>,
    of: BTreeMap<&'a HostName, usize>,
}

impl<'a> Groups<'a> {
    fn new(pairs: impl Iterator<Item = (&'a HostName, &'a HostName)>) -> Self {
        let mut next: BTreeMap<&HostName, BTreeSet<&HostName>> = BTreeMap::new();
        for (a, b) in pairs {
            next.entry(a).or_default().insert(b);
            next.entry(b).or_default().insert(a);
        }
        let (mut all, mut of) = (Vec::new(), BTreeMap::new());
        for &start in next.keys() {
            if of.contains_key(start) {
                continue;
            }
            let mut group = BTreeSet::from([start]);
            let mut open = vec![start];
            while let Some(host) = open.pop() {
                open.extend(next[host].iter().copied().filter(|h| group.insert(h)));
            }
            of.extend(group.iter().map(|h| (*h, all.len())));
            all.push(group);
        }
        Groups { all, of }
    }

    fn join(&self, a: &HostName, b: &HostName) -> bool {
        matches!((self.of.get(a), self.of.get(b)), (Some(a), Some(b)) if a == b)
    }

    fn into_names(self) -> Vec<Vec<HostName>> {
        let names = |group: &BTreeSet<&HostName>| group.iter().map(|h| (*h).clone()).collect();
        self.all.iter().map(names).collect()
    }
}

/// The members of a cohort whose rows are here.
struct Reporters<'a> {
    all: Vec<&'a HostName>,
    /// Each is to watch every other: as the agents see it, by all members that anybody knows.
    mesh: bool,
}

impl<'a> Reporters<'a> {
    fn new(rows: &Rows<'a>, links: &Links<'a>) -> Self {
        let all: Vec<&HostName> = rows.keys().copied().collect();
        let heard = links.keys().flat_map(|(from, to)| [*from, *to]);
        let members: BTreeSet<&HostName> = all.iter().copied().chain(heard).collect();
        Reporters { all, mesh: members.len() <= FULL_MESH }
    }

    /// Whether the row of `to` speaks of all of them, where all are to be watched.
    fn is_full(&self, links: &Links<'_>, to: &HostName) -> bool {
        let watched = |from: &&HostName| *from == to || links.contains_key(&(*from, to));
        !self.mesh || self.all.iter().all(watched)
    }

    /// Those that watch nobody or are watched by nobody, whose row leaves a member out where all
    /// are to be watched, or that no watched link joins to the largest part.
    fn unknown(&self, links: &Links<'_>) -> Vec<HostName> {
        if self.all.len() < 2 {
            return Vec::new();
        }
        let watched: BTreeSet<&HostName> = links.keys().map(|(from, _)| *from).collect();
        let watching: BTreeSet<&HostName> = links.keys().map(|(_, to)| *to).collect();
        let parts = Groups::new(links.keys().copied()).all;
        let largest = parts.iter().max_by_key(|p| p.len());
        let unknown = |h: &&&HostName| {
            !watched.contains(**h)
                || !watching.contains(**h)
                || !self.is_full(links, h)
                || largest.is_none_or(|l| !l.contains(**h))
        };
        self.all.iter().filter(unknown).map(|h| (*h).clone()).collect()
    }
}
