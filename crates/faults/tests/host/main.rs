//! Real faults on hosts that the tests make themselves: network namespaces joined by a veth pair, and
//! processes that are there to be hurt.
#![allow(clippy::unwrap_used, reason = "a bench that cannot stand fails the test")]

mod bench;
mod bites;
mod burn;
mod devices;
mod doctor;
mod endings;
mod kill;
mod network;
mod pause;
mod rising;
mod rules;
mod victim;
