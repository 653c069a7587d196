//! What must this host do now? The driver around [`squall_core::host::Host`]: holders, journal,
//! control streams, neighbours, probes, and a socket for a person on the host.
#![forbid(unsafe_code)]

mod addresses;
pub mod config;
mod driver;
mod fit;
mod holders;
mod links;
pub mod local;
mod neighbours;
mod probes;
mod start;
#[cfg(test)]
mod tests;
mod writer;

pub use config::Config;
pub use probes::Probes;
pub use start::{AgentError, lone, run};
