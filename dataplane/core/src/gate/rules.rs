//! Access rules in the form they are matched in.

use crate::ip;
use crate::link::{MAX_RULES, Rule};
use crate::network::{Network, NetworkError, mask4, mask6};
use std::fmt;
use std::net::IpAddr;
use std::ops::{BitAnd, RangeInclusive};

/// Why a rule set was refused as a whole; `at` is the rule's place, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleError {
    TooMany,
    Address {
        at: usize,
        error: NetworkError,
    },
    /// The range is empty, or narrowed for a protocol that has no ports.
    Ports {
        at: usize,
    },
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => write!(f, "more than {MAX_RULES} rules"),
            Self::Address { at, error } => write!(f, "rule {at}: {error}"),
            Self::Ports { at } => write!(f, "rule {at}: no such ports"),
        }
    }
}

impl std::error::Error for RuleError {}

/// What a rule speaks about: the end of a packet that is not the session's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Remote {
    pub address: IpAddr,
    pub protocol: u8,
    /// For protocols with ports, see [`ip::has_ports`].
    pub port: Option<u16>,
}

/// What the rules say about a remote end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub allow: bool,
    /// Place of the rule that decided, from 0; `None`: no rule matches, or none did alone.
    pub rule: Option<u16>,
}

impl Verdict {
    pub const NO_RULE: Self = Self {
        allow: false,
        rule: None,
    };
}

#[derive(Clone, Copy, Debug)]
struct Line<A> {
    /// Its place among the rules of both families.
    at: u16,
    network: A,
    mask: A,
    /// `None` is any.
    protocol: Option<u8>,
    low: u16,
    high: u16,
    allow: bool,
    reserved: bool,
}

/// How a rule and a packet of which not all is known go together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Match {
    No,
    /// Depends on what is not known.
    Perhaps,
    Yes,
}

impl<A: Copy + PartialEq + BitAnd<Output = A>> Line<A> {
    /// `reserved`: the address lies in a network that only rules made for it reach.
    #[inline]
    fn covers(&self, address: A, reserved: bool) -> bool {
        address & self.mask == self.network && (self.reserved || !reserved)
    }

    fn any_port(&self) -> bool {
        (self.low, self.high) == (0, u16::MAX)
    }

    #[inline]
    fn matches(&self, protocol: u8, port: Option<u16>) -> bool {
        self.protocol.is_none_or(|own| own == protocol)
            && match port {
                Some(port) => (self.low..=self.high).contains(&port),
                None => self.any_port(),
            }
    }

    /// The same for a packet that does not show its port, nor perhaps its protocol.
    fn matches_unseen(&self, protocol: Option<u8>) -> Match {
        match (self.protocol, protocol) {
            (Some(own), Some(protocol)) if own != protocol => Match::No,
            (_, Some(protocol)) if !ip::has_ports(protocol) && !self.any_port() => Match::No,
            (Some(_), None) => Match::Perhaps,
            _ if !self.any_port() => Match::Perhaps,
            _ => Match::Yes,
        }
    }
}

/// The rules of one session, by family, in order. The first that matches decides; none: no.
#[derive(Debug, Default)]
pub struct Rules {
    v4: Box<[Line<u32>]>,
    v6: Box<[Line<u128>]>,
}

impl Rules {
    pub fn compile(rules: &[Rule]) -> Result<Self, RuleError> {
        if rules.len() > MAX_RULES {
            return Err(RuleError::TooMany);
        }
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (at, rule) in rules.iter().enumerate() {
            let network = Network::from_bytes(&rule.address, rule.prefix)
                .map_err(|error| RuleError::Address { at, error })?;
            let ports = ports(rule).ok_or(RuleError::Ports { at })?;
            let at = u16::try_from(at).map_err(|_| RuleError::TooMany)?;
            match network.address() {
                IpAddr::V4(a) => v4.push(line(at, u32::from(a), mask4(rule.prefix), &ports, rule)),
                IpAddr::V6(a) => v6.push(line(at, u128::from(a), mask6(rule.prefix), &ports, rule)),
            }
        }
        Ok(Self {
            v4: v4.into_boxed_slice(),
            v6: v6.into_boxed_slice(),
        })
    }

    /// Rules of both families.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// The decision for one remote end; reads the rules in order.
    pub fn verdict(&self, remote: &Remote, reserved: bool) -> Verdict {
        match remote.address {
            IpAddr::V4(a) => first(&self.v4, u32::from(a), remote, reserved),
            IpAddr::V6(a) => first(&self.v6, u128::from(a), remote, reserved),
        }
    }

    /// The decision for a packet that does not show its port (`protocol` known) or neither: yes
    /// only if every port, and protocol, would get a yes.
    pub fn allow_unseen(&self, address: IpAddr, protocol: Option<u8>, reserved: bool) -> bool {
        match address {
            IpAddr::V4(a) => unanimous(&self.v4, u32::from(a), protocol, reserved),
            IpAddr::V6(a) => unanimous(&self.v6, u128::from(a), protocol, reserved),
        }
    }
}

/// The rule's ports if they make sense.
fn ports(rule: &Rule) -> Option<RangeInclusive<u16>> {
    let any = (rule.port_low, rule.port_high) == (0, u16::MAX);
    let sensible =
        rule.port_low <= rule.port_high && (any || rule.protocol.is_none_or(ip::has_ports));
    sensible.then_some(rule.port_low..=rule.port_high)
}

