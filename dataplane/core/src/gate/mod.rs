//! What a session may send and receive, decided for every packet.
//!
//! A [`Gate`] belongs to one session. It checks in this order: the headers make sense; the
//! session's own end is its assigned address; the remote end is an address that can be routed to;
//! the session's rules allow the remote end. [`rules`] decides, [`flow`] remembers decisions,
//! [`fragments`] carries the verdict on a first fragment over to the others. Rules name the remote
//! address, protocol and remote port, whichever side sends, so one rule covers a conversation.

mod flow;
mod fragments;
mod rules;
#[cfg(test)]
pub(crate) mod tests;

pub use rules::RuleError;

use crate::bytes::{field, field16};
use crate::discard::Discard;
use crate::ip::{self, Fragment, Header};
use crate::link::Rule;
use crate::network::Network;
use flow::FlowCache;
use fragments::{Datagram, Fragments};
use rules::{Remote, Rules};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Bytes of an ICMP header in front of the packet that an error quotes.
const ICMP_HEADER: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Client to network: the session is the source.
    Outbound,
    /// Network to client: the session is the destination.
    Inbound,
}

impl Way {
    fn back(self) -> Self {
        match self {
            Self::Outbound => Self::Inbound,
            Self::Inbound => Self::Outbound,
        }
    }

    /// The session's own address and the other end's.
    fn ends(self, header: &Header) -> (IpAddr, IpAddr) {
        match self {
            Self::Outbound => (header.source, header.destination),
            Self::Inbound => (header.destination, header.source),
        }
    }

    /// Where in the transport header the remote port lies.
    fn remote_port(self) -> usize {
        match self {
            Self::Outbound => 2,
            Self::Inbound => 0,
        }
    }
}

/// The gate of one session.
#[derive(Debug)]
pub struct Gate {
    address4: Option<Ipv4Addr>,
    address6: Option<Ipv6Addr>,
    /// Networks that only rules made for them reach: session pools, the gateway's own addresses.
    reserved: Arc<[Network]>,
    revision: u64,
    rules: Rules,
    flows: FlowCache,
    fragments: Fragments,
}

impl Gate {
    pub fn new(
        address4: Option<Ipv4Addr>,
        address6: Option<Ipv6Addr>,
        reserved: Arc<[Network]>,
        revision: u64,
        rules: &[Rule],
    ) -> Result<Self, RuleError> {
        let rules = Rules::compile(rules)?;
        let (flows, fragments) = (FlowCache::default(), Fragments::default());
        Ok(Self {
            address4,
            address6,
            reserved,
            revision,
            rules,
            flows,
            fragments,
        })
    }

    /// Replaces the rules; every decision made under the old ones is forgotten. Rules that are
    /// refused leave the session without any: nothing passes until good ones come.
    pub fn set_rules(&mut self, revision: u64, rules: &[Rule]) -> Result<(), RuleError> {
        self.flows.clear();
        self.fragments.clear();
        self.revision = revision;
        self.rules = Rules::default();
        self.rules = Rules::compile(rules)?;
        Ok(())
    }

    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Judges a packet from the client to the network. Returns its length by its own header: what
    /// is behind must not go on.
    pub fn outbound(&mut self, packet: &[u8], now_ms: u64) -> Result<usize, Discard> {
        self.judge(packet, Way::Outbound, now_ms)
    }

    /// The same for a packet from the network to the client.
    pub fn inbound(&mut self, packet: &[u8], now_ms: u64) -> Result<usize, Discard> {
        self.judge(packet, Way::Inbound, now_ms)
    }

    fn judge(&mut self, packet: &[u8], way: Way, now_ms: u64) -> Result<usize, Discard> {
        let header = ip::parse(packet)?;
        let packet = packet.get(..header.total).ok_or(Discard::BadLength)?;
        let (own, remote) = way.ends(&header);
        if !self.owns(own) {
            return Err(match way {
                Way::Outbound => Discard::SpoofedSource,
                Way::Inbound => Discard::WrongDestination,
            });
        }
        if remote == own || !ip::is_routable(remote) {
            return Err(Discard::Martian);
        }
        let datagram = |id| Datagram {
            outbound: way == Way::Outbound,
            remote,
            protocol: remote.is_ipv4().then_some(header.protocol),
            id,
        };
        match header.fragment {
            Fragment::Whole => self.content(packet, &header, way)?,
            Fragment::First { id } => {
                // Too short for its ports: nothing else would ever show them.
                let verdict = self
                    .content(packet, &header, way)
                    .map_err(|reason| match reason {
                        Discard::TooShort => Discard::BadFragment,
                        other => other,
                    });
                self.fragments.note(datagram(id), verdict.is_ok(), now_ms);
                verdict?;
            }
            Fragment::Later { id } => match self.fragments.verdict(&datagram(id), now_ms) {
                Some(true) => {}
                Some(false) => return Err(Discard::Denied),
                None => self.unseen(remote, remote.is_ipv4().then_some(header.protocol))?,
            },
        }
        Ok(header.total)
    }

