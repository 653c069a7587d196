//! Who is cut off from whom.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::faults::{Place, each_target, traffic};
use super::peers::{self, FarEnds};
use super::problem::{Problems, suggest};
use super::{Control, PartitionForm, Shape};
use crate::fault::{Direction, Fault, Partition};
use crate::ids::HostName;
use crate::registry::HostRecord;
use crate::shape::{self, Cuts};

/// A partition on each target that holds a part of it.
pub(super) fn place(
    path: &str,
    form: &PartitionForm,
    around: &Place<'_>,
    touched: &mut BTreeSet<HostName>,
    problems: &mut Problems,
) -> Vec<(HostName, Fault)> {
    let severed = match form.control {
        Control::Exempt => Vec::new(),
        Control::Severed => around.fleet.coordinators.iter().map(|a| IpNet::from(*a)).collect(),
    };
    if form.control == Control::Severed && severed.is_empty() {
        problems.add(format!("{path}.control"), "no coordinator's address is known", "");
    }
    let peers_path = format!("{path}.peers");
    let cut = |direction| {
        let severed = severed.clone();
        move |peers| {
            let traffic = traffic(peers, direction, form.ports.as_ref(), form.protocol);
            Fault::Partition(Partition { traffic, severed: severed.clone() })
        }
    };
    let direction = match (&form.shape, form.direction) {
        (Some(Shape::Simplex), None) => Direction::In,
        (Some(Shape::Simplex), Some(Direction::Both)) => {
            let remedy = "write in or out, or the shape isolate";
            problems.add(format!("{path}.direction"), "simplex is one way", remedy);
            return Vec::new();
        }
        (_, asked) => asked.unwrap_or_default(),
    };
    let shape = match &form.shape {
        // Without a shape, and for these two, each target is cut from its peers by itself.
        None | Some(Shape::Isolate | Shape::Simplex) => {
            let ends = match (&form.peers, &form.shape) {
                (Some(peers), _) => peers::look_up(&peers_path, peers, around.fleet, problems),
                (None, Some(_)) => FarEnds {
                    hosts: around.fleet.hosts.keys().cloned().collect(),
                    ..FarEnds::default()
                },
                (None, None) => {
                    let remedy = "write peers: [h2], peers: {group: etcd} or a shape";
                    problems.add(peers_path, "nobody is named", remedy);
                    return Vec::new();
                }
            };
            touched.extend(ends.touched(around.fleet).map(|h| h.name.clone()));
            let cut = cut(direction);
            return match form.shape {
                Some(Shape::Simplex) => one_way(&peers_path, &ends, around, problems, cut),
                _ => each_target(&peers_path, &ends, around, problems, cut),
            };
        }
        Some(shape) => shape,
    };
    if form.peers.is_some() {
        let remedy = "leave peers out: a shape cuts the targets from each other";
        problems.add(peers_path, "peers and a shape do not go together", remedy);
    }
    if direction != Direction::Both {
        let remedy = "leave it out, or use the shape simplex";
        problems.add(format!("{path}.direction"), "this shape cuts both ways", remedy);
    }
    let Some(cuts) = shaped(&format!("{path}.shape"), shape, around, problems) else {
        return Vec::new();
    };
    let named = FarEnds { hosts: around.targets.iter().cloned().collect(), nets: Vec::new() };
    named.check_apart(&format!("{path}.shape"), around.fleet, problems);
    touched.extend(cuts.values().flatten().cloned());
    let cut = cut(Direction::Both);
    let on = |(host, refused): (HostName, BTreeSet<HostName>)| {
        let ends = FarEnds { hosts: refused, nets: Vec::new() };
        let addresses = ends.addresses(&host, around.fleet);
        (host, cut(addresses))
    };
    cuts.into_iter().map(on).collect()
}

/// Each target by itself; but of two targets only the first refuses the other, or they would be cut both
/// ways.
fn one_way(
    path: &str,
    ends: &FarEnds,
    around: &Place<'_>,
    problems: &mut Problems,
    fault: impl Fn(Vec<IpNet>) -> Fault,
) -> Vec<(HostName, Fault)> {
    let own = |target: &HostName| -> BTreeSet<IpNet> {
        let record = around.fleet.hosts.get(target).into_iter();
        record.flat_map(HostRecord::addresses).map(IpNet::from).collect()
    };
    for net in &ends.nets {
        let inside = |t: &&HostName| own(t).iter().any(|a| a != net && net.contains(a));
        if around.targets.iter().filter(inside).count() > 1 {
            let what = format!("`{net}` holds several targets, which it would cut off both ways");
            problems.add(path, what, "name hosts instead, or choose one target");
            return Vec::new();
        }
    }
    let (mut left, mut held) = (ends.clone(), Vec::new());
    for target in around.targets {
        left.hosts.remove(target);
        let own = own(target);
        left.nets.retain(|net| !own.contains(net));
        if !left.is_empty() {
            let alone = Place { targets: std::slice::from_ref(target), ..*around };
            held.extend(each_target(path, &left, &alone, problems, &fault));
        }
    }
    if held.is_empty() { each_target(path, ends, around, problems, fault) } else { held }
}

/// Who refuses whom; `None` where a problem says why nobody does.
fn shaped(path: &str, shape: &Shape, around: &Place<'_>, problems: &mut Problems) -> Option<Cuts> {
    let nodes = around.targets;
    if nodes.is_empty() {
        return None; // told at `targets`
    }
    let (cuts, needs) = match shape {
        Shape::Isolate | Shape::Simplex => return None,
        Shape::Halves => (shape::halves(nodes), 2),
        Shape::Majority => (shape::majority(nodes), 3),
        Shape::MinorityThird => (shape::minority_third(nodes), 4),
        Shape::Bridge => (shape::bridge(nodes), 3),
        Shape::Ring => (shape::ring(nodes), 4),
        Shape::Random => (shape::random(nodes, around.seed), 2),
        Shape::Groups(groups) => (shape::groups(&group_names(path, groups, around, problems)?), 2),
    };
    if cuts.is_empty() {
        let what = format!("{} targets are too few: nothing would be cut", nodes.len());
        problems.add(path, what, format!("choose at least {needs} targets"));
        return None;
    }
    Some(cuts)
}

fn group_names(
    path: &str,
    groups: &[Vec<String>],
    around: &Place<'_>,
    problems: &mut Problems,
) -> Option<Vec<Vec<HostName>>> {
    let mut seen = BTreeSet::new();
    let mut named = Vec::new();
    let mut whole = true;
    for (i, group) in groups.iter().enumerate() {
        let mut hosts = Vec::new();
        for (j, name) in group.iter().enumerate() {
            let path = format!("{path}.groups[{i}][{j}]");
            match around.targets.iter().find(|t| t.as_str() == name) {
                Some(host) if seen.insert(host) => hosts.push(host.clone()),
                Some(_) => {
                    whole = false;
                    problems.add(path, format!("`{name}` stands in a group already"), "");
                }
                None => {
                    whole = false;
                    let targets = around.targets.iter().map(HostName::as_str);
                    let what = format!("`{name}` is not among the targets");
                    problems.add(path, what, suggest(name, targets));
                }
            }
        }
        named.push(hosts);
    }
    if groups.len() < 2 || groups.iter().any(Vec::is_empty) {
        let remedy = "write at least two groups with a host each, as [[h1, h2], [h3]]";
        problems.add(format!("{path}.groups"), "there is nothing to cut apart", remedy);
        whole = false;
    }
    whole.then_some(named)
}
