//! The addresses of this host beside the one that it is registered by.

use std::io;
use std::net::IpAddr;

use squall_core::registry::MAX_ALSO;
use squall_faults::sys::devices;

/// How often they are looked at, in milliseconds.
pub(crate) const LOOK_MS: u64 = 5_000;

/// Those at which peers could reach it, in order.
///
/// # Errors
/// The kernel's.
pub(crate) fn also(main: IpAddr) -> io::Result<Vec<IpAddr>> {
    let all = devices::addresses()?;
    Ok(all.into_iter().filter(|a| *a != main && leads_here(*a)).take(MAX_ALSO).collect())
}

/// Not one that every host has, or that holds on one wire alone.
fn leads_here(address: IpAddr) -> bool {
    let local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(local || address.is_loopback() || address.is_unspecified() || address.is_multicast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_every_host_has_leads_nowhere() {
        for (address, leads) in [
            ("10.0.0.1", true),
            ("fd00::1", true),
            ("2001:db8::1", true),
            ("127.0.0.1", false),
            ("::1", false),
            ("169.254.1.1", false),
            ("fe80::1", false),
        ] {
            assert_eq!(leads_here(address.parse().unwrap()), leads, "{address}");
        }
    }
}
