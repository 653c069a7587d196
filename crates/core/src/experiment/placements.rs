//! Placements as they are written down: a fault that several hosts get alike stands there once. Where half
//! of a fleet is cut from its other half each host names the other half, and all would take its square.

use std::collections::HashMap;

use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{MAX_EXPERIMENT_BYTES, PEER_BYTES, Placement};
use crate::fault::Fault;
use crate::ids::HostName;

const TOO_MANY: &str = "the peers of all hosts together are more than an experiment may have";

#[derive(Deserialize)]
struct Written {
    faults: Vec<Fault>,
    places: Vec<Place>,
}

#[derive(Serialize)]
struct Writing<'a> {
    faults: Vec<&'a Fault>,
    places: Vec<Place>,
}

#[derive(Serialize, Deserialize)]
struct Place {
    host: HostName,
    fault: u16,
    /// Its place in `faults`.
    spec: u32,
}

pub(super) fn serialize<S: Serializer>(all: &[Placement], to: S) -> Result<S::Ok, S::Error> {
    let mut writing = Writing { faults: Vec::new(), places: Vec::with_capacity(all.len()) };
    // Only looked up: what is written is in the order of the placements.
    let mut known: HashMap<&Fault, u32> = HashMap::new();
    let mut bytes = 0_usize;
    for Placement { host, fault, spec } in all {
        // What could not be read again must not be written.
        bytes = bytes.saturating_add(spec.peers() * PEER_BYTES);
        if bytes > MAX_EXPERIMENT_BYTES {
            return Err(S::Error::custom(TOO_MANY));
        }
        let next = known.len() as u32;
        let place = *known.entry(spec).or_insert_with(|| {
            writing.faults.push(spec);
            next
        });
        writing.places.push(Place { host: host.clone(), fault: *fault, spec: place });
    }
    writing.serialize(to)
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Placement>, D::Error> {
    let Written { faults, places } = Written::deserialize(from)?;
    let mut bytes = 0_usize;
    let placed = |Place { host, fault, spec }| {
        let spec = faults.get(spec as usize);
        let spec =
            spec.ok_or_else(|| D::Error::custom("a placement of a fault that is missing"))?;
        bytes = bytes.saturating_add(spec.peers() * PEER_BYTES);
        if bytes > MAX_EXPERIMENT_BYTES {
            return Err(D::Error::custom(TOO_MANY));
        }
        Ok(Placement { host, fault, spec: spec.clone() })
    };
    places.into_iter().map(placed).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Cpu;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Of(#[serde(with = "super")] Vec<Placement>);

    #[test]
    fn what_could_not_be_read_again_is_not_written() {
        use crate::fault::{Direction, Partition, Traffic};
        let peers = vec![std::net::IpAddr::from([10, 0, 0, 1]).into(); 1_000];
        let traffic =
            Traffic { peers, direction: Direction::Both, ports: Vec::new(), protocol: None };
        let spec = Fault::Partition(Partition { traffic, severed: Vec::new() });
        let most = MAX_EXPERIMENT_BYTES / PEER_BYTES / 1_000;
        let place = |n: usize| Placement {
            host: format!("h{n}").parse().unwrap(),
            fault: 0,
            spec: spec.clone(),
        };
        let mut all = Of((0..most).map(place).collect());
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(serde_json::from_str::<Of>(&text).unwrap(), all);
        all.0.push(place(most));
        assert!(serde_json::to_string(&all).is_err());
        // Nor read where somebody wrote it all the same.
        let one = r#"{"host":"h0","fault":0,"spec":0},"#;
        let longer = text.replacen(one, &one.repeat(2), 1);
        assert_ne!(longer, text);
        assert!(serde_json::from_str::<Of>(&longer).is_err());
    }

    #[test]
    fn what_hosts_get_alike_stands_there_once() {
        let place = |host: &str, fault, percent| Placement {
            host: host.parse().unwrap(),
            fault,
            spec: Fault::Cpu(Cpu::new(Some(1), percent)),
        };
        let all = Of(vec![place("h1", 0, 50), place("h1", 1, 70), place("h2", 0, 50)]);
        let text = serde_json::to_string(&all).unwrap();
        assert_eq!(text.matches("50").count(), 1, "{text}");
        assert_eq!(serde_json::from_str::<Of>(&text).unwrap(), all);
        let wrong = text.replace(r#""spec":1"#, r#""spec":2"#);
        assert_ne!(wrong, text);
        assert!(serde_json::from_str::<Of>(&wrong).is_err());
    }
}
