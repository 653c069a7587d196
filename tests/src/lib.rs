//! Questions asked of the whole.
//!
//! [`world`] puts the pure machines of hosts, coordinators and the log together; [`invariants`] says
//! what must be true of every state that it can reach. Two drivers choose what happens: [`model`]
//! takes every choice, breadth-first (`src/bin/model.rs`); [`simulation`] takes one of many at
//! random, over time, and asks too that all ends well (`src/bin/simulate.rs`).
//!
//! [`fleet`] is a real one in a lab; [`torture`] ends every fault on it in every way; [`failover`]
//! strikes its coordinators.
#![forbid(unsafe_code)]

#[cfg(feature = "fleet")]
pub mod air;
pub mod explore;
#[cfg(feature = "fleet")]
pub mod failover;
#[cfg(feature = "fleet")]
pub mod fleet;
pub mod invariants;
pub mod model;
pub mod simulation;
#[cfg(feature = "fleet")]
pub mod torture;
pub mod world;
