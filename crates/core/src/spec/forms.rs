//! The faults as the file writes them.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::keyed::Keyed;
use super::lists::process_names;
use super::units::{AnyProtocol, any_protocol};
use super::{CoreRange, Many, Millis, Peer, Percent, PortRange, Rate, Signal, Size};
use crate::fault::{Direction, Kind, Protocol};

/// One fault: a map with its kind as the single key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FaultForm {
    /// Packets between the target and its peers vanish.
    Partition(PartitionForm),
    /// A share of those packets vanishes.
    Loss(LossForm),
    /// Processes get a signal.
    Kill(KillForm),
    /// Processes stand still.
    Pause(PauseForm),
    /// Processor time is burnt.
    Cpu(CpuForm),
    /// Memory is taken and kept in use.
    Memory(MemoryForm),
}

impl FaultForm {
    /// The kind of this fault.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            FaultForm::Partition(_) => Kind::Partition,
            FaultForm::Loss(_) => Kind::Loss,
            FaultForm::Kill(_) => Kind::Kill,
            FaultForm::Pause(_) => Kind::Pause,
            FaultForm::Cpu(_) => Kind::Cpu,
            FaultForm::Memory(_) => Kind::Memory,
        }
    }

    /// The far ends that it names, where it does.
    pub(super) fn peers(&self) -> Option<&Many<Peer>> {
        match self {
            FaultForm::Partition(p) => p.peers.as_ref(),
            FaultForm::Loss(l) => Some(&l.peers),
            FaultForm::Kill(_) | FaultForm::Pause(_) => None,
            FaultForm::Cpu(_) | FaultForm::Memory(_) => None,
        }
    }

    /// The ports that its packets are narrowed to, where they are.
    pub(super) fn ports(&self) -> Option<&Many<PortRange>> {
        match self {
            FaultForm::Partition(p) => p.ports.as_ref(),
            FaultForm::Loss(l) => l.ports.as_ref(),
            FaultForm::Kill(_) | FaultForm::Pause(_) => None,
            FaultForm::Cpu(_) | FaultForm::Memory(_) => None,
        }
    }
}

impl<'de> Deserialize<'de> for FaultForm {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(FaultVisitor)
    }
}

struct FaultVisitor;

impl<'de> Visitor<'de> for FaultVisitor {
    type Value = FaultForm;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a fault and its parameters, as `partition: {peers: [h2]}`")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<FaultForm, E> {
        let Name(kind) = Name::deserialize(text.into_deserializer())?;
        Err(E::custom(format!("`{kind}` needs its parameters: write `{kind}: {{…}}`")))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<FaultForm, A::Error> {
        let Some(Name(kind)) = map.next_key()? else {
            return Err(de::Error::custom(format!("a fault is missing: {}", known())));
        };
        let form = match kind {
            Kind::Partition => FaultForm::Partition(map.next_value::<Keyed<_>>()?.0),
            Kind::Loss => FaultForm::Loss(map.next_value::<Keyed<_>>()?.0),
            Kind::Kill => FaultForm::Kill(map.next_value::<Keyed<_>>()?.0),
            Kind::Pause => FaultForm::Pause(map.next_value::<Keyed<_>>()?.0),
            Kind::Cpu => FaultForm::Cpu(map.next_value::<Keyed<_>>()?.0),
            Kind::Memory => FaultForm::Memory(map.next_value::<Keyed<_>>()?.0),
        };
        match map.next_key::<Second>()? {
            None => Ok(form),
            Some(never) => match never {},
        }
    }
}

fn known() -> String {
    let names: Vec<&str> = Kind::ALL.iter().map(|k| k.name()).collect();
    format!("known faults are {}", names.join(", "))
}

/// The name of a fault. A key of its own, so that a reader of YAML knows where it stands.
struct Name(Kind);

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        let kind = Kind::ALL.into_iter().find(|k| k.name() == name);
        let unknown = || de::Error::custom(format!("unknown fault `{name}`: {}", known()));
        kind.map(Name).ok_or_else(unknown)
    }
}

/// What may not follow in the same map.
enum Second {}

impl<'de> Deserialize<'de> for Second {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name = String::deserialize(from)?;
        Err(de::Error::custom(format!(
            "`{name}` does not belong to the fault before it: give each fault its own `-`, and \
             indent its parameters below its name"
        )))
    }
}

