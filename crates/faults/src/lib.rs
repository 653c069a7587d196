//! How a host is hurt, and how it is made whole. One file a fault; `sys` holds netlink, namespaces,
//! spawn and all `unsafe`.
#![deny(missing_docs)]

pub mod burner;
pub mod clock;
mod cpu;
pub mod doctor;
mod held;
pub mod holder;
mod kill;
mod lines;
mod loss;
mod memory;
mod partition;
mod pause;
mod proc;
mod processes;
pub mod residue;
pub mod sys;
mod traffic;
