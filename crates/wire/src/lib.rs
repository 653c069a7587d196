//! Who is speaking, and what did they say?
//!
//! [`identity`] says who: a cluster's authority, certificates with a role, join tokens. [`codec`]
//! says what: bounded bytes for values. [`transport`] carries it over QUIC with mutual TLS, and
//! [`memory`] is its twin without a network, for tests. [`seal`] and [`stop`] are for datagrams that
//! need no connection: gossip and beats under the cluster's key, stops under a coordinator's
//! signature.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod codec;
mod error;
#[cfg(test)]
#[path = "../tests/golden/file.rs"]
mod golden;
pub mod identity;
pub mod memory;
pub mod seal;
pub mod stop;
pub mod transport;

pub use error::WireError;
pub use identity::{
    ClusterAuthority, Fingerprint, GossipKey, Identity, IdentityError, JoinToken, Peer, Role,
};
pub use transport::{
    Channel, Connection, Endpoint, EndpointOptions, Receiver, RefusalCounts, Sender,
};
