//! The types with which raft is instantiated here.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use squall_core::registry::{Command, Entry, Outcome};

openraft::declare_raft_types!(
    /// Leader ids are of the standard kind: one leader a term. The default kind allows two.
    pub TypeConfig:
        D = Proposal,
        R = Outcome,
        NodeId = u64,
        Node = Member,
        LeaderId = openraft::impls::leader_id_std::LeaderId<Self::Term, Self::NodeId>,
);

/// An encoded [`squall_core::registry::Registry`]; shared, because several followers may need it
/// at once.
pub type SnapshotData = Arc<Vec<u8>>;

pub type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
pub type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
pub type LogEntry = openraft::type_config::alias::EntryOf<TypeConfig>;
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
pub type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
pub type Snapshot = openraft::type_config::alias::SnapshotOf<TypeConfig, SnapshotData>;
pub type Raft = openraft::Raft<TypeConfig, super::StateMachine>;

/// What one log entry carries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal(pub Entry);

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match &self.0.command {
            Command::Register(_) => "register",
            Command::Drain { .. } => "drain",
            Command::CreateToken { .. } => "create-token",
            Command::UseToken { .. } => "use-token",
            Command::Submit { .. } => "submit",
            Command::Advance { .. } => "advance",
            Command::End { .. } => "end",
            Command::Observe { .. } => "observe",
            Command::Report { .. } => "report",
            Command::Settle { .. } => "settle",
            Command::Stop(_) => "stop",
            Command::Resume { .. } => "resume",
            Command::Barrier => "barrier",
            Command::EndAll { .. } => "end-all",
            Command::Forget(_) => "forget",
        };
        write!(f, "{what} {} by {}", self.0.id, self.0.by)
    }
}

/// A coordinator as raft's membership knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name, as in its certificate.
    pub name: String,
    /// Its address when the membership was written; the configuration file has the last word.
    pub address: String,
}
