//! Address ranges in prefix notation.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An address range: the first address and how many leading bits are fixed.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

/// Why an address range was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkError {
    /// Neither an IPv4 nor an IPv6 address.
    Address,
    /// More prefix bits than the address has, or no number.
    Prefix,
    /// Bits beyond the prefix are set: the range does not start at this address.
    HostBits,
}

impl fmt::Display for NetworkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Address => "not an IPv4 or IPv6 address",
            Self::Prefix => "prefix length is not 0 to 32 (IPv4) or 0 to 128 (IPv6)",
            Self::HostBits => "the address has bits set beyond the prefix",
        })
    }
}

impl std::error::Error for NetworkError {}

/// The leading `prefix` bits of an IPv4 address; `prefix` is at most 32.
pub(crate) fn mask4(prefix: u8) -> u32 {
    u32::MAX
        .checked_shl(32 - u32::from(prefix.min(32)))
        .unwrap_or(0)
}

/// The leading `prefix` bits of an IPv6 address; `prefix` is at most 128.
pub(crate) fn mask6(prefix: u8) -> u128 {
    u128::MAX
        .checked_shl(128 - u32::from(prefix.min(128)))
        .unwrap_or(0)
}

impl Network {
    pub fn new(address: IpAddr, prefix: u8) -> Result<Self, NetworkError> {
        let (bits, host) = match address {
            IpAddr::V4(a) => (32, u32::from(a) & !mask4(prefix) != 0),
            IpAddr::V6(a) => (128, u128::from(a) & !mask6(prefix) != 0),
        };
        if prefix > bits {
            return Err(NetworkError::Prefix);
        }
        if host {
            return Err(NetworkError::HostBits);
        }
        Ok(Self { address, prefix })
    }

    /// The range that holds this address alone.
    pub fn host(address: IpAddr) -> Self {
        let prefix = if address.is_ipv4() { 32 } else { 128 };
        Self { address, prefix }
    }

    /// From 4 or 16 address bytes, as the edge link carries them.
    pub fn from_bytes(address: &[u8], prefix: u8) -> Result<Self, NetworkError> {
        let address = if let Ok(four) = <[u8; 4]>::try_from(address) {
            IpAddr::V4(Ipv4Addr::from(four))
        } else if let Ok(sixteen) = <[u8; 16]>::try_from(address) {
            IpAddr::V6(Ipv6Addr::from(sixteen))
        } else {
            return Err(NetworkError::Address);
        };
        Self::new(address, prefix)
    }

    pub fn address(&self) -> IpAddr {
        self.address
    }

    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// An address of the other family is never inside.
    #[inline]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (u32::from(own) ^ u32::from(other)) & mask4(self.prefix) == 0
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (u128::from(own) ^ u128::from(other)) & mask6(self.prefix) == 0
            }
            _ => false,
        }
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    /// `10.0.0.0/8`, `2001:db8::/32`; without a prefix length the one address.
    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (
                address,
                Some(prefix.parse().map_err(|_| NetworkError::Prefix)?),
            ),
            None => (text, None),
        };
        let address = address.parse().map_err(|_| NetworkError::Address)?;
        prefix.map_or_else(
            || Ok(Self::host(address)),
            |prefix| Self::new(address, prefix),
        )
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    #[test]
    fn holds_exactly_its_addresses() {
        let rows = [
            ("10.0.0.0/8", "10.255.255.255", true),
            ("10.0.0.0/8", "11.0.0.0", false),
            ("0.0.0.0/0", "255.255.255.255", true),
            ("0.0.0.0/0", "::", false),
            ("::/0", "ffff::", true),
            ("::/0", "1.2.3.4", false),
            ("192.0.2.7/32", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false),
            ("2001:db8::/33", "2001:db8:7fff::1", true),
            ("2001:db8::/33", "2001:db8:8000::1", false),
            ("2001:db8::1/128", "2001:db8::1", true),
        ];
        for (range, address, inside) in rows {
            assert_eq!(
                network(range).contains(address.parse().unwrap()),
                inside,
                "{address} in {range}"
            );
        }
    }

    #[test]
    fn refuses_what_is_no_range() {
        for (text, error) in [
            ("10.0.0.0/33", NetworkError::Prefix),
            ("::/129", NetworkError::Prefix),
            ("10.0.0.0/x", NetworkError::Prefix),
            ("10.0.0/8", NetworkError::Address),
            ("10.0.0.1/8", NetworkError::HostBits),
            ("::1/64", NetworkError::HostBits),
        ] {
            assert_eq!(text.parse::<Network>(), Err(error), "{text}");
        }
        assert_eq!(
            Network::from_bytes(&[1, 2, 3], 8),
            Err(NetworkError::Address)
        );
        assert_eq!(
            Network::from_bytes(&[10, 0, 0, 0], 8),
            Ok(network("10.0.0.0/8"))
        );
        assert_eq!(network("10.0.0.0/8").to_string(), "10.0.0.0/8");
    }
}
