//! How many connections one certificate may have.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError, Weak};

use super::{Connection, ConnectionInner};
use crate::identity::Role;

/// Connections by one certificate's role and name, at most. An agent has one, and while it connects anew
/// perhaps another that has not been missed yet; a person may run many commands at once.
fn most(role: Role) -> usize {
    match role {
        Role::Agent => 4,
        Role::Coordinator => 8,
        Role::Operator => 256,
    }
}

/// The connections of one certificate, oldest first.
type Own = Vec<Weak<ConnectionInner>>;

/// Who is connected. Names are those of certificates that our authority made.
#[derive(Debug, Default)]
pub(super) struct Guests(Mutex<BTreeMap<(Role, String), Own>>);

impl Guests {
    /// One more. The oldest of a certificate that has too many is closed: whoever comes last is the one
    /// that is alive.
    pub(super) fn add(&self, connection: &Connection) {
        let peer = connection.peer();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = all.entry((peer.role, peer.name.clone())).or_default();
        own.retain(|guest| guest.strong_count() > 0);
        while own.len() >= most(peer.role) {
            if let Some(oldest) = own.remove(0).upgrade() {
                Connection::from_inner(oldest).close("too many connections by one certificate");
            }
        }
        own.push(connection.downgrade());
    }
}
