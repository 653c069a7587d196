//! Real faults on hosts that the tests make themselves: network namespaces joined by a veth pair.

mod bench;
mod network;