/// See [`FaultForm::Partition`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PartitionForm {
    /// From whom each target is cut off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minItems" = 1))]
    pub peers: Option<Many<Peer>>,
    /// Which way; both where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// Only these ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minItems" = 1))]
    pub ports: Option<Many<PortRange>>,
    /// Only this protocol.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "any_protocol")]
    #[schemars(with = "Option<AnyProtocol>")]
    pub protocol: Option<Protocol>,
    /// Whether Squall's own traffic is cut too.
    #[serde(default)]
    pub control: Control,
    /// How the targets are cut from each other, instead of `peers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<Shape>,
}

/// What becomes of Squall's own traffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Control {
    /// It passes.
    #[default]
    Exempt,
    /// It is cut from every coordinator: the lease does the lifting.
    Severed,
}

/// How the targets are cut from each other. Each cut is held by one of its two ends, so that as few
/// hosts as possible hold one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Shape {
    /// Each target from all other hosts, or from `peers`.
    Isolate,
    /// As `isolate`, one way: `in` where `direction` does not say.
    Simplex,
    /// One half from the other.
    Halves,
    /// The largest minority from a majority.
    Majority,
    /// Less than a third from the rest.
    MinorityThird,
    /// Two halves, and one host that sees both.
    Bridge,
    /// Each sees only its two neighbours.
    Ring,
    /// A minority drawn by chance from the rest.
    Random,
    /// Groups of a person's own.
    Groups(Vec<Vec<String>>),
}

/// See [`FaultForm::Loss`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct LossForm {
    /// How many of the packets.
    pub percent: Percent,
    /// On the way to and from whom.
    #[schemars(extend("minItems" = 1))]
    pub peers: Many<Peer>,
    /// Only these ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minItems" = 1))]
    pub ports: Option<Many<PortRange>>,
    /// Only this protocol.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "any_protocol")]
    #[schemars(with = "Option<AnyProtocol>")]
    pub protocol: Option<Protocol>,
    /// Which way; both where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
}

/// See [`FaultForm::Kill`]. Every condition that is given holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct KillForm {
    /// The command's name, as `ps -o comm` shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A text that the command line contains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<String>,
    /// The process id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// A TCP port that it listens on, or a UDP port that it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// A cgroup path, or a systemd unit, that it lives in or below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Names that never match.
    #[serde(default, skip_serializing_if = "Many::is_empty", deserialize_with = "process_names")]
    pub exclude: Many<String>,
    /// The signal; SIGKILL where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<Signal>,
    /// At most so many of what matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// Such a share of what matches, in whole percent, at least one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<Percent>,
    /// Again so often until the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Millis>,
}

/// See [`FaultForm::Pause`]. Every condition that is given holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct PauseForm {
    /// The command's name, as `ps -o comm` shows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// A text that the command line contains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cmdline: Option<String>,
    /// The process id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// A TCP port that it listens on, or a UDP port that it is bound to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// A cgroup path, or a systemd unit, that it lives in or below.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Names that never match.
    #[serde(default, skip_serializing_if = "Many::is_empty", deserialize_with = "process_names")]
    pub exclude: Many<String>,
}

/// See [`FaultForm::Cpu`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CpuForm {
    /// Burner processes; one for each processor where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u16>,
    /// How busy each is, in whole percent of a processor; 100 where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Percent>,
    /// The processors that they are bound to, one after the other; `workers` is one for each of them
    /// where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("minItems" = 1, "maxItems" = 512))]
    pub cores: Option<Many<CoreRange>>,
    /// Over so long the load rises evenly to what `load` says; at once where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp: Option<Millis>,
}

/// See [`FaultForm::Memory`]: one of `bytes` and `percent`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct MemoryForm {
    /// So much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Size>,
    /// Such a share of what is available when the fault begins, in whole percent up to 95.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<Percent>,
    /// Over so long it is taken, evenly; as fast as the host gives it where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ramp: Option<Millis>,
    /// So much of it, at least 1MiB/s and of 8GiB at most, is written to each second once it is taken,
    /// all in turn; all of it in five seconds where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub touch_rate: Option<Rate>,
}
