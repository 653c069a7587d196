//! What does the cluster agree on, and what is left to do?
//!
//! A coordinator is one member of a raft group of three or five. It keeps a control stream of every
//! agent, answers operators, and, while it leads, drives experiments. All rules are in
//! `squall_core`; here are the drivers.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod store;

pub use store::StoreError;
