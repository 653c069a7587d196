//! Questions asked of the whole.
//!
//! [`world`] puts the pure machines of two hosts and two coordinators together, with a network that
//! delays, repeats and forgets; [`invariants`] says what must be true of every state that it can
//! reach. `src/bin/model.rs` asks breadth-first, `src/bin/simulate.rs` by seeds.
#![forbid(unsafe_code)]

pub mod explore;
pub mod invariants;
pub mod world;
