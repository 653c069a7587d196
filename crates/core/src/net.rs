//! Addresses as people write them.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// A network, or an address alone. IPv4 that is written as IPv6 (`::ffff:10.0.0.2`) is what its packets
/// are: IPv4.
#[must_use]
pub fn read(text: &str) -> Option<IpNet> {
    let address = text.parse::<IpAddr>().map(IpNet::from).ok();
    let net = address.or_else(|| text.parse::<IpNet>().ok())?.trunc();
    let IpNet::V6(mapped) = net else { return Some(net) };
    let length = mapped.prefix_len().checked_sub(MAPPED_BITS);
    let within = length.zip(mapped.addr().to_ipv4_mapped());
    Some(within.and_then(|(bits, v4)| Ipv4Net::new(v4, bits).ok()).map_or(net, IpNet::from))
}

/// As people write it: an address alone without its prefix.
#[must_use]
pub fn written(net: &IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { net.addr().to_string() } else { net.to_string() }
}

/// The prefix of IPv4 in IPv6, RFC 4291.
const MAPPED_BITS: u8 = 96;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ipv4_is_read_as_ipv4() {
        for (text, net) in [
            ("10.0.0.2", Some("10.0.0.2/32")),
            ("10.0.0.7/24", Some("10.0.0.0/24")),
            ("::ffff:10.0.0.2", Some("10.0.0.2/32")),
            ("::ffff:10.0.0.7/120", Some("10.0.0.0/24")),
            ("::ffff:0:0/96", Some("0.0.0.0/0")),
            ("::/0", Some("::/0")),
            ("fd00::7/64", Some("fd00::/64")),
            ("10.0.0", None),
            ("h2", None),
        ] {
            assert_eq!(read(text).map(|n| n.to_string()), net.map(str::to_owned), "{text}");
            let again = read(text).and_then(|n| read(&written(&n)));
            assert_eq!(again, read(text), "{text}");
        }
    }
}
