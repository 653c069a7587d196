//! Placements as they are written down: a fault that several hosts get alike stands there once. Where half
//! of a fleet is cut from its other half each host names the other half, and all would take its square.

use std::collections::HashMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{MAX_EXPERIMENT_BYTES, PEER_BYTES, Placement};
use crate::fault::Fault;
use crate::ids::HostName;

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
    for Placement { host, fault, spec } in all {
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
            return Err(D::Error::custom("more peers than an experiment may have"));
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
