//! IP addresses and networks in patterns.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A range of addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Network {
    address: IpAddr,
    bits: u32,
}

/// The address that a leaf contains, with or without quotes.
pub(super) fn address(json: &str) -> Option<IpAddr> {
    let text = json.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(json);
    let version_6 = |address: Ipv6Addr| address.to_ipv4_mapped().map_or(IpAddr::V6(address), IpAddr::V4);
    // A version 6 address with dots is a text for the matcher.
    let is_version_6 = text.contains(':') && !text.contains('.');
    if is_version_6 { text.parse().map(version_6).ok() } else { text.parse::<Ipv4Addr>().map(IpAddr::V4).ok() }
}

/// Whether this text could be a version 4 address with leading zeros or fewer parts, which Java reads in its own way.
pub(super) fn is_ambiguous(text: &str) -> bool {
    let parts: Vec<_> = text.split('.').collect();
    let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let has_zero = |part: &&str| part.len() > 1 && part.starts_with('0');
    parts.len() == 4 && parts.iter().all(is_number) && parts.iter().any(has_zero)
}

impl Network {
    /// Parses `ADDRESS/BITS`. All bits of an address are not a network for the matcher.
    pub(super) fn new(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let (address, bits) = (self::address(address)?, bits.parse().ok()?);
        let most = if address.is_ipv4() { 31 } else { 127 };
        (bits <= most).then_some(Self { address, bits })
    }

    /// Whether an address is in the network.
    pub(super) fn contains(self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros() >= self.bits,
            (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros() >= self.bits,
            _ => false,
        }
    }
}
