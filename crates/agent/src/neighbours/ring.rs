//! Who watches whom in a cohort.

use squall_core::ids::HostName;
use squall_core::message::PeerHost;
use squall_core::views::FULL_MESH;

/// Others on each side that a member of a large cohort watches and is watched by.
pub(super) const SIDE: usize = 8;

/// The others of `cohort` whom `me` beats to and expects beats of: all of them up to [`FULL_MESH`]
/// members, else the next [`SIDE`] each way on the ring of sorted names. Both ends of a pair come
/// to the same answer, as long as each knows its own surroundings. Sorted by name.
pub(super) fn watched<'a>(me: &HostName, cohort: &str, peers: &'a [PeerHost]) -> Vec<&'a PeerHost> {
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
    use std::collections::{BTreeMap, BTreeSet};
    use std::net::Ipv4Addr;

    use super::*;

    fn peer(name: &str, cohort: &str) -> PeerHost {
        PeerHost {
            name: name.parse().unwrap(),
            address: Ipv4Addr::LOCALHOST.into(),
            gossip_port: 1,
            relay_port: 2,
            cohort: cohort.to_owned(),
        }
    }

    fn names(peers: &[&PeerHost]) -> Vec<String> {
        peers.iter().map(|p| p.name.to_string()).collect()
    }

    #[test]
    fn a_small_cohort_watches_all_of_itself_and_nobody_else() {
        let peers = [peer("h3", "a"), peer("h2", "b"), peer("h1", "a"), peer("h4", "a")];
        let me = "h1".parse().unwrap();
        assert_eq!(names(&watched(&me, "a", &peers)), ["h3", "h4"]);
        assert_eq!(names(&watched(&me, "c", &peers)), [""; 0]);
    }

    #[test]
    fn the_largest_full_mesh_is_full() {
        let all: Vec<PeerHost> = (0..FULL_MESH).map(|n| peer(&format!("h{n:03}"), "")).collect();
        for me in &all {
            assert_eq!(watched(&me.name, "", &all).len(), FULL_MESH - 1);
        }
    }

    #[test]
    fn in_a_large_cohort_watching_is_mutual() {
        let all: Vec<PeerHost> = (0..100).map(|n| peer(&format!("h{n:03}"), "")).collect();
        let mut pairs = BTreeSet::new();
        let mut of = BTreeMap::new();
        for me in &all {
            // Each is told of 32 each way only, as coordinators do.
            let at = all.iter().position(|p| p.name == me.name).unwrap();
            let told: Vec<PeerHost> = (1..=32)
                .flat_map(|d| [(at + d) % 100, (at + 100 - d) % 100])
                .map(|i| all[i].clone())
                .collect();
            let watched = watched(&me.name, "", &told);
            assert_eq!(watched.len(), 2 * SIDE);
            of.insert(me.name.clone(), watched.len());
            pairs.extend(watched.iter().map(|p| (me.name.clone(), p.name.clone())));
        }
        assert!(pairs.iter().all(|(a, b)| pairs.contains(&(b.clone(), a.clone()))));
    }
}
