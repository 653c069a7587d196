//! A person on this host: `squall inject` and `squall lift` over a Unix socket.
//!
//! JSON lines both ways. A connection that injected something is its lease: the fault is lifted when
//! the connection ends.

mod client;
mod server;

use serde::{Deserialize, Serialize};
use squall_core::fault::Fault;
use squall_core::message::FaultReport;

pub use client::{Client, Injected};
pub(crate) use server::{Listening, Local, Locals, listen};

/// The socket's name in the run directory.
pub const SOCKET: &str = "agent.sock";
/// The lease of a fault that a person holds, renewed each fifth of it.
pub const LEASE_MS: u64 = 5_000;

/// What a person asks.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ask {
    /// Begin a fault; one a connection.
    Inject {
        /// What.
        fault: Fault,
        /// For how long at most.
        duration_ms: u64,
    },
    /// The person is still there.
    Renew,
    /// End it now.
    Lift,
    /// End everything on this host, whoever ordered it.
    LiftAll,
    /// What is held now.
    Faults,
}

/// What the agent answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// Nothing was begun.
    Refused {
        /// Why, with the remedy.
        reason: String,
        /// By the host's policy or latch, rather than by what is possible.
        by_safety: bool,
    },
    /// The fault of this connection has changed. The last one says that it is over.
    Fault(Box<FaultReport>),
    /// To `faults`; and to `lift-all` once nothing is alive any more.
    Faults(Vec<FaultReport>),
}
