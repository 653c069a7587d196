//! From a fault's form to what each host holds.

use std::collections::BTreeSet;

use ipnet::IpNet;

use super::partition;
use super::peers::{self, FarEnds};
use super::problem::Problems;
use super::{
    Control, CpuForm, FaultForm, Fleet, KillForm, Many, MemoryForm, Millis, PortRange, Signal,
};
use crate::experiment::{MAX_DURATION_MS, Placement};
use crate::fault::{
    Amount, Cpu, Direction, Fault, Kill, Loss, MAX_CORES, Memory, MemoryAmount, Partition, Pause,
    Ports, Processes, Traffic,
};
use crate::ids::HostName;

/// Entries of a list of processors, at most: with ranges no more are needed for any set of them.
const MAX_RANGES: usize = MAX_CORES as usize / 2;

/// What stands around a fault when it is placed.
pub(super) struct Place<'a> {
    pub fleet: &'a Fleet,
    pub targets: &'a [HostName],
    pub seed: u128,
    pub duration_ms: u64,
}

/// One fault of the file, on each host that holds it, and the hosts that it reaches beyond.
pub(super) fn place(
    index: u16,
    form: &FaultForm,
    around: &Place<'_>,
    problems: &mut Problems,
) -> (Vec<Placement>, BTreeSet<HostName>) {
    let path = format!("faults[{index}].{}", form.kind());
    check_ports(&path, form, problems);
    let mut touched = BTreeSet::new();
    let held: Vec<(HostName, Fault)> = match form {
        FaultForm::Partition(p) => partition::place(&path, p, around, &mut touched, problems),
        FaultForm::Loss(l) => {
            let ends = peers::look_up(&format!("{path}.peers"), &l.peers, around.fleet, problems);
            touched.extend(ends.touched(around.fleet).map(|h| h.name.clone()));
            let fault = |peers| {
                let direction = l.direction.unwrap_or_default();
                let traffic = traffic(peers, direction, l.ports.as_ref(), l.protocol);
                Fault::Loss(Loss { traffic, per_million: l.percent.0 })
            };
            each_target(&format!("{path}.peers"), &ends, around, problems, fault)
        }
        FaultForm::Kill(_) | FaultForm::Pause(_) | FaultForm::Cpu(_) | FaultForm::Memory(_) => {
            match local(&path, form, problems) {
                Some(fault) => around.targets.iter().map(|t| (t.clone(), fault.clone())).collect(),
                None => Vec::new(),
            }
        }
    };
    for (_, fault) in &held {
        if let Err(invalid) = fault.validate().and_then(|()| fault.check_length(around.duration_ms))
        {
            problems.add(&path, invalid.what, "");
        }
    }
    let placed = held.into_iter().map(|(host, spec)| Placement { host, fault: index, spec });
    (placed.collect(), touched)
}

/// A fault that needs no fleet. Network faults take addresses only.
pub(super) fn alone(form: &FaultForm, problems: &mut Problems) -> Option<Fault> {
    let path = form.kind().to_string();
    check_ports(&path, form, problems);
    let fault = match form {
        FaultForm::Partition(p) => {
            if p.shape.is_some() {
                let remedy = "write peers, or use `squall run` on a fleet";
                problems.add(format!("{path}.shape"), "a shape needs a fleet", remedy);
            }
            if p.control == Control::Severed {
                let remedy = "leave it out, or use `squall run` on a fleet";
                problems.add(format!("{path}.control"), "no coordinator is known here", remedy);
            }
            let at = format!("{path}.peers");
            if p.peers.as_ref().is_none_or(Many::is_empty) && p.shape.is_none() {
                problems.add(&at, "nobody is named", "write addresses, as 10.0.0.2 or 10.0.0.0/24");
            }
            let peers = peers::addresses_only(&at, p.peers.as_ref()?, problems);
            let direction = p.direction.unwrap_or_default();
            let traffic = traffic(peers, direction, p.ports.as_ref(), p.protocol);
            Fault::Partition(Partition { traffic, severed: Vec::new() })
        }
        FaultForm::Loss(l) => {
            let peers = peers::addresses_only(&format!("{path}.peers"), &l.peers, problems);
            let direction = l.direction.unwrap_or_default();
            let traffic = traffic(peers, direction, l.ports.as_ref(), l.protocol);
            Fault::Loss(Loss { traffic, per_million: l.percent.0 })
        }
        FaultForm::Kill(_) | FaultForm::Pause(_) | FaultForm::Cpu(_) | FaultForm::Memory(_) => {
            local(&path, form, problems)?
        }
    };
    Some(fault)
}

/// Whether `host` could not hold the fault, because it is all that the fault names as far ends.
pub(super) fn no_peer_but(host: &HostName, form: &FaultForm, fleet: &Fleet) -> bool {
    let Some(peers) = form.peers() else { return false };
    // What is wrong with them is told where the fault is placed.
    let ends = peers::look_up("", peers, fleet, &mut Problems::default());
    !ends.is_empty() && ends.addresses(host, fleet).is_empty()
}

/// An empty list would cut every port, as one that is left out does.
fn check_ports(path: &str, form: &FaultForm, problems: &mut Problems) {
    if form.ports().is_some_and(Many::is_empty) {
        let remedy = "name at least one port, or leave it out for all of them";
        problems.add(format!("{path}.ports"), "the list is empty", remedy);
    }
}

