//! What a session may send and receive, decided for every packet.
//!
//! A [`Gate`] belongs to one session. It checks in this order: the headers make sense; the
//! session's own end is its assigned address; the remote end is an address that can be routed to;
//! the session's rules allow the remote end. [`rules`] decides, [`flow`] remembers decisions,
//! [`fragments`] carries the verdict on a first fragment over to the others, [`ledger`] counts what
//! was judged for the flow audit. Rules name the remote address, protocol and remote port, whichever
//! side sends, so one rule covers a conversation.

mod flow;
mod fragments;
mod ledger;
mod rules;
#[cfg(test)]
pub(crate) mod tests;

pub use ledger::{Count, FlowRecord, Room};
pub use rules::{Remote, RuleError, Verdict};

use crate::bytes::{field, field16};
use crate::discard::Discard;
use crate::ip::{self, Fragment, Header};
use crate::link::{FlowAudit, FlowCause, Rule};
use crate::network::Network;
use flow::FlowCache;
use fragments::{Datagram, Fragments};
use ledger::Ledger;
use rules::Rules;
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

/// What the rules say about a packet, or about the first fragment of its datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Judged {
    remote: Remote,
    verdict: Verdict,
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
    ledger: Ledger,
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
            ledger: Ledger::default(),
        })
    }

    /// Replaces the rules; every decision made under the old ones is forgotten. Rules that are
    /// refused leave the session without any: nothing passes until good ones come.
    ///
    /// `rule_set`: what records of flows call these rules by.
    pub fn set_rules(
        &mut self,
        revision: u64,
        rule_set: u32,
        rules: &[Rule],
    ) -> Result<(), RuleError> {
        self.flows.clear();
        self.fragments.clear();
        self.ledger.set_rules(rule_set);
        self.revision = revision;
        self.rules = Rules::default();
        self.rules = Rules::compile(rules)?;
        Ok(())
    }

    /// Which flows are recorded from now on. `room`: places for flows of all sessions.
    pub fn record_flows(&mut self, wanted: FlowAudit, room: &Room) {
        self.ledger.want(wanted, room);
    }

    /// What records of flows call the rules by that the gate was made with.
    pub fn name_rules(&mut self, rule_set: u32) {
        self.ledger.set_rules(rule_set);
    }

    /// The packet that passed last stood for several: so many more, with so many more bytes.
    #[inline]
    pub fn inbound_more(&mut self, packets: u64, bytes: u64) {
        self.ledger.note_more(false, packets, bytes);
    }

    /// Makes the records that are due.
    pub fn sweep_flows(&mut self, now_ms: u64) {
        self.ledger.sweep(now_ms);
    }

    /// Makes the records of all flows: the session is over.
    pub fn end_flows(&mut self) {
        self.ledger.end(FlowCause::Session);
    }

    /// When records are due, unless packets come before.
    pub fn next_sweep(&self) -> Option<u64> {
        self.ledger.next_sweep()
    }

    #[inline]
    pub fn has_flow_records(&self) -> bool {
        self.ledger.has_records()
    }

    pub fn take_flow_records(&mut self) -> impl Iterator<Item = FlowRecord> + '_ {
        self.ledger.take_records()
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
        let judged = match header.fragment {
            Fragment::Whole => self.content(packet, &header, way)?,
            Fragment::First { id } => {
                // Too short for its ports: nothing else would ever show them.
                let judged = self
                    .content(packet, &header, way)
                    .map_err(|reason| match reason {
                        Discard::TooShort => Discard::BadFragment,
                        other => other,
                    });
                self.fragments.note(datagram(id), judged.ok(), now_ms);
                judged?
            }
            Fragment::Later { id } => match self.fragments.first_of(&datagram(id), now_ms) {
                Some(first) => first.ok_or(Discard::Denied)?,
                None => self.unseen(remote, remote.is_ipv4().then_some(header.protocol))?,
            },
        };
        let Judged { remote, verdict } = judged;
        self.ledger
            .note(&remote, verdict, way == Way::Outbound, header.total, now_ms);
        if verdict.allow {
            Ok(header.total)
        } else {
            Err(Discard::Denied)
        }
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
    fn content(&mut self, packet: &[u8], header: &Header, way: Way) -> Result<Judged, Discard> {
        if is_icmp_error(packet, header)? {
            return self.quoted(packet, header, way);
        }
        let (_, address) = way.ends(header);
        Ok(self.remote(Remote {
            address,
            protocol: header.protocol,
            port: remote_port(packet, header, way)?,
        }))
    }

    /// Judges an ICMP error by the packet it quotes, which went the other way: any router may
    /// report about a conversation of this session that the rules allow. Sent by the client, it
    /// must go to the sender of that packet.
    fn quoted(&mut self, packet: &[u8], error: &Header, way: Way) -> Result<Judged, Discard> {
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
        Ok(self.remote(Remote {
            address,
            protocol: header.protocol,
            port,
        }))
    }

    /// Asks the rules about a remote end, or remembers their answer.
    #[inline]
    fn remote(&mut self, remote: Remote) -> Judged {
        let Self {
            rules,
            reserved,
            flows,
            revision,
            ..
        } = self;
        let verdict = flows.decision(&remote, *revision, rules.len(), || {
            let reserved = reserved
                .iter()
                .any(|network| network.contains(remote.address));
            rules.verdict(&remote, reserved)
        });
        Judged { remote, verdict }
    }

    /// Asks the rules about a packet that shows neither port nor, perhaps, protocol.
    fn unseen(&self, address: IpAddr, protocol: Option<u8>) -> Result<Judged, Discard> {
        let allow = self
            .rules
            .allow_unseen(address, protocol, self.is_reserved(address));
        let remote = Remote {
            address,
            protocol: protocol.unwrap_or(ip::FRAGMENT),
            port: None,
        };
        let verdict = Verdict { allow, rule: None };
        allow
            .then_some(Judged { remote, verdict })
            .ok_or(Discard::BadFragment)
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