    fn owns(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.address4 == Some(address),
            IpAddr::V6(address) => self.address6 == Some(address),
        }
    }

    fn is_reserved(&self, address: IpAddr) -> bool {
        self.reserved
            .iter()
            .any(|network| network.contains(address))
    }

    /// Judges a packet that shows the start of its payload.
    fn content(&mut self, packet: &[u8], header: &Header, way: Way) -> Result<(), Discard> {
        if is_icmp_error(packet, header)? {
            return self.quoted(packet, header, way);
        }
        let (_, address) = way.ends(header);
        self.remote(Remote {
            address,
            protocol: header.protocol,
            port: remote_port(packet, header, way)?,
        })
    }

    /// Judges an ICMP error by the packet it quotes, which went the other way: any router may
    /// report about a conversation of this session that the rules allow. Sent by the client, it
    /// must go to the sender of that packet.
    fn quoted(&mut self, packet: &[u8], error: &Header, way: Way) -> Result<(), Discard> {
        let quote = packet
            .get(error.payload + ICMP_HEADER..)
            .ok_or(Discard::TooShort)?;
        let header = ip::parse_quoted(quote).map_err(|_| Discard::BadQuote)?;
        let (own, address) = way.back().ends(&header);
        let answered = way == Way::Inbound || error.destination == address;
        let same_family = address.is_ipv4() == error.source.is_ipv4();
        if !self.owns(own) || !same_family || !answered || !ip::is_routable(address) {
            return Err(Discard::BadQuote);
        }
        if let Fragment::Later { .. } = header.fragment {
            return self.unseen(address, address.is_ipv4().then_some(header.protocol));
        }
        // An error about an error does not exist (RFC 1122 section 3.2.2).
        if is_icmp_error(quote, &header).map_err(|_| Discard::BadQuote)? {
            return Err(Discard::BadQuote);
        }
        let port = remote_port(quote, &header, way.back()).map_err(|_| Discard::BadQuote)?;
        self.remote(Remote {
            address,
            protocol: header.protocol,
            port,
        })
    }

    /// Asks the rules about a remote end, or remembers their answer.
    #[inline]
    fn remote(&mut self, remote: Remote) -> Result<(), Discard> {
        let Self {
            rules,
            reserved,
            flows,
            revision,
            ..
        } = self;
        let allowed = flows.decision(&remote, *revision, rules.len(), || {
            let reserved = reserved
                .iter()
                .any(|network| network.contains(remote.address));
            rules.allow(&remote, reserved)
        });
        if allowed {
            Ok(())
        } else {
            Err(Discard::Denied)
        }
    }

    /// Asks the rules about a packet that shows neither port nor, perhaps, protocol.
    fn unseen(&self, address: IpAddr, protocol: Option<u8>) -> Result<(), Discard> {
        let allowed = self
            .rules
            .allow_unseen(address, protocol, self.is_reserved(address));
        if allowed {
            Ok(())
        } else {
            Err(Discard::BadFragment)
        }
    }
}

/// Destination unreachable, time exceeded, parameter problem, and packet too big of IPv6
/// (RFC 792, RFC 4443 section 3).
fn is_icmp_error(packet: &[u8], header: &Header) -> Result<bool, Discard> {
    let errors: &[u8] = match (header.source, header.protocol) {
        (IpAddr::V4(_), ip::ICMP) => &[3, 11, 12],
        (IpAddr::V6(_), ip::ICMPV6) => &[1, 2, 3, 4],
        _ => return Ok(false),
    };
    let [kind] = field(packet, header.payload)?;
    Ok(errors.contains(&kind))
}

/// The remote end's port, for protocols that have ports.
fn remote_port(packet: &[u8], header: &Header, way: Way) -> Result<Option<u16>, Discard> {
    if !ip::has_ports(header.protocol) {
        return Ok(None);
    }
    field::<4>(packet, header.payload)?; // both ports or none
    field16(packet, header.payload + way.remote_port()).map(Some)
}
