//! Who was refused, and why, in numbers.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::identity::IdentityError;

/// Why a connection was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// No certificate was shown.
    NoCertificate,
    /// A certificate of another authority, or of none.
    UnknownAuthority,
    /// A certificate whose time is over or has not begun.
    Expired,
    /// A certificate of another role than was meant or than its use needs.
    WrongRole,
    /// A good certificate of somebody else than was meant.
    WrongName,
    /// Something that is no certificate of ours at all.
    Malformed,
    /// Another wire version.
    Version,
    /// The handshake or the hello was not done in time.
    TooSlow,
    /// More connections at once than are taken.
    Overloaded,
    /// The other side broke the protocol or gave up.
    Protocol,
    /// A host that asked to join and may not: its token is no good, or nobody can join now.
    Join,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Reason::NoCertificate => "no certificate",
            Reason::UnknownAuthority => "unknown authority",
            Reason::Expired => "expired",
            Reason::WrongRole => "wrong role",
            Reason::WrongName => "wrong name",
            Reason::Malformed => "malformed",
            Reason::Version => "wire version",
            Reason::TooSlow => "too slow",
            Reason::Overloaded => "overloaded",
            Reason::Protocol => "protocol",
            Reason::Join => "join",
        })
    }
}

impl From<&IdentityError> for Reason {
    fn from(error: &IdentityError) -> Reason {
        match error {
            IdentityError::UnknownAuthority => Reason::UnknownAuthority,
            IdentityError::Expired => Reason::Expired,
            IdentityError::WrongRole(_) => Reason::WrongRole,
            IdentityError::Malformed(_)
            | IdentityError::Io { .. }
            | IdentityError::Exposed { .. } => Reason::Malformed,
        }
    }
}

/// Refusals by reason since the endpoint was bound. Only grows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RefusalCounts(BTreeMap<Reason, u64>);

impl RefusalCounts {
    /// How many for one reason.
    #[must_use]
    pub fn of(&self, reason: Reason) -> u64 {
        self.0.get(&reason).copied().unwrap_or(0)
    }

    /// How many in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Each reason that occurred.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        self.0.iter().map(|(reason, n)| (*reason, *n))
    }
}

/// The counter of one endpoint.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusals(Arc<Mutex<RefusalCounts>>);

impl Refusals {
    /// Logs and counts one refusal.
    pub(crate) fn note(&self, remote: SocketAddr, reason: Reason, detail: &str) {
        tracing::warn!(%remote, %reason, detail, "connection refused");
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.0.entry(reason).or_default() += 1;
    }

    pub(crate) fn counts(&self) -> RefusalCounts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
