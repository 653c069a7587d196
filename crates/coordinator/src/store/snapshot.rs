//! The registry in bytes. It may be larger than one value may be for the codec, so it goes in
//! sections, each a value of its own behind four bytes of length: stops and resumes, the rest of the
//! registry, then who stopped when, hosts, and experiments.

use std::io;

use serde::Serialize;
use squall_core::experiment::ExperimentRecord;
use squall_core::fence::Fence;
use squall_core::ids::StopId;
use squall_core::registry::{HostRecord, Registry, StopRecord};

/// Hosts, or records of stops, in one section.
const MANY: usize = 1000;

/// What the first section says of the others.
#[derive(Debug, Serialize, serde::Deserialize)]
struct Head {
    stop_sections: u32,
    host_sections: u32,
    experiments: u32,
}

/// The bytes of `registry`.
pub(super) fn encode(mut registry: Registry) -> io::Result<Vec<u8>> {
    let fence = std::mem::take(&mut registry.fence);
    let stops: Vec<(StopId, StopRecord)> =
        std::mem::take(&mut registry.stops).into_iter().collect();
    let hosts: Vec<HostRecord> = std::mem::take(&mut registry.hosts).into_values().collect();
    let experiments = std::mem::take(&mut registry.experiments);
    let head = Head {
        stop_sections: count(stops.chunks(MANY).len())?,
        host_sections: count(hosts.chunks(MANY).len())?,
        experiments: count(experiments.len())?,
    };
    let mut out = Vec::new();
    push(&mut out, &head)?;
    push(&mut out, &fence)?;
    push(&mut out, &registry)?;
    for section in stops.chunks(MANY) {
        push(&mut out, &section)?;
    }
    for section in hosts.chunks(MANY) {
        push(&mut out, &section)?;
    }
    for record in experiments.values() {
        push(&mut out, record)?;
    }
    Ok(out)
}

/// The registry in `bytes`.
pub(super) fn decode(mut bytes: &[u8]) -> io::Result<Registry> {
    let head: Head = pull(&mut bytes)?;
    let fence: Fence = pull(&mut bytes)?;
    let mut registry: Registry = pull(&mut bytes)?;
    registry.fence = fence;
    for _ in 0..head.stop_sections {
        let section: Vec<(StopId, StopRecord)> = pull(&mut bytes)?;
        registry.stops.extend(section);
    }
    for _ in 0..head.host_sections {
        let section: Vec<HostRecord> = pull(&mut bytes)?;
        registry.hosts.extend(section.into_iter().map(|h| (h.name.clone(), h)));
    }
    for _ in 0..head.experiments {
        let record: ExperimentRecord = pull(&mut bytes)?;
        registry.experiments.insert(record.id, record);
    }
    if bytes.is_empty() { Ok(registry) } else { Err(malformed()) }
}

fn push<T: Serialize>(out: &mut Vec<u8>, value: &T) -> io::Result<()> {
    let section = super::encode(value)?;
    out.extend_from_slice(&count(section.len())?.to_le_bytes());
    out.extend_from_slice(&section);
    Ok(())
}

fn pull<T: serde::de::DeserializeOwned>(bytes: &mut &[u8]) -> io::Result<T> {
    let (len, rest) = bytes.split_first_chunk::<4>().ok_or_else(malformed)?;
    let len = u32::from_le_bytes(*len) as usize;
    let (section, rest) = rest.split_at_checked(len).ok_or_else(malformed)?;
    *bytes = rest;
    super::decode(section)
}

fn count(n: usize) -> io::Result<u32> {
    u32::try_from(n).map_err(io::Error::other)
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "malformed snapshot")
}
