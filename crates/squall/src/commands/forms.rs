//! The flags of `squall inject` as the same form that a file has.

use squall_core::fault::{Direction, Protocol};
use squall_core::spec::{
    CpuForm, FaultForm, KillForm, LossForm, Many, MemoryForm, PartitionForm, PauseForm, Peer,
};

use crate::cli::{InjectKind, Packets, Span, Transport, Way};

/// The fault as a form, and for how long.
pub fn form(kind: InjectKind) -> (FaultForm, Span) {
    match kind {
        InjectKind::Partition { packets, span } => {
            let form = PartitionForm {
                peers: Some(peers(&packets)),
                direction: Some(direction(packets.direction)),
                ports: named(&packets.ports),
                protocol: protocol(&packets),
                ..PartitionForm::default()
            };
            (FaultForm::Partition(form), span)
        }
        InjectKind::Loss { percent, packets, span } => {
            let form = LossForm {
                percent,
                peers: peers(&packets),
                ports: named(&packets.ports),
                protocol: protocol(&packets),
                direction: Some(direction(packets.direction)),
            };
            (FaultForm::Loss(form), span)
        }
        InjectKind::Kill { selector: s, wanted, signal, interval, span } => {
            let form = KillForm {
                name: s.name,
                cmdline: s.cmdline,
                pid: s.pid,
                port: s.port,
                cgroup: s.cgroup,
                exclude: Many(s.exclude),
                signal,
                count: wanted.count,
                percent: wanted.percent,
                interval,
            };
            (FaultForm::Kill(form), span)
        }
        InjectKind::Pause { selector: s, span } => {
            let form = PauseForm {
                name: s.name,
                cmdline: s.cmdline,
                pid: s.pid,
                port: s.port,
                cgroup: s.cgroup,
                exclude: Many(s.exclude),
            };
            (FaultForm::Pause(form), span)
        }
        InjectKind::Cpu { workers, load, cores, ramp, span } => {
            (FaultForm::Cpu(CpuForm { workers, load, cores: named(&cores), ramp }), span)
        }
        InjectKind::Memory { bytes, percent, ramp, touch_rate, span } => {
            (FaultForm::Memory(MemoryForm { bytes, percent, ramp, touch_rate }), span)
        }
    }
}

fn peers(packets: &Packets) -> Many<Peer> {
    Many(packets.peers.iter().map(|p| Peer::Name(p.trim().to_owned())).collect())
}

/// A list that was given.
fn named<T: Clone>(list: &[T]) -> Option<Many<T>> {
    (!list.is_empty()).then(|| Many(list.to_vec()))
}

fn direction(way: Way) -> Direction {
    match way {
        Way::In => Direction::In,
        Way::Out => Direction::Out,
        Way::Both => Direction::Both,
    }
}

fn protocol(packets: &Packets) -> Option<Protocol> {
    packets.protocol.map(|p| match p {
        Transport::Tcp => Protocol::Tcp,
        Transport::Udp => Protocol::Udp,
    })
}