fn line<A>(at: u16, network: A, mask: A, ports: &RangeInclusive<u16>, rule: &Rule) -> Line<A> {
    Line {
        at,
        network,
        mask,
        protocol: rule.protocol,
        low: *ports.start(),
        high: *ports.end(),
        allow: rule.allow,
        reserved: rule.reserved,
    }
}

#[inline]
fn first<A: Copy + PartialEq + BitAnd<Output = A>>(
    lines: &[Line<A>],
    address: A,
    remote: &Remote,
    reserved: bool,
) -> Verdict {
    lines
        .iter()
        .find(|line| line.covers(address, reserved) && line.matches(remote.protocol, remote.port))
        .map_or(Verdict::NO_RULE, |line| Verdict {
            allow: line.allow,
            rule: Some(line.at),
        })
}

fn unanimous<A: Copy + PartialEq + BitAnd<Output = A>>(
    lines: &[Line<A>],
    address: A,
    protocol: Option<u8>,
    reserved: bool,
) -> bool {
    for line in lines.iter().filter(|line| line.covers(address, reserved)) {
        match (line.matches_unseen(protocol), line.allow) {
            (Match::Yes, allow) => return allow,
            (Match::Perhaps, false) => return false,
            (Match::Perhaps, true) | (Match::No, _) => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::gate::tests::{any_rules, rule};
    use proptest::prelude::*;

    fn remote(address: &str, protocol: u8, port: u16) -> Remote {
        Remote {
            address: address.parse().unwrap(),
            protocol,
            port: ip::has_ports(protocol).then_some(port),
        }
    }

    #[test]
    fn the_first_match_decides() {
        let rules = Rules::compile(&[
            rule("deny 10.0.0.13/32"),
            rule("allow 10.0.0.0/24 6 80-443"),
            rule("allow 10.0.1.0/24 1"),
            rule("allow fd00::/8 17 53"),
            rule("allow 192.168.0.0/16 reserved"),
        ])
        .unwrap();
        for (address, protocol, port, reserved, expected) in [
            ("10.0.0.12", 6, 80, false, true),
            ("10.0.0.12", 6, 443, false, true),
            ("10.0.0.12", 6, 444, false, false),
            ("10.0.0.12", 17, 80, false, false),
            ("10.0.0.12", 1, 0, false, false),
            ("10.0.0.13", 6, 80, false, false),
            ("10.0.1.13", 1, 0, false, true),
            ("10.0.2.1", 6, 80, false, false),
            ("fd00::1", 17, 53, false, true),
            ("fd00::1", 6, 53, false, false),
            ("10.0.0.12", 6, 80, true, false),
            ("192.168.1.1", 6, 80, true, true),
            ("192.168.1.1", 6, 80, false, true),
        ] {
            let decision = rules
                .verdict(&remote(address, protocol, port), reserved)
                .allow;
            assert_eq!(
                decision, expected,
                "{address} {protocol} {port} reserved: {reserved}"
            );
        }
        assert!(
            !Rules::default()
                .verdict(&remote("10.0.0.1", 6, 80), false)
                .allow,
            "no rules, no access"
        );
    }

    #[test]
    fn what_cannot_be_a_rule() {
        let good = rule("allow 10.0.0.0/8 6 80");
        let compile = |rule: Rule| Rules::compile(&[good.clone(), rule]).map(|_| ());
        assert_eq!(compile(good.clone()), Ok(()));
        assert_eq!(
            compile(Rule {
                address: vec![1, 2, 3],
                ..good.clone()
            }),
            Err(RuleError::Address {
                at: 1,
                error: NetworkError::Address
            })
        );
        assert_eq!(
            compile(Rule {
                prefix: 33,
                ..good.clone()
            }),
            Err(RuleError::Address {
                at: 1,
                error: NetworkError::Prefix
            })
        );
        assert_eq!(
            compile(Rule {
                prefix: 4,
                ..good.clone()
            }),
            Err(RuleError::Address {
                at: 1,
                error: NetworkError::HostBits
            })
        );
        assert_eq!(
            compile(Rule {
                port_low: 81,
                ..good.clone()
            }),
            Err(RuleError::Ports { at: 1 })
        );
        assert_eq!(
            compile(Rule {
                protocol: Some(1),
                ..good.clone()
            }),
            Err(RuleError::Ports { at: 1 })
        );
        assert_eq!(
            compile(Rule {
                protocol: None,
                ..good.clone()
            }),
            Ok(())
        );
        assert_eq!(
            Rules::compile(&vec![good; MAX_RULES + 1]).map(|_| ()),
            Err(RuleError::TooMany)
        );
    }

    proptest! {
        #[test]
        fn unseen_means_whatever_it_turns_out_to_be(rules in any_rules(), last: u8, reserved: bool) {
            let rules = Rules::compile(&rules).unwrap();
            let address = IpAddr::from([10, 0, 0, last]);
            let ports = || (0..=u16::MAX).filter(|p| p % 97 == 0 || *p < 200);
            let every = |protocol: u8| if ip::has_ports(protocol) {
                ports().all(|port| rules.verdict(&Remote { address, protocol, port: Some(port) }, reserved).allow)
            } else {
                rules.verdict(&Remote { address, protocol, port: None }, reserved).allow
            };
            for protocol in [1, 6, 17, 50] {
                // It may say no to what every port would be allowed, never the other way round.
                prop_assert!(!rules.allow_unseen(address, Some(protocol), reserved) || every(protocol));
            }
            prop_assert!(!rules.allow_unseen(address, None, reserved) || [1, 6, 17, 50, 132].into_iter().all(every));
            prop_assert_eq!(rules.allow_unseen(address, Some(1), reserved), every(1));
        }
    }
}
