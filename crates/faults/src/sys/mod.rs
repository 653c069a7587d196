//! The kernel's side: netlink, namespaces, timers, processes. All `unsafe` of the project is below
//! this module, each block with its reason.

pub mod devices;
pub mod dummy;
pub mod links;
pub mod namespaces;
pub mod netlink;
pub mod nft;
pub mod pidfd;
pub mod raw;
pub mod signals;
pub mod timer;
pub mod trace;
