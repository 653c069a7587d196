//! Who is told of whom, and who watches whom: two ends of a pair must come to the same answer.

use std::collections::BTreeMap;

use super::FULL_MESH;
use crate::ids::HostName;
use crate::message::PeerHost;
use crate::registry::HostRecord;

/// Other hosts that one host is told of, at most: gossip and relay need enough of them, not all,
/// and a fleet of thousands must not be told of itself at every change. All of a cohort in which each
/// watches every other.
pub const MAX_PEERS: usize = FULL_MESH;
/// Others on each side that a member of a large cohort watches and is watched by.
const SIDE: usize = 8;

/// The others whom `me` is told of: of its own cohort first, each time those next on the ring of
/// names, one behind and one before in turn, so that whom `me` knows knows `me`. Beats stand on that.
#[must_use]
pub fn peers_of(me: &HostName, hosts: &BTreeMap<HostName, HostRecord>) -> Vec<PeerHost> {
    use std::ops::Bound::{Excluded, Unbounded};
    let own = hosts.get(me).map_or("", HostRecord::cohort);
    let ring = || {
        let after = hosts.range::<HostName, _>((Excluded(me), Unbounded));
        let before = hosts.range::<HostName, _>((Unbounded, Excluded(me)));
        after.chain(before).map(|(_, h)| h)
    };
    let same = from_both_ends(ring().filter(|h| h.cohort() == own));
    let rest = from_both_ends(ring().filter(|h| h.cohort() != own));
    let peer = |h: &HostRecord| PeerHost {
        name: h.name.clone(),
        address: h.address,
        gossip_port: h.gossip_port,
        relay_port: h.relay_port,
        cohort: h.cohort().to_owned(),
    };
    same.chain(rest).take(MAX_PEERS).map(peer).collect()
}

/// First, last, second, last but one, and so on. Looks at no more than it is asked for: in a fleet of
/// thousands that is little of the ring.
fn from_both_ends<T>(mut items: impl DoubleEndedIterator<Item = T>) -> impl Iterator<Item = T> {
    let mut front = false;
    std::iter::from_fn(move || {
        front = !front;
        if front { items.next() } else { items.next_back() }
    })
}

/// The others of `cohort` whom `me` beats to and expects beats of: all of them up to [`FULL_MESH`]
/// members, else the next eight each way on the ring of sorted names. Both ends of a pair come
/// to the same answer, as long as each knows its own surroundings. Sorted by name.
#[must_use]
pub fn watched<'a>(me: &HostName, cohort: &str, peers: &'a [PeerHost]) -> Vec<&'a PeerHost> {
    let mut others: Vec<&PeerHost> =
        peers.iter().filter(|p| p.cohort == cohort && p.name != *me).collect();
    others.sort_by(|a, b| a.name.cmp(&b.name));
    others.dedup_by(|a, b| a.name == b.name);
    if others.len() < FULL_MESH {
        return others;
    }
    let after = others.partition_point(|p| p.name < *me);
    others.rotate_left(after);
    let behind = others.split_off(others.len() - SIDE);
    others.truncate(SIDE);
    others.extend(behind);
    others.sort_by(|a, b| a.name.cmp(&b.name));
    others
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn fleet(hosts: &[(&str, &str)]) -> BTreeMap<HostName, HostRecord> {
        let host = |(name, group): &(&str, &str)| {
            let name: HostName = name.parse().unwrap();
            let record = HostRecord {
                name: name.clone(),
                address: [127, 0, 0, 1].into(),
                also: Vec::new(),
                labels: BTreeMap::from([("group".to_owned(), (*group).to_owned())]),
                gossip_port: 1,
                relay_port: 2,
                coordinator: false,
                drained: false,
            };
            (name, record)
        };
        hosts.iter().map(host).collect()
    }

    /// So many in one cohort.
    fn cohort(n: usize) -> BTreeMap<HostName, HostRecord> {
        let all: Vec<String> = (0..n).map(|n| format!("h{n:03}")).collect();
        fleet(&all.iter().map(|n| (n.as_str(), "a")).collect::<Vec<_>>())
    }

    /// Whom each is told of, and whom of these it watches.
    fn pairs(hosts: &BTreeMap<HostName, HostRecord>) -> [BTreeSet<(HostName, HostName)>; 2] {
        let (mut knows, mut watches) = (BTreeSet::new(), BTreeSet::new());
        for (me, record) in hosts {
            let peers = peers_of(me, hosts);
            let watched = watched(me, record.cohort(), &peers);
            watches.extend(watched.iter().map(|p| (me.clone(), p.name.clone())));
            knows.extend(peers.into_iter().map(|p| (me.clone(), p.name)));
        }
        [knows, watches]
    }

    fn names(peers: &[PeerHost]) -> Vec<&str> {
        peers.iter().map(|p| p.name.as_str()).collect()
    }

    #[test]
    fn a_host_is_told_of_all_others_its_own_cohort_first() {
        let fleet = fleet(&[("h1", "a"), ("h2", "b"), ("h3", "a"), ("h4", "a")]);
        let me = "h3".parse().unwrap();
        let peers = peers_of(&me, &fleet);
        assert_eq!(names(&peers), ["h4", "h1", "h2"]);
        let watches = |cohort: &str| -> Vec<String> {
            watched(&me, cohort, &peers).iter().map(|p| p.name.to_string()).collect()
        };
        assert_eq!(watches("a"), ["h1", "h4"]);
        assert_eq!(watches("c"), [""; 0]);
    }

    #[test]
    fn the_largest_full_mesh_is_full() {
        for n in [2, FULL_MESH - 1, FULL_MESH] {
            let [_, watches] = pairs(&cohort(n));
            assert_eq!(watches.len(), n * (n - 1));
        }
    }

    #[test]
    fn in_a_large_fleet_knowing_and_watching_are_mutual() {
        for n in [FULL_MESH + 1, 100, 200] {
            let [knows, watches] = pairs(&cohort(n));
            assert_eq!((knows.len(), watches.len()), (n * MAX_PEERS.min(n - 1), n * 2 * SIDE));
            for pairs in [knows, watches] {
                assert!(pairs.iter().all(|(a, b)| pairs.contains(&(b.clone(), a.clone()))));
            }
        }
    }
}
