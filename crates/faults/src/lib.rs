//! How a host is hurt, and how it is made whole. One file a fault; `sys` holds netlink, namespaces,
//! spawn and all `unsafe`.
#![deny(missing_docs)]

pub mod clock;
mod cpu;
mod held;
pub mod holder;
mod kill;
mod loss;
mod memory;
mod partition;
mod pause;
mod proc;
pub mod residue;
pub mod sys;
mod traffic;
