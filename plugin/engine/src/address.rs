//! Client addresses: reading them as proxies print them, prefixes as identities, and CIDR ranges.
//! Which of a request's addresses counts is `identity`'s.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use core::str::FromStr;

/// Reads an address as a proxy prints it: `1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]:80`. An IPv4-mapped IPv6 address is
/// the IPv4 address. Leading zeros (`010.0.0.1`), zone ids, spaces within and everything else is `None`.
pub fn parse_address(text: &[u8]) -> Option<IpAddr> {
    let text = core::str::from_utf8(text).ok()?.trim_matches([' ', '\t']);
    let bare = match text.strip_prefix('[') {
        Some(rest) => {
            let (inside, after) = rest.split_once(']')?;
            if !after.is_empty() && !is_port(after.strip_prefix(':')?) {
                return None;
            }
            return Ipv6Addr::from_str(inside).ok().map(|address| unmapped(IpAddr::V6(address)));
        }
        None => match text.rsplit_once(':') {
            Some((host, port)) if !host.bytes().any(|byte| byte == b':') => {
                if !is_port(port) {
                    return None;
                }
                host
            }
            _ => text,
        },
    };
    IpAddr::from_str(bare).ok().map(unmapped)
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// `::ffff:1.2.3.4` as `1.2.3.4`; any other address as it is.
pub fn unmapped(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

/// A range of addresses: an address and how many of its leading bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

impl Cidr {
    /// The range of the addresses that share `address`'s first `prefix` bits. A prefix longer than the address counts
    /// as the whole address. IPv4-mapped addresses must be unmapped before.
    pub fn new(address: IpAddr, prefix: u8) -> Self {
        match address {
            IpAddr::V4(v4) => {
                let prefix = prefix.min(32);
                let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix.into())).unwrap_or(0);
                Self { network: IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask)), prefix }
            }
            IpAddr::V6(v6) => {
                let prefix = prefix.min(128);
                let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix.into())).unwrap_or(0);
                Self { network: IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask)), prefix }
            }
        }
    }

    /// Reads `192.168.1.0/24`, `2001:db8::/32`, or a single address. A range of IPv4-mapped addresses is the range of
    /// the IPv4 addresses.
    ///
    /// # Errors
    /// Says what is wrong: not an address, a prefix that is too long, or bits set beyond the prefix.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let parsed = IpAddr::from_str(address).map_err(|_| "not an IPv4 or IPv6 address".to_owned())?;
        let longest: u8 = if parsed.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => longest,
            Some(digits) => digits
                .parse::<u8>()
                .ok()
                .filter(|bits| *bits <= longest && digits.bytes().all(|byte| byte.is_ascii_digit()))
                .ok_or_else(|| format!("the prefix must be 0 to {longest}"))?,
        };
        let address = unmapped(parsed);
        let range = if address.is_ipv4() && parsed.is_ipv6() {
            let Some(bits) = prefix.checked_sub(96) else {
                return Err("an IPv4-mapped range needs a prefix of 96 or more".to_owned());
            };
            Self::new(address, bits)
        } else {
            Self::new(address, prefix)
        };
        if range.network != address {
            return Err(format!("bits are set beyond the prefix; the range is written {range}"));
        }
        Ok(range)
    }

    /// How many leading bits count.
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether it is a range of IPv4 addresses.
    pub fn is_ipv4(&self) -> bool {
        self.network.is_ipv4()
    }

    /// Whether `address` lies in the range. IPv4-mapped addresses must be unmapped before.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.network.is_ipv4() == address.is_ipv4() && Self::new(address, self.prefix) == *self
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = if self.network.is_ipv4() { 32 } else { 128 };
        if self.prefix == longest {
            return write!(out, "{}", self.network);
        }
        write!(out, "{}/{}", self.network, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_proxies_print() {
        for (text, expected) in [
            ("1.2.3.4", "1.2.3.4"),
            ("1.2.3.4:80", "1.2.3.4"),
            (" 1.2.3.4 ", "1.2.3.4"),
            ("[::1]:33296", "::1"),
            ("[::1]", "::1"),
            ("::1", "::1"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
            ("::ffff:102:304", "1.2.3.4"),
            ("[::ffff:102:304]:9", "1.2.3.4"),
        ] {
            assert_eq!(parse_address(text.as_bytes()), Some(expected.parse().unwrap()), "{text}");
        }
        for text in [
            "",
            "x",
            "010.0.0.1",
            "1.2.3",
            "1.2.3.4:",
            "1.2.3.4:x",
            "1.2.3.4:99999",
            "1.2.3.4:+8",
            "[::1",
            "[::1]x",
            "fe80::1%eth0",
        ] {
            assert_eq!(parse_address(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_address(&[0xff, 0xfe]), None);
    }

    #[test]
    fn ranges_hold_what_they_say() {
        let range = Cidr::parse("192.168.1.0/24").unwrap();
        assert!(range.contains("192.168.1.255".parse().unwrap()));
        assert!(!range.contains("192.168.2.0".parse().unwrap()));
        assert!(!range.contains("::1".parse().unwrap()));
        assert!(Cidr::parse("0.0.0.0/0").unwrap().contains("255.1.2.3".parse().unwrap()));
        assert!(Cidr::parse("::ffff:10.0.0.0/104").unwrap().contains("10.9.9.9".parse().unwrap()));
        assert!(Cidr::parse("2001:db8::/32").unwrap().contains("2001:db8:ffff::1".parse().unwrap()));
    }

    #[test]
    fn mistakes_say_what_is_wrong() {
        assert!(Cidr::parse("192.168.1.1/24").unwrap_err().contains("192.168.1.0/24"));
        assert!(Cidr::parse("1.2.3.4/33").unwrap_err().contains("0 to 32"));
        assert!(Cidr::parse("1.2.3.4/+8").unwrap_err().contains("0 to 32"));
        assert!(Cidr::parse("cheese").unwrap_err().contains("not an IPv4"));
    }
}
