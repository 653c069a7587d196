//! Names and numbers that say which one is meant.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A host's name: 1 to 63 of `a-z`, `0-9`, `-` and `.`, beginning and ending with a letter or digit.
/// It stands in every fault's id and in every table, so that a copy shares the text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(Arc<str>);

/// A host name that breaks the rule of [`HostName`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a valid name: use 1 to 63 of a-z, 0-9, `-` and `.`, beginning and ending with a letter or a digit"
)]
pub struct InvalidHostName(pub String);

impl HostName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for HostName {
    type Error = InvalidHostName;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        let edge =
            |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
        let good = text.len() <= 63
            && edge(text.chars().next())
            && edge(text.chars().last())
            && text.chars().all(inner);
        if good { Ok(HostName(text.into())) } else { Err(InvalidHostName(text)) }
    }
}

impl FromStr for HostName {
    type Err = InvalidHostName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        HostName::try_from(text.to_owned())
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> String {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A coordinator, as each configuration file and each join token lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Coordinator {
    /// Its number in raft.
    pub id: NodeId,
    /// Its name, as its certificate says.
    pub name: HostName,
    /// Where the others, agents and operators reach it (UDP).
    pub address: SocketAddr,
}

/// A cluster, by the fingerprint of its authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClusterId(pub [u8; 32]);

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map($name)
            }
        }
    };
}

uuid_id!(
    /// One run of one experiment file.
    ExperimentId
);
uuid_id!(
    /// One stop-all. Chosen by the client, the same towards every coordinator.
    StopId
);
uuid_id!(
    /// One client command. The same id sent twice takes effect once.
    CommandId
);
uuid_id!(
    /// One life of one agent process. Orders that answer an earlier life are refused.
    AgentRun
);

/// The version of UUIDs that only hosts make, for what a person injects there. Others are version 4.
const LOCAL: usize = 8;

impl ExperimentId {
    /// The id of what a person injects on a host: no log knows it, and no lease of the cluster's binds
    /// it.
    #[must_use]
    pub fn local(random: u128) -> ExperimentId {
        ExperimentId(uuid::Builder::from_custom_bytes(random.to_be_bytes()).into_uuid())
    }

    /// Whether a person injected it on a host.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.0.get_version_num() == LOCAL
    }

    /// The first eight hex digits: enough for a person, unique in practice within a cluster.
    #[must_use]
    pub fn short(&self) -> String {
        self.0.simple().to_string()[..8].to_owned()
    }
}

/// A coordinator's number in raft, from 1.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{}", self.0)
    }
}

/// Who led when an order was made. Compared as (term, node).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Leadership {
    /// Raft term.
    pub term: u64,
    /// The coordinator that led in it.
    pub node: NodeId,
}

/// A position in the replicated log.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct LogIndex(pub u64);

/// One fault on one host: applied at most once, ever.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FaultId {
    /// The experiment; one of [`ExperimentId::local`] for `squall inject`.
    pub experiment: ExperimentId,
    /// Position of the fault in the experiment's file, from 0.
    pub fault: u16,
    /// The host that holds it.
    pub host: HostName,
}

impl FaultId {
    /// The tag in the name of every kernel object of this fault: `sq`, nine hex digits of the
    /// experiment and the fault's number in hex. At most 15 bytes, the limit of interface names.
    #[must_use]
    pub fn tag(&self) -> String {
        let hex = self.experiment.0.simple().to_string();
        format!("sq{}{:x}", &hex[..9], self.fault)
    }

    /// Whether this is the [`FaultId::tag`] of some fault.
    #[must_use]
    pub fn is_a_tag(text: &str) -> bool {
        let hex = |digits: &str| digits.bytes().all(|b| b.is_ascii_hexdigit());
        text.strip_prefix("sq")
            .is_some_and(|digits| (10..=13).contains(&digits.len()) && hex(digits))
    }
}

impl fmt::Display for FaultId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.experiment.short(), self.fault, self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_by_its_shape_and_fits_an_interface() {
        for fault in [0, 31, u16::MAX] {
            let experiment = ExperimentId(Uuid::from_u128(0x1234_5678_9abc << 80));
            let tag = FaultId { experiment, fault, host: "h1".parse().unwrap() }.tag();
            assert!(FaultId::is_a_tag(&tag) && tag.len() <= 15, "{tag}");
        }
        for other in
            ["filter", "sq", "sq123456789", "sq12345678901234", "squ234567890", "x1234567890"]
        {
            assert!(!FaultId::is_a_tag(other), "{other}");
        }
    }
}
