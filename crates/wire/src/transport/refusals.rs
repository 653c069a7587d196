//! Who was refused, and why, in numbers.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Seldom;
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
pub(crate) struct Refusals(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    counts: RefusalCounts,
    log: BTreeMap<Reason, Seldom>,
}

impl Refusals {
    /// Counts one refusal, and logs it, or at times those for its reason together: whoever is refused may
    /// come again at once.
    pub(crate) fn note(&self, remote: SocketAddr, reason: Reason, detail: &str) {
        let mut noted = self.noted();
        *noted.counts.0.entry(reason).or_default() += 1;
        let told = noted.log.entry(reason).or_default().count(1);
        drop(noted);
        if let Some(times) = told {
            tracing::warn!(%remote, %reason, detail, times, "connection refused");
        }
    }

    pub(crate) fn counts(&self) -> RefusalCounts {
        self.noted().counts.clone()
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tracing::span;

    use super::*;

    /// Counts the lines of a log.
    struct Lines(Arc<AtomicUsize>);

    impl tracing::Subscriber for Lines {
        fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
            true
        }
        fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
            span::Id::from_u64(1)
        }
        fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
        fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
        fn event(&self, _: &tracing::Event<'_>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
        fn enter(&self, _: &span::Id) {}
        fn exit(&self, _: &span::Id) {}
    }

    #[test]
    fn each_is_counted_and_a_reason_is_logged_once_for_many() {
        let (refusals, lines) = (Refusals::default(), Arc::new(AtomicUsize::new(0)));
        tracing::subscriber::with_default(Lines(lines.clone()), || {
            for port in 0..1_000 {
                let remote = SocketAddr::from(([10, 0, 0, 9], port));
                refusals.note(remote, Reason::NoCertificate, "none was shown");
            }
            refusals.note(SocketAddr::from(([10, 0, 0, 8], 1)), Reason::Expired, "in May");
        });
        let counts = refusals.counts();
        assert_eq!((counts.of(Reason::NoCertificate), counts.total()), (1_000, 1_001));
        assert_eq!(lines.load(Ordering::SeqCst), 2);
    }
}
