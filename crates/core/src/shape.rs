//! Partition shapes: pure functions from hosts to who refuses whom.
//!
//! A fault lives on its target alone, and a cut between two hosts needs only one of them to refuse
//! the other both ways. So each shape says first which pairs are cut, and [`hold`] then chooses the
//! hosts that hold the cuts: as few as it can, since each of them counts in the blast radius. For
//! two sides that is the smaller one. The order of the hosts given decides who is on which side, and
//! nothing is drawn by chance but in [`random`].

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::HostName;
use crate::seed::Dice;

/// Whom each host refuses. A host that refuses nobody is absent.
pub type Cuts = BTreeMap<HostName, BTreeSet<HostName>>;

/// One host against all others; it holds the cut itself. A single host among `nodes` is cut from
/// nobody.
#[must_use]
pub fn isolate(nodes: &[HostName], target: &HostName) -> Cuts {
    let others: BTreeSet<HostName> = nodes.iter().filter(|n| *n != target).cloned().collect();
    if others.is_empty() { Cuts::new() } else { Cuts::from([(target.clone(), others)]) }
}

/// The first half against the second; of an odd number the first half is the smaller.
#[must_use]
pub fn halves(nodes: &[HostName]) -> Cuts {
    sides(nodes, nodes.len() / 2)
}

/// The largest minority, `(n - 1) / 2` hosts, against a majority that goes on. Needs three hosts.
#[must_use]
pub fn majority(nodes: &[HostName]) -> Cuts {
    sides(nodes, nodes.len().saturating_sub(1) / 2)
}

/// The `(n - 1) / 3` hosts that a Byzantine majority could lose, against the rest. Needs four hosts.
#[must_use]
pub fn minority_third(nodes: &[HostName]) -> Cuts {
    sides(nodes, nodes.len().saturating_sub(1) / 3)
}

/// Two halves that do not see each other, and one host between them that sees both. Needs three
/// hosts.
#[must_use]
pub fn bridge(nodes: &[HostName]) -> Cuts {
    if nodes.len() < 3 {
        return Cuts::new();
    }
    let middle = nodes.len() / 2;
    groups(&[nodes[..middle].to_vec(), nodes[middle + 1..].to_vec()])
}

/// Each host sees only the one before and the one after it. Needs four hosts.
#[must_use]
pub fn ring(nodes: &[HostName]) -> Cuts {
    let n = nodes.len();
    let mut pairs = BTreeSet::new();
    for a in 0..n {
        for b in a + 1..n {
            if b - a != 1 && (a + n - b) != 1 {
                pairs.insert(ordered(&nodes[a], &nodes[b]));
            }
        }
    }
    hold(&pairs)
}

/// A minority of random size and members against the rest; the same for the same seed.
#[must_use]
pub fn random(nodes: &[HostName], seed: u128) -> Cuts {
    if nodes.len() < 2 {
        return Cuts::new();
    }
    let mut dice = Dice::new(seed);
    let size = 1 + dice.below(nodes.len() / 2);
    let minority = dice.pick(nodes, size);
    let (inside, outside): (Vec<_>, Vec<_>) =
        nodes.iter().cloned().partition(|n| minority.contains(n));
    groups(&[inside, outside])
}

/// Groups that do not see each other. A host in no group sees everybody.
#[must_use]
pub fn groups(groups: &[Vec<HostName>]) -> Cuts {
    let mut pairs = BTreeSet::new();
    for (i, one) in groups.iter().enumerate() {
        for other in &groups[i + 1..] {
            pairs.extend(one.iter().flat_map(|a| other.iter().map(move |b| ordered(a, b))));
        }
    }
    hold(&pairs)
}

/// Who refuses whom so that every pair is cut. The host with most cuts left takes them, the first
/// by name among equals, until none is left; then hosts whose cuts others hold as well give theirs
/// up. For two sides and for a ring no choice has fewer hosts; in general (this is vertex cover)
/// another may.
#[must_use]
pub fn hold(pairs: &BTreeSet<(HostName, HostName)>) -> Cuts {
    let mut all = Cuts::new();
    for (a, b) in pairs.iter().filter(|(a, b)| a != b) {
        all.entry(a.clone()).or_default().insert(b.clone());
        all.entry(b.clone()).or_default().insert(a.clone());
    }
    let mut left = all.clone();
    let mut holders: Vec<HostName> = Vec::new();
    while let Some(most) = left.values().map(BTreeSet::len).max().filter(|n| *n > 0) {
        let Some(holder) = left.iter().find(|(_, c)| c.len() == most).map(|(h, _)| h.clone())
        else {
            break;
        };
        for peer in left.remove(&holder).unwrap_or_default() {
            left.entry(peer).or_default().remove(&holder);
        }
        holders.push(holder);
    }
    let mut kept: BTreeSet<HostName> = holders.iter().cloned().collect();
    for holder in &holders {
        if all[holder].iter().all(|peer| kept.contains(peer)) {
            kept.remove(holder);
        }
    }
    // A pair whose ends both hold is held by the first.
    let mut cuts = Cuts::new();
    for (a, b) in all.iter().flat_map(|(a, peers)| peers.iter().map(move |b| (a, b))) {
        if kept.contains(a) && (a < b || !kept.contains(b)) {
            cuts.entry(a.clone()).or_default().insert(b.clone());
        }
    }
    cuts
}

fn sides(nodes: &[HostName], first: usize) -> Cuts {
    groups(&[nodes[..first].to_vec(), nodes[first..].to_vec()])
}

