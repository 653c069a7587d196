//! The whole, on real fleets. One program, so that tests which mostly wait can wait side by side.
#![allow(clippy::too_many_lines, reason = "a fleet is brought up once for a whole story")]

use std::sync::{Mutex, MutexGuard, PoisonError};

mod addresses;
mod bad_input;
mod bench;
mod cli;
mod demo;
mod elsewhere;
mod failover;
mod fleet_path;
mod lost_disk;
mod radius;
mod stops;
mod torture;
mod vantage;
mod views;

/// For a test that fills the machine by itself: two of them side by side would break each other's bounds of
/// time. One that fails lets the next one begin.
fn alone() -> MutexGuard<'static, ()> {
    static HEAVY: Mutex<()> = Mutex::new(());
    HEAVY.lock().unwrap_or_else(PoisonError::into_inner)
}
