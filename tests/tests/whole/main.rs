//! The whole, on real fleets. One program, so that tests which mostly wait can wait side by side.

mod bad_input;
mod bench;
mod cli;
mod failover;
mod fleet_path;
mod lost_disk;
mod radius;
mod stops;
mod torture;
mod views;
