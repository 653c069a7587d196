//! The holder: a small child process in whose kernel resources one fault lives.
//!
//! [`Spawner`] and [`Holder`] are the agent's side, [`hold_main`] is the child's. Between them JSON
//! lines: [`squall_core::hold::Hold`] and then orders on the child's stdin, reports on its stdout.

mod child;
mod handle;
mod lease;

pub use child::hold_main;
pub(crate) use child::{Line, Orders, die_with};
pub use handle::{Holder, HolderEvent, Spawner};
pub(crate) use lease::{Lease, killed_at};