pub(super) fn traffic(
    peers: Vec<IpNet>,
    direction: Direction,
    ports: Option<&Many<PortRange>>,
    protocol: Option<crate::fault::Protocol>,
) -> Traffic {
    let mut ranges: Vec<Ports> = ports.map_or(Vec::new(), |p| p.0.iter().map(|r| r.0).collect());
    ranges.sort();
    ranges.dedup();
    Traffic { peers, direction, ports: ranges, protocol }
}

/// The fault on every target that has a far end other than itself.
pub(super) fn each_target(
    path: &str,
    ends: &FarEnds,
    around: &Place<'_>,
    problems: &mut Problems,
    fault: impl Fn(Vec<IpNet>) -> Fault,
) -> Vec<(HostName, Fault)> {
    let mut held = Vec::new();
    for target in around.targets {
        let addresses = ends.addresses(target, around.fleet);
        if !addresses.is_empty() {
            held.push((target.clone(), fault(addresses)));
        } else if !ends.is_empty() {
            let what = format!("target `{target}` would have no peer but itself");
            problems.add(path, what, "name another peer, or leave this target out");
        }
    }
    held
}

/// What a form selects; two have the same keys for it.
macro_rules! processes {
    ($form:expr) => {
        Processes {
            name: $form.name.clone(),
            cmdline: $form.cmdline.clone(),
            pid: $form.pid,
            port: $form.port,
            cgroup: $form.cgroup.clone(),
            exclude: $form.exclude.0.clone(),
        }
    };
}

/// The faults that touch no packets.
fn local(path: &str, form: &FaultForm, problems: &mut Problems) -> Option<Fault> {
    match form {
        FaultForm::Kill(kill) => self::kill(path, kill, problems).map(Fault::Kill),
        FaultForm::Pause(form) => Some(Fault::Pause(Pause { processes: processes!(form) })),
        FaultForm::Cpu(form) => cpu(path, form, problems).map(Fault::Cpu),
        FaultForm::Memory(form) => memory(path, form, problems).map(Fault::Memory),
        FaultForm::Partition(_) | FaultForm::Loss(_) => None,
    }
}

fn cpu(path: &str, form: &CpuForm, problems: &mut Problems) -> Option<Cpu> {
    let load_percent = match form.load {
        None => 100,
        Some(load) => whole(&format!("{path}.load"), load, problems)?,
    };
    let ranges = form.cores.as_ref().map_or(&[][..], |cores| &cores.0);
    if form.cores.is_some() && ranges.is_empty() {
        let remedy = "name at least one, or leave it out for any";
        problems.add(format!("{path}.cores"), "the list is empty", remedy);
    }
    if ranges.len() > MAX_RANGES {
        let what = format!("{} are too many", ranges.len());
        let remedy = format!("write at most {MAX_RANGES}, ranges as 0-3 among them");
        problems.add(format!("{path}.cores"), what, remedy);
        return None;
    }
    let mut named = [false; MAX_CORES as usize];
    for range in ranges {
        named[usize::from(range.0.from)..=usize::from(range.0.to)].fill(true);
    }
    let cores = (0..MAX_CORES).filter(|core| named[usize::from(*core)]).collect();
    let ramp_ms = short(&format!("{path}.ramp"), form.ramp, problems)?.unwrap_or(0);
    Some(Cpu { workers: form.workers, load_percent, cores, ramp_ms })
}

fn memory(path: &str, form: &MemoryForm, problems: &mut Problems) -> Option<Memory> {
    let amount = match (form.bytes, form.percent) {
        (Some(size), None) => MemoryAmount::Bytes(size.0),
        (None, Some(percent)) => {
            MemoryAmount::PercentOfAvailable(whole(&format!("{path}.percent"), percent, problems)?)
        }
        (Some(_), Some(_)) | (None, None) => {
            problems.add(path, "one of `bytes` and `percent` says how much", "write bytes: 64MiB");
            return None;
        }
    };
    let ramp_ms = short(&format!("{path}.ramp"), form.ramp, problems)?.unwrap_or(0);
    Some(Memory { amount, ramp_ms, touch_rate: form.touch_rate.map(|rate| rate.0) })
}

/// A length of time that is no longer than any experiment.
fn short(path: &str, length: Option<Millis>, problems: &mut Problems) -> Option<Option<u32>> {
    let Some(Millis(ms)) = length else { return Some(None) };
    match u32::try_from(ms).ok().filter(|_| ms <= MAX_DURATION_MS) {
        Some(ms) => Some(Some(ms)),
        None => {
            let remedy = format!("write at most {}", Millis(MAX_DURATION_MS));
            problems.add(path, "it is too long", remedy);
            None
        }
    }
}

fn whole(path: &str, percent: super::Percent, problems: &mut Problems) -> Option<u8> {
    let whole = percent.whole();
    if whole.is_none() {
        problems.add(path, format!("{percent} is not a whole percent"), "write 1 to 100");
    }
    whole
}

fn kill(path: &str, form: &KillForm, problems: &mut Problems) -> Option<Kill> {
    let amount = match (form.count, form.percent) {
        (None, None) => Amount::All,
        (Some(count), None) => Amount::Count(count),
        (None, Some(percent)) => {
            Amount::Percent(whole(&format!("{path}.percent"), percent, problems)?)
        }
        (Some(_), Some(_)) => {
            problems.add(path, "both `count` and `percent` say how many", "leave one out");
            return None;
        }
    };
    let interval_ms = short(&format!("{path}.interval"), form.interval, problems)?;
    Some(Kill {
        processes: processes!(form),
        amount,
        signal: form.signal.unwrap_or(Signal::KILL).0,
        interval_ms,
    })
}
