//! The addresses of this host beside the one that it is registered by.

use std::io;
use std::net::IpAddr;

use squall_core::registry::{MAX_ALSO, leads_somewhere};
use squall_faults::sys::devices;

/// How often they are looked at, in milliseconds.
pub(crate) const LOOK_MS: u64 = 5_000;

/// Those at which peers could reach it, in order.
///
/// # Errors
/// The kernel's.
pub(crate) fn also(main: IpAddr) -> io::Result<Vec<IpAddr>> {
    let all = devices::addresses()?;
    Ok(all.into_iter().filter(|a| *a != main && leads_somewhere(*a)).take(MAX_ALSO).collect())
}