fn ordered(a: &HostName, b: &HostName) -> (HostName, HostName) {
    if a < b { (a.clone(), b.clone()) } else { (b.clone(), a.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::{Evidence, Judgement, PartitionKind, Row, judge};

    fn hosts(n: usize) -> Vec<HostName> {
        (1..=n).map(|i| format!("h{i:02}").parse().unwrap()).collect()
    }

    fn show(cuts: &Cuts) -> String {
        let line = |(host, peers): (&HostName, &BTreeSet<HostName>)| {
            let peers: Vec<_> = peers.iter().map(HostName::as_str).collect();
            format!("{host} refuses {}", peers.join(" "))
        };
        cuts.iter().map(line).collect::<Vec<_>>().join("; ")
    }

    /// What the views would say under these cuts, each held both ways.
    fn judged(nodes: &[HostName], cuts: &Cuts) -> Judgement {
        let refuses = |a: &HostName, b: &HostName| cuts.get(a).is_some_and(|c| c.contains(b));
        let row = |to: &HostName| {
            let heard = nodes.iter().filter(|from| *from != to);
            let heard = heard
                .map(|f| (f.clone(), (!refuses(to, f) && !refuses(f, to)).then_some(1)))
                .collect();
            (to.clone(), (Row { heard, ..Row::default() }, 1))
        };
        judge(&Evidence {
            expected: nodes.iter().cloned().collect(),
            rows: nodes.iter().map(row).collect(),
            ..Evidence::default()
        })
    }

    fn kind(nodes: &[HostName], cuts: &Cuts) -> (PartitionKind, Vec<usize>, usize) {
        match judged(nodes, cuts) {
            Judgement::Partition { kind, sides, edges, .. } => {
                (kind, sides.iter().map(Vec::len).collect(), edges.len())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_shape_of_five_is_held_by_as_few_as_can_be() {
        let five = hosts(5);
        let cases = [
            (isolate(&five, &five[3]), "h04 refuses h01 h02 h03 h05"),
            (halves(&five), "h01 refuses h03 h04 h05; h02 refuses h03 h04 h05"),
            (majority(&five), "h01 refuses h03 h04 h05; h02 refuses h03 h04 h05"),
            (minority_third(&five), "h01 refuses h02 h03 h04 h05"),
            (bridge(&five), "h01 refuses h04 h05; h02 refuses h04 h05"),
            (ring(&five), "h01 refuses h03 h04; h02 refuses h04 h05; h03 refuses h05"),
        ];
        for (cuts, expected) in cases {
            assert_eq!(show(&cuts), expected);
        }
    }

    #[test]
    fn the_views_see_each_shape_as_its_kind() {
        for n in 4..12 {
            let nodes = hosts(n);
            let (small, large) = (n / 2, n - n / 2);
            assert_eq!(
                kind(&nodes, &isolate(&nodes, &nodes[0])),
                (PartitionKind::Complete, vec![n - 1, 1], 2 * (n - 1))
            );
            assert_eq!(
                kind(&nodes, &halves(&nodes)),
                (PartitionKind::Complete, vec![large, small], 2 * small * large)
            );
            let (kind_of_majority, sides, _) = kind(&nodes, &majority(&nodes));
            assert_eq!(kind_of_majority, PartitionKind::Complete);
            assert!(sides[0] > n / 2, "{sides:?} of {n}");
            let third = kind(&nodes, &minority_third(&nodes)).1;
            assert!(third[1] * 3 < n, "{third:?} of {n}");
            assert_eq!(kind(&nodes, &bridge(&nodes)).0, PartitionKind::Partial);
            assert_eq!(
                kind(&nodes, &ring(&nodes)),
                (PartitionKind::Partial, vec![n], n * (n - 3)),
                "a ring of {n}"
            );
            assert_eq!(ring(&nodes).len(), n - 2, "a ring of {n} needs {} holders", n - 2);
            for seed in 0..50 {
                let cuts = random(&nodes, seed);
                assert_eq!(cuts, random(&nodes, seed), "seed {seed}");
                let (kind, sides, _) = kind(&nodes, &cuts);
                assert_eq!((kind, sides.len()), (PartitionKind::Complete, 2), "seed {seed}");
                assert_eq!(cuts.len(), sides[1], "the smaller side holds, seed {seed}");
            }
        }
    }

    #[test]
    fn a_holder_whose_cuts_all_others_hold_as_well_holds_none() {
        // h01 has most cuts and is chosen first; then h02, h03 and h04 must hold theirs anyway.
        let h = hosts(7);
        let pairs = [(0, 1), (0, 2), (0, 3), (1, 4), (2, 5), (3, 6)];
        let pairs = pairs.map(|(a, b): (usize, usize)| ordered(&h[a], &h[b]));
        assert_eq!(
            show(&hold(&BTreeSet::from(pairs))),
            "h02 refuses h01 h05; h03 refuses h01 h06; h04 refuses h01 h07"
        );
    }

    #[test]
    fn groups_of_a_persons_own_leave_the_others_alone() {
        let h = hosts(5);
        let cuts = groups(&[vec![h[0].clone(), h[1].clone()], vec![h[2].clone()]]);
        assert_eq!(show(&cuts), "h03 refuses h01 h02");
        assert_eq!(kind(&h, &cuts).0, PartitionKind::Partial);
    }

    #[test]
    fn too_few_hosts_for_a_shape_cut_nothing() {
        for n in 0..4 {
            let nodes = hosts(n);
            assert_eq!(ring(&nodes), Cuts::new());
            assert_eq!(minority_third(&nodes), Cuts::new());
            if n < 3 {
                assert_eq!(bridge(&nodes), Cuts::new());
                assert_eq!(majority(&nodes), Cuts::new());
            }
            if n < 2 {
                assert_eq!(random(&nodes, 1), Cuts::new());
                assert_eq!(halves(&nodes), Cuts::new());
            }
        }
        assert_eq!(isolate(&hosts(1), &hosts(1)[0]), Cuts::new());
    }
}
